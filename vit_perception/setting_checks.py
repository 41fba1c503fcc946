"""How settings check themselves: every error names the parameter as the user wrote it, its value, what is accepted."""

import re

from vit_perception.errors import InvalidValue, shown

# Names become topic segments, so they follow the rule for ROS names: a letter, then letters, digits, "_".
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class BadSetting(InvalidValue):
    """A setting that cannot be used; the message names the parameter, its value and what is accepted."""

    def __init__(self, name: str, value: object, accepted: str):
        super().__init__(f"parameter '{name}' is {shown(value)}; accepted: {accepted}")
        self.name = name


def check_name(parameter: str, name: str) -> None:
    """Raise BadSetting where a camera's or arm's ``name`` cannot be a segment of a topic."""
    if not _NAME.match(name):
        raise BadSetting(parameter, name, "a letter followed by letters, digits or underscores")


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise BadSetting where ``value`` is none of ``accepted``."""
    if value not in accepted:
        raise BadSetting(name, value, "one of " + ", ".join(accepted))


def within(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise BadSetting where ``value`` (in ``unit``) does not lie between ``low`` and ``high``."""
    # NaN fails both comparisons, so it is refused too.
    if not low <= value <= high:
        raise BadSetting(name, value, f"{low:g} to {high:g}{' ' + unit if unit else ''}")


def check_labels(name: str, labels: tuple[str, ...]) -> None:
    """Raise BadSetting where a label is empty or there twice."""
    if any(not label.strip() for label in labels) or len(set(labels)) != len(labels):
        raise BadSetting(name, list(labels), "names that differ from each other, none of them empty")
