"""Numbers of one field in the bytes of a message (CDR), by its definition.

Nothing is allocated by a size that only the message states: each is compared with the bytes that
are left. The work per message is bounded.
"""

from typing import Literal

import numpy as np

from vit_perception.recordings.numbers.field_path import Path
from vit_perception.recordings.numbers.message_type import DTYPES, Kind, MessageType
from vit_perception.recordings.storage import Unreadable

MOST_NUMBERS = 4096  # of one field
MOST_PARTS = 200_000  # fields and elements that are walked through in one message
_ITEM_BYTES = {base: int(dtype[1]) for base, dtype in DTYPES.items()}
_STAMP_BYTES = 8


class NumberReader:
    """Reads the numbers of ``path`` in messages of one type, and the stamp of their header.

    ``path`` has been checked with :func:`check_numeric`.
    """

    def __init__(self, whole: MessageType, path: Path):
        self._whole = whole
        self._path = path

    @property
    def has_header(self) -> bool:
        """Whether the messages have stamps of their own."""
        return self._whole.has_header

    def numbers(self, data: bytes) -> np.ndarray:
        """Return the numbers in one message, float64 (n,), in the order of the bytes.

        Raises:
            Unreadable: its bytes are not those of the type, an index is outside its array, or there
                are too many numbers.
        """
        return self.names_and_numbers(data, named=False)[1]

    def names_and_numbers(self, data: bytes, named: bool = True) -> tuple[list[str], np.ndarray]:
        """Return the name of each number, such as ``linear.x`` or ``position[0]``, and the numbers.

        ``named`` False leaves out the names. Raises Unreadable as :meth:`numbers`.
        """
        walk = _Walk(data, self._whole, named)
        walk.top(self._path)
        return walk.names, (
            np.concatenate(walk.found).astype(np.float64) if walk.found else np.zeros(0)
        )

    def stamp_ns(self, data: bytes) -> int:
        """Return the stamp of the header in ns; 0 if it is none, or there is no header.

        Raises:
            Unreadable: the message is too short.
        """
        if not self.has_header:
            return 0
        walk = _Walk(data, self._whole, named=False)
        walk.need(_STAMP_BYTES)
        order: Literal["little", "big"] = "little" if walk.order == "<" else "big"
        seconds = int.from_bytes(walk.body[:4], order, signed=True)
        nanosec = int.from_bytes(walk.body[4:8], order)
        stamp_ns = seconds * 1_000_000_000 + nanosec
        return stamp_ns if stamp_ns > 0 and nanosec < 1_000_000_000 else 0


