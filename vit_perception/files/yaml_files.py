"""YAML that somebody else wrote, read with bounds on size, depth and what its aliases unfold to."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import read_bounded

MOST_YAML_BYTES = 4 << 20
MOST_VALUES = 300_000  # keys and values, each alias counted as what it stands for
MOST_DEPTH = 50
LONGEST_NUMBER = 400  # characters; a plain text that is longer is text
_SHOWN = 200  # characters of a parser's own message
_STR = "tag:yaml.org,2002:str"
_Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlLoader(_Safe):
    """YAML 1.1 of plain values, with numbers as ROS reads them: 1e-3 is one too."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        # Numbers to the base of 60 (1:30:00) take a time that grows with the square of their
        # length.
        if kind is yaml.ScalarNode and len(value) > LONGEST_NUMBER:
            return _STR
        return super().resolve(kind, value, implicit)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """What the YAML file ``path`` holds: mappings, lists and plain values. None for an empty file.

    Raises InvalidValue naming the file where it is not readable as such: no plain file, larger than
    ``most_bytes``, no UTF-8, no YAML, or YAML whose depth or aliases would fill the memory.
    """
    return parse_yaml(_text(path, most_bytes), str(path), most_bytes)


def parse_yaml(text: str, name: str, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """As :func:`load_yaml`, of a text that came from elsewhere; ``name`` says from where in the
    error.
    """
    if len(text) > most_bytes:
        raise InvalidValue(
            f"{name} has {len(text)} characters; accepted: YAML of at most {most_bytes}"
        )
    try:
        _check_bounds(text, name)
        return yaml.load(text, YamlLoader)
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # ValueError: dates like 2020-99-99
        if isinstance(error, InvalidValue):
            raise
        raise _no_yaml(name, error) from error


def yaml_events(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Iterator[yaml.Event]:
    """The parser's events of a file, for who gives YAML a meaning of its own. Raises as
    :func:`load_yaml`.
    """
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
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(f"{path} cannot be read: {error}; accepted: a YAML file") from error


def _check_bounds(text: str, name: str) -> None:
    """Raise InvalidValue before anything is built: the parser's events come one at a time."""
    sizes: dict[str, int] = {}  # how many values each anchor stands for
    open_anchors: list[tuple[str | None, int]] = []
    values = 0
    for event in yaml.parse(text, YamlLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            # An anchor that is not closed yet would hold itself; one that does not exist is the
            # parser's to say.
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
