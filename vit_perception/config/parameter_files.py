"""ROS 2 parameter files read without ROS: the values that rclpy gives to a node of a certain name.

rcl reads YAML in a way of its own: numbers as C does (``010`` is 8), ``y`` and ``on`` as true,
dates and ``null`` as texts, no aliases. Sections apply in the order in which the file first names
them, also ``/**``: a later one wins.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vit_perception.files.errors import InvalidValue
from vit_perception.files.yaml_files import yaml_events

PARAMETERS_KEY = "ros__parameters"
DEFAULT_NODE = "/vit_encoder"
ACCEPTED = "a parameter file of the node, as config/demo.yaml"
# A list holds values of one type; None is an empty list.
Value = bool | int | float | str | list[Any] | None

_SECTION = re.compile(r"/?(\*\*?|[A-Za-z_]\w*)(/(\*\*?|[A-Za-z_]\w*))*", re.ASCII)
_TRUE = frozenset(("Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
_FALSE = frozenset(("N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
_STR = "tag:yaml.org,2002:str"
# What strtol and strtod read to the end.
_INTEGER = re.compile(
    r"\s*[+-]?(0[xX](?P<hex>[0-9a-fA-F]+)|0(?P<octal>[0-7]+)|0|[1-9][0-9]*)", re.ASCII
)
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_HEXADECIMAL = re.compile(
    r"\s*[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?[0-9]+)?", re.ASCII
)
_NO_NUMBER = re.compile(r"\s*[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_DOTTED = re.compile(r"\.(nan|NaN|NAN)|[+-]?\.(inf|Inf|INF)")
# If one section gives a name values of several types, rclpy takes the first type of these.
_PRECEDENCE = (
    "bool",
    "int",
    "float",
    "str",
    "list of bool",
    "list of int",
    "list of float",
    "list of str",
    "empty list",
)
_SHOWN = 80  # characters of a name or value in an error
LONGEST_NAME = 1000  # characters, with the groups that it is in


class ParameterFile:
    """The sections of one file, each the parameters of the nodes that its name matches.

    Raises:
        InvalidValue: it is not a parameter file; the message names the file and usually the line.
    """

    def __init__(self, path: Path):
        self.path = path
        # By section, name and type.
        self._sections: dict[str, dict[str, dict[str, Value]]] = {}
        self._events = yaml_events(path)
        for event in self._events:
            if isinstance(event, yaml.MappingStartEvent):
                self._read_nodes("")
            elif isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.AliasEvent)):
                raise self._wrong(event, "the file is no mapping of node names")
        if not self._sections:
            raise InvalidValue(
                f"{path} is no parameter file: it holds no {PARAMETERS_KEY}; accepted: {ACCEPTED}"
            )

    def sections_for(self, node: str) -> Iterator[tuple[str, dict[str, Value]]]:
        """Yield name and values of each section for the node of the full name ``node``."""
        for section, given in self._sections.items():
            if _pattern(section).fullmatch(node):
                chosen = {
                    name: values[min(values, key=_PRECEDENCE.index)]
                    for name, values in given.items()
                }
                yield section, chosen

    def values_for(self, node: str) -> dict[str, Value]:
        """Return the values for the node of the full name ``node``, by their dotted names."""
        return {
            name: value for _, given in self.sections_for(node) for name, value in given.items()
        }

    def node(self) -> str:
        """Return the full name of the encoder that the file is for, as far as the file says it.

        It is /vit_encoder, unless the file names one node vit_encoder in another namespace, or
        gives cameras to one node of another name.

        Raises:
            InvalidValue: it could be one of several.
        """
        named = list(
            dict.fromkeys(_absolute(section) for section in self._sections if "*" not in section)
        )
        if DEFAULT_NODE in named:
            return DEFAULT_NODE
        found = [name for name in named if name.endswith(DEFAULT_NODE)]
        if not found and "camera_names" not in self.values_for(DEFAULT_NODE):
            found = [name for name in named if "camera_names" in self.values_for(name)]
        if len(found) > 1:
            raise InvalidValue(
                f" is not given, and {self.path} has parameters of {', '.join(found[:4])}; "
                "accepted: one of them",
                argument="node",
            )
        return found[0] if found else DEFAULT_NODE

    @property
    def names(self) -> list[str]:
        """The names of nodes that the file has parameters of; they may hold ``*``."""
        return [_absolute(section) for section in self._sections]

    @property
    def is_of_one(self) -> bool:
        """Whether the file has only one section."""
        return len(self._sections) == 1

    def _next(self) -> yaml.Event:
        event = next(self._events)
        if isinstance(event, yaml.AliasEvent):
            raise self._wrong(
                event, f"an alias (*{event.anchor:.{_SHOWN}}), which ROS does not read"
            )
        return event

    def _keys(self) -> Iterator[yaml.ScalarEvent]:
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or not 0 < len(key.value) <= LONGEST_NAME:
                raise self._wrong(
                    key, f"a name that is no text, empty, or longer than {LONGEST_NAME} characters"
                )
            yield key

    def _read_nodes(self, above: str) -> None:
        for key in self._keys():
            value = self._next()
            if not isinstance(value, yaml.MappingStartEvent):
                raise self._wrong(value, f"{key.value[:_SHOWN]!r} holds no mapping")
            if not key.value.startswith(PARAMETERS_KEY):
                self._read_nodes(
                    key.value if not above else f"{above.removesuffix('/')}/{key.value}"
                )
            elif len(above) > LONGEST_NAME or not _SECTION.fullmatch(above):
                raise self._wrong(
                    key, f"{PARAMETERS_KEY} of {above[:_SHOWN]!r}, which is no name of a node"
                )
            else:
                self._read_group(self._sections.setdefault(above, {}), "")

    def _read_group(self, given: dict[str, dict[str, Value]], above: str) -> None:
        is_empty = True
        for key in self._keys():
            is_empty = False
            name = above + key.value
            event = self._next()
            if len(name) > LONGEST_NAME:
                raise self._wrong(
                    key, f"a name of more than {LONGEST_NAME} characters ({name[:_SHOWN]!r})"
                )
            if isinstance(event, yaml.MappingStartEvent):
                self._read_group(given, f"{name}.")
                continue
            value = (
                self._read_list(event)
                if isinstance(event, yaml.SequenceStartEvent)
                else self._value(event)
            )
            given.setdefault(name, {})[_kind_of(value)] = value
        if is_empty and above:
            raise InvalidValue(
                f"{self.path} is no parameter file: {above[:_SHOWN]!r} is an empty group; "
                f"accepted: {ACCEPTED}"
            )

    def _read_list(self, start: yaml.Event) -> list[Any] | None:
        values = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._wrong(event, "a list that holds a list or a mapping")
            values.append(self._value(event))
        if len({type(value) for value in values}) > 1:
            raise self._wrong(start, "a list of values of several types")
        return values or None

    def _value(self, event: yaml.ScalarEvent) -> bool | int | float | str:
        text = event.value.partition("\0")[0]
        is_quoted = event.style in ("'", '"')
        if not event.value and not is_quoted:
            raise self._wrong(
                event, "a name without a value ('' is the empty text, [''] the empty list)"
            )
        return text if is_quoted or event.tag == _STR else plain_value(text)

    def _wrong(self, event: yaml.Event, what: str) -> InvalidValue:
        return InvalidValue(
            f"{self.path} is no parameter file: line {event.start_mark.line + 1}: {what}; "
            f"accepted: {ACCEPTED}"
        )


def plain_value(text: str) -> bool | int | float | str:
    """Return what rcl makes of a value without quotes."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if match := _INTEGER.fullmatch(text):
        base = 16 if match["hex"] else 8 if match["octal"] else 10
        # Texts with more digits than 64 bits have are not converted: that takes long.
        value = int(text, base) if len(text) <= 70 else 1 << 64
        if -(1 << 63) <= value < 1 << 63:
            return value
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> float | None:
    """Return ``text`` as strtod reads it; None if it is no number, or out of range."""
    if _DOTTED.fullmatch(text):
        return float(text.replace(".", ""))
    if _NO_NUMBER.fullmatch(text):
        return float(text)
    try:
        if _DECIMAL.fullmatch(text):
            value = float(text)
            digits = re.split("[eE]", text)[0]
        elif _HEXADECIMAL.fullmatch(text):
            value = float.fromhex(text.strip())
            digits = re.split("[pP]", text)[0].lower().partition("x")[2]
        else:
            return None
    except OverflowError:
        return None
    is_zero = not digits.strip("+-0. \t\n\r\f\v")
    return value if is_zero or sys.float_info.min <= abs(value) <= sys.float_info.max else None


def expanded_topic(topic: str, node: str) -> str:
    """Return the full name of ``topic`` for the node of the full name ``node``, as rcl does."""
    namespace, _, name = node.rpartition("/")
    for placeholder, text in (
        ("{node}", name),
        ("{ns}", namespace or "/"),
        ("{namespace}", namespace or "/"),
    ):
        topic = topic.replace(placeholder, text)
    if topic.startswith("~"):
        return node + topic[1:]
    return topic if topic.startswith("/") or not topic else f"{namespace}/{topic}"


def _absolute(section: str) -> str:
    return section if section.startswith("/") else f"/{section}"


def _pattern(section: str) -> re.Pattern[str]:
    """Return a pattern: ``**`` stands for any number of segments of a name, ``*`` for one."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    # Several ** in a row mean the same as one, and would only be tried in every way.
    once = re.sub(r"(/\*\*)+(?=/|$)", "/**", _absolute(section))
    return re.compile(
        "".join(parts.get(part, f"/{part}") for part in once.split("/")[1:]), re.ASCII
    )


def _kind_of(value: Value) -> str:
    if value is None:
        return "empty list"
    return f"list of {type(value[0]).__name__}" if isinstance(value, list) else type(value).__name__