class _Walk:
    """One pass over the bytes of one message."""

    def __init__(self, data: bytes, whole: MessageType, named: bool):
        # Plain CDR: big- or little-endian, without the parameter lists and XCDR2 of other DDS.
        if len(data) < 4 or data[0] != 0 or data[1] not in (0, 1):
            raise Unreadable("it does not begin as CDR does (0, then 0 or 1)")
        self.body = memoryview(data)[4:]
        self.order = "<" if data[1] else ">"
        self.found: list[np.ndarray] = []
        self.names: list[str] = []
        self._types = whole.types
        self._whole = whole
        self._named = named
        self._at = 0
        self._parts = 0
        self._count = 0

    def need(self, size_bytes: int) -> None:
        """Raise Unreadable if fewer bytes are left."""
        if size_bytes > len(self.body) - self._at:
            raise Unreadable(f"it ends after {len(self.body)} bytes")

    def top(self, path: Path) -> None:
        """Walk through the message until what ``path`` names has been read."""
        last = path[0].name if path else ""
        for field, kind in self._types[self._whole.name]:
            is_header = field == "header" and self._whole.has_header
            if path:
                if field == last:
                    self._field(kind, path, field)
                    return
                self._skip(kind)
            elif is_header:
                self._skip(kind)
            else:
                self._take(kind, field)

    def _step(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Unreadable(f"it has more than {MOST_PARTS} parts before what is read")

    def _field(self, kind: Kind, path: Path, name: str) -> None:
        """Take what ``path`` names in a field; its first step is the field itself."""
        part = path[0].part
        rest = path[1:]
        if not kind.is_array:
            self._inside(kind.base, rest, name)
            return
        count = self._array_count(kind)
        chosen = range(count) if part is None else _chosen(part, count, name)
        if kind.base in DTYPES:
            self._numbers(kind.base, count, chosen, name)
            return
        for index in range(count):
            if index in chosen:
                self._inside(kind.base, rest, f"{name}[{index}]")
            else:
                self._skip_one(kind.base)

    def _inside(self, base: str, path: Path, name: str) -> None:
        """Take what ``path`` names inside one element; all of it if the path is empty."""
        if not path:
            self._take_one(base, name)
            return
        self._step()
        for field, kind in self._types[base]:
            if field == path[0].name:
                self._field(kind, path, f"{name}.{field}")
            else:
                self._skip(kind)

    def _take(self, kind: Kind, name: str) -> None:
        if not kind.is_array:
            self._take_one(kind.base, name)
            return
        count = self._array_count(kind)
        if kind.base in DTYPES:
            self._numbers(kind.base, count, range(count), name)
            return
        for index in range(count):
            self._take_one(kind.base, f"{name}[{index}]")

    def _take_one(self, base: str, name: str) -> None:
        if base in DTYPES:
            self._numbers(base, 1, range(1), name, is_one=True)
            return
        self._step()
        if not self._types[base]:
            self._skip_numbers("uint8", 1)
        for field, kind in self._types[base]:
            self._take(kind, f"{name}.{field}")

    def _numbers(
        self, base: str, count: int, chosen: range, name: str, is_one: bool = False
    ) -> None:
        self._step()
        start = self._skip_numbers(base, count)
        self._count += len(chosen)
        if self._count > MOST_NUMBERS:
            raise Unreadable(
                f"it has {self._count} numbers or more; accepted: at most {MOST_NUMBERS}, for "
                "example the slice [0:16]"
            )
        if not chosen:
            return
        size_bytes = _ITEM_BYTES[base]
        dtype = np.dtype(self.order + DTYPES[base])
        taken = np.frombuffer(self.body, dtype, len(chosen), start + chosen.start * size_bytes)
        self.found.append(taken != 0 if base == "bool" else taken)
        if self._named:
            self.names += [name if is_one else f"{name}[{index}]" for index in chosen]

    def _skip(self, kind: Kind) -> None:
        if not kind.is_array:
            self._skip_one(kind.base)
            return
        count = self._array_count(kind)
        if kind.base in DTYPES:
            self._step()
            self._skip_numbers(kind.base, count)
            return
        for _ in range(count):
            self._skip_one(kind.base)

    def _skip_one(self, base: str) -> None:
        self._step()
        if base in DTYPES:
            self._skip_numbers(base, 1)
        elif base == "string":
            size_bytes = self._uint32()
            self.need(size_bytes)
            self._at += size_bytes
        else:
            if not self._types[base]:  # a message without fields has one byte
                self._skip_numbers("uint8", 1)
            for _, kind in self._types[base]:
                self._skip(kind)

    def _array_count(self, kind: Kind) -> int:
        count = self._uint32() if kind.size is None else kind.size
        # Each element has at least a byte: a count that cannot be true is seen here.
        self.need(count)
        return count

    def _skip_numbers(self, base: str, count: int) -> int:
        """Go behind ``count`` aligned numbers, and return where they start."""
        size_bytes = _ITEM_BYTES[base]
        if not count:  # an empty sequence has no padding
            return self._at
        start = -(-self._at // size_bytes) * size_bytes
        if start + count * size_bytes > len(self.body):
            raise Unreadable(f"it ends after {len(self.body)} bytes")
        self._at = start + count * size_bytes
        return start

    def _uint32(self) -> int:
        start = self._skip_numbers("uint32", 1)
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        return int.from_bytes(self.body[start : start + 4], order)


def _chosen(part: slice | int, count: int, name: str) -> range:
    if isinstance(part, slice):
        return range(count)[part]
    if not -count <= part < count:
        raise Unreadable(f"{name} has {count} elements, so there is no [{part}]")
    index = part % count
    return range(index, index + 1)
