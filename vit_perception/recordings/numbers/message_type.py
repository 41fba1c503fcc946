"""A message type by its recorded definition: which of its fields are numbers.

A definition from a file is only compared and walked, never run. It may come from anybody, so what
is unknown, recursive or ambiguous is refused, and all work on it is bounded.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from vit_perception.files.errors import nearest
from vit_perception.recordings.definitions import Fields
from vit_perception.recordings.numbers.field_path import Path
from vit_perception.recordings.numbers.recorded_fields import recorded_fields
from vit_perception.recordings.storage import Channel, Unreadable, shown, some_of

HEADER = "std_msgs/msg/Header"
TIME = "builtin_interfaces/msg/Time"
MOST_NESTED = 32
MOST_TYPES = 1000  # that one message may be made of
MOST_FIELDS = 2000  # of one type
MOST_LISTED = 12  # fields in an error
MOST_SEARCHED = 500  # fields that are looked at for such a list

# numpy's dtype of each kind of number; all are aligned to their size.
DTYPES = {
    "bool": "u1",
    "uint8": "u1",
    "int8": "i1",
    "uint16": "u2",
    "int16": "i2",
    "uint32": "u4",
    "int32": "i4",
    "uint64": "u8",
    "int64": "i8",
    "float32": "f4",
    "float64": "f8",
}
_KIND = re.compile(r"(?P<base>[A-Za-z][\w/]*)(?P<array>\[(?P<size>\d{0,9})\])?", re.ASCII)


class Kind(NamedTuple):
    """The kind of a field."""

    # A key of DTYPES, ``string``, or the name of another message type.
    base: str
    is_array: bool
    # The number of elements; None if each message says it.
    size: int | None = None


_OF_TIME = [("sec", Kind("int32", is_array=False)), ("nanosec", Kind("uint32", is_array=False))]


class MessageType(NamedTuple):
    """One message type, with every type in it. All of them are known and none holds itself."""

    name: str
    # Field name and kind by type, in the order of the bytes.
    types: dict[str, list[tuple[str, Kind]]]
    # The types in which something is no number.
    with_text: frozenset[str]

    @property
    def has_header(self) -> bool:
        """Whether the message begins with a std_msgs/Header, and so has a stamp of its own."""
        header = Kind(HEADER, is_array=False)
        return (
            self.types[self.name][:1] == [("header", header)]
            and self.types[HEADER][:1] == [("stamp", Kind(TIME, is_array=False))]
            and self.types[TIME] == _OF_TIME
        )


def message_type(channel: Channel) -> MessageType:
    """Return the type of the messages in ``channel``.

    The recorded definition counts; without one, that of ROS.

    Raises:
        Unreadable: there is no definition, or it cannot be used.
    """
    name = channel.type_name
    recorded = recorded_fields(channel)
    types: dict[str, list[tuple[str, Kind]]] = {}
    with_text: set[str] = set()
    _collect(name, recorded, types, with_text, above=())
    return MessageType(name, types, frozenset(with_text))


def _collect(
    name: str,
    recorded: dict[str, Fields],
    types: dict[str, list[tuple[str, Kind]]],
    with_text: set[str],
    above: tuple[str, ...],
) -> None:
    if name in above or len(above) >= MOST_NESTED:
        raise Unreadable(f"the definition of {shown(name)} holds itself, or is nested too deep")
    if name in types:
        return
    if name not in recorded:
        raise Unreadable(f"the type {shown(name)} is not defined in the bag")
    if len(recorded[name]) > MOST_FIELDS or len(types) >= MOST_TYPES:
        raise Unreadable(
            f"{shown(name)} has more than {MOST_FIELDS} fields, or is one of {MOST_TYPES} types"
        )
    fields = []
    for field, text in recorded[name]:
        match = _KIND.fullmatch(text)
        if match is None or not field.isidentifier():
            raise Unreadable(f"{shown(name)} has `{shown(text, 60)} {shown(field, 60)}`")
        size = int(match["size"]) if match["size"] else None
        kind = Kind(match["base"], is_array=match["array"] is not None, size=size)
        if kind.base not in DTYPES and kind.base != "string":
            _collect(kind.base, recorded, types, with_text, (*above, name))
        if kind.base == "string" or kind.base in with_text:
            with_text.add(name)
        fields.append((field, kind))
    if len({field for field, _ in fields}) != len(fields):
        raise Unreadable(f"{shown(name)} has two fields of one name")
    types[name] = fields


def check_numeric(whole: MessageType, path: Path) -> bool:
    """Check that ``path`` is numbers alone, and return whether it is booleans alone.

    The empty path is every field but the header at the beginning.

    Raises:
        Unreadable: there is no such field, or something else is in it. The text says what would be
            accepted.
    """
    kind = Kind(whole.name, is_array=False)
    for step in path:
        fields = dict(whole.types.get(kind.base, ()))
        if step.name not in fields or kind.is_array:
            raise Unreadable(_no_field(kind, step.name, fields, whole))
        kind = fields[step.name]
        if step.part is not None and not kind.is_array:
            raise Unreadable(f"{step.name} is no array; accepted: {_listed(whole)}")
        if step.part is not None:
            kind = kind._replace(is_array=False)
    fields_outside = [] if path else whole.types[whole.name][1 if whole.has_header else 0 :]
    texts = [
        name
        for name, each in fields_outside
        if each.base == "string" or each.base in whole.with_text
    ]
    if texts or (path and (kind.base == "string" or kind.base in whole.with_text)):
        what = some_of(texts, 3) or f"{path[-1].name} is {kind.base}"
        raise Unreadable(f"it holds more than numbers ({what}); accepted: {_listed(whole)}")
    return all(each.base == "bool" for _, each in fields_outside or [("", kind)])


def _no_field(kind: Kind, name: str, fields: dict[str, Kind], whole: MessageType) -> str:
    if kind.is_array and name in fields:
        return f"{kind.base} before .{name} is an array; accepted: an index, as [0].{name}"
    hint = nearest(name, fields)
    return (
        f"{kind.base} has no field {shown(name)}{f' ({hint})' if hint else ''}; "
        f"accepted: {_listed(whole)}"
    )


def _listed(whole: MessageType) -> str:
    """Return the outermost fields that are numbers alone, for an error."""
    names = []
    for count, (path, is_numeric) in enumerate(_fields(whole, whole.name, "", 0)):
        if is_numeric:
            names.append(path)
        if count >= MOST_SEARCHED:
            break
    return some_of(names, MOST_LISTED) or "another topic, as it has no field of numbers"


def _fields(whole: MessageType, name: str, prefix: str, depth: int) -> Iterator[tuple[str, bool]]:
    """Yield path and whether it is numbers alone; below those that are not, their fields too."""
    below = []
    for field, kind in whole.types[name]:
        path = f"{prefix}{field}"
        is_numeric = kind.base != "string" and kind.base not in whole.with_text
        yield path, is_numeric
        if not is_numeric and kind.base in whole.types and depth < MOST_NESTED:
            below.append((kind.base, f"{path}{'[0]' if kind.is_array else ''}."))
    for base, path in below:
        yield from _fields(whole, base, path, depth + 1)
