"""Read other people's YAML with bounds on size, depth and what its aliases expand to."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import read_bounded

MOST_YAML_BYTES = 4 << 20
MOST_VALUES = 300_000  # keys and values; an alias counts as what it expands to
MOST_DEPTH = 50
LONGEST_NUMBER = 400  # characters; a longer scalar is text
_SHOWN = 200  # characters of a parser's own message
_STR = "tag:yaml.org,2002:str"
_Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlLoader(_Safe):
    """Loads YAML 1.1 of plain values; numbers are as in ROS, so 1e-3 is one too."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        # The time for base-60 numbers (1:30:00) grows with the square of their length.
        if kind is yaml.ScalarNode and len(value) > LONGEST_NUMBER:
            return _STR
        return super().resolve(kind, value, implicit)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """Return the content of a YAML file: mappings, lists and plain values; None if it is empty.

    Raises:
        InvalidValue: it is not a plain file, not UTF-8, not YAML, larger than ``most_bytes``, or
            its depth or aliases would fill the memory.
    """
    return parse_yaml(_text(path, most_bytes), str(path), most_bytes)


def parse_yaml(text: str, name: str, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """As :func:`load_yaml`, for a text; errors call it ``name``."""
    if len(text) > most_bytes:
        raise InvalidValue(
            f"{name} has {len(text)} characters; accepted: YAML of at most {most_bytes}"
        )
    try:
        _check_bounds(text, name)
        return yaml.load(text, YamlLoader)
    except InvalidValue:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: date 2020-99-99
        raise _no_yaml(name, error) from error


def yaml_events(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Iterator[yaml.Event]:
    """Yield the parser's events, for callers that interpret them. Raises as :func:`load_yaml`."""
    text = _text(path, most_bytes)
    try:
        _check_bounds(text, str(path))
        yield from yaml.parse(text, YamlLoader)
    except yaml.YAMLError as error:
        raise _no_yaml(str(path), error) from error


def _no_yaml(name: str, error: Exception) -> InvalidValue:
    said = "".join(c if c.isprintable() else " " for c in " ".join(str(error).split()))[:_SHOWN]
    return InvalidValue(f"{name} is no YAML: {said}; accepted: mappings, lists and plain values")


def _text(path: Path, most_bytes: int) -> str:
    try:
        return read_bounded(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(
            f"{path} is no UTF-8 text: {error.reason} at byte {error.start}; accepted: a YAML file"
        ) from error
    except InvalidValue:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise InvalidValue(f"{path} cannot be read: {error}; accepted: a YAML file") from error


def _check_bounds(text: str, name: str) -> None:
    """Raise InvalidValue before anything is built, from the parser's events one by one."""
    sizes: dict[str, int] = {}  # number of values of each anchor
    open_anchors: list[tuple[str | None, int]] = []
    values = 0
    for event in yaml.parse(text, YamlLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            # An open anchor would contain itself. The parser reports missing ones.
            if event.anchor in [anchor for anchor, _ in open_anchors]:
                raise InvalidValue(
                    f"{name}: line {event.start_mark.line + 1}: an alias stands inside of what it "
                    "stands for; accepted: YAML without circles"
                )
            values += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            values += 1
            open_anchors.append((event.anchor, values - 1))
            if len(open_anchors) > MOST_DEPTH:
                raise InvalidValue(
                    f"{name}: line {event.start_mark.line + 1}: more than {MOST_DEPTH} levels; "
                    "accepted: at most that many"
                )
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if event.tag not in (None, "!", _STR) and len(event.value) > LONGEST_NUMBER:
                raise InvalidValue(
                    f"{name}: line {event.start_mark.line + 1}: {len(event.value)} characters are "
                    f"tagged as another type than text; accepted: {LONGEST_NUMBER}"
                )
        if values > MOST_VALUES:
            raise InvalidValue(
                f"{name} unfolds to more than {MOST_VALUES} values; accepted: at most that many"
            )
