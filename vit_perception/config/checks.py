"""Checks of settings. Errors name the parameter, its value, and what is accepted."""

import os
import re

from vit_perception.files.errors import InvalidValue, printable, shown

# Names become topic segments, so they follow the rule for ROS names: a letter, then letters,
# digits, "_".
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class BadSetting(InvalidValue):
    """A setting cannot be used; the message names the parameter, its value, what is accepted."""

    def __init__(self, name: str, value: object, accepted: str):
        super().__init__(
            f"parameter '{printable(name, 200)}' is {shown(value)}; accepted: {accepted}"
        )
        self.name = name


def home_path(path: str) -> str:
    """Return ``path`` with a leading ``~`` or ``~user`` replaced by that user's home folder.

    Raises:
        InvalidValue: there is no such user. A file of that name is ``./~user``.
    """
    expanded, accepted = _expanded(path)
    if accepted:
        user = printable(path.split("/")[0], 200)
        raise InvalidValue(
            f"{shown(path)} is in the home folder of {user}, which is not known here; "
            f"accepted: {accepted}"
        )
    return expanded


def expand_path(settings: object, field: str, parameter: str) -> None:
    """Expand the path in ``field`` of ``settings``, a frozen dataclass that is being made.

    A field may also hold a tuple of paths.

    Raises:
        BadSetting: the path is in the home folder of an unknown user.
    """
    value = getattr(settings, field)
    paths = []
    for path in value if isinstance(value, tuple) else (value,):
        expanded, accepted = _expanded(path)
        if accepted:
            raise BadSetting(parameter, path, accepted)
        paths.append(expanded)
    object.__setattr__(settings, field, tuple(paths) if isinstance(value, tuple) else paths[0])


def _expanded(path: str) -> tuple[str, str]:
    """Return the expanded path, and what is accepted instead if its user is unknown, else ""."""
    expanded = os.path.expanduser(path)
    if not expanded.startswith("~"):
        return expanded, ""
    user = printable(expanded.split("/")[0], 200)
    return expanded, f"a path, with ~ or ~user, or ./{user} for a file of that name"


def check_name(parameter: str, name: str) -> None:
    """Raise BadSetting if a source's ``name`` cannot be a segment of a topic."""
    if not _NAME.match(name):
        raise BadSetting(parameter, name, "a letter followed by letters, digits or underscores")


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise BadSetting if ``value`` is none of ``accepted``."""
    if value not in accepted:
        raise BadSetting(name, value, "one of " + ", ".join(accepted))


def within(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise BadSetting if ``value`` (in ``unit``) is not between ``low`` and ``high``."""
    # NaN fails both comparisons, so it is refused too.
    if not low <= value <= high:
        raise BadSetting(name, value, f"{low:g} to {high:g}{' ' + unit if unit else ''}")


def check_labels(name: str, labels: tuple[str, ...]) -> None:
    """Raise BadSetting if a label is empty or there twice."""
    if any(not label.strip() for label in labels) or len(set(labels)) != len(labels):
        raise BadSetting(
            name, list(labels), "names that differ from each other, none of them empty"
        )
