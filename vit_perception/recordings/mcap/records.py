"""Records of MCAP files (https://mcap.dev/spec), each length checked before it is used."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from vit_perception.recordings.storage import Unreadable

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 1, 2, 3, 4, 5, 6, 8, 11
RECORD_HEAD = struct.Struct("<BQ")  # kind, length of the content
MESSAGE_HEAD = struct.Struct("<HIQQ")  # the fields of MessageHead
BLOCK_BYTES = 1 << 18
# Records that differ only in their time take a few bytes each when they are packed.
ALWAYS_RECORDS = 1000


class Record(NamedTuple):
    """Where one record is."""

    kind: int
    place: int  # of its content, in bytes
    length: int  # of its content, in bytes


class MessageHead(NamedTuple):
    """The fields before a message's data."""

    channel: int
    number: int  # of the message within its channel
    stamp_ns: int  # time of recording
    published_ns: int


class Window:
    """A file's bytes by place, read block by block. Memory: one block, or one larger record.

    Raises:
        Unreadable: a place is beyond the end of the file. All methods raise it.
    """

    def __init__(self, file: BinaryIO):
        self._descriptor = file.fileno()
        self.size = os.fstat(self._descriptor).st_size
        self._begin = 0
        self._block = b""

    def at(self, place: int, size: int) -> bytes:
        """Return ``size`` bytes from ``place`` on."""
        if size > self.size - place:
            raise Unreadable(f"a record at {place} reaches beyond its end")
        if place < self._begin or place + size > self._begin + len(self._block):
            block = self._read(place, max(size, min(BLOCK_BYTES, self.size - place)))
            if len(block) > BLOCK_BYTES:
                return block  # a large one is read only once
            self._begin = place
            self._block = block
        return self._block[place - self._begin : place - self._begin + size]

    def _read(self, place: int, size: int) -> bytes:
        blocks = []
        while size > 0:
            block = os.pread(self._descriptor, size, place)
            if not block:
                raise Unreadable(f"it ends at {place}, while it is being read")
            blocks.append(block)
            place += len(block)
            size -= len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def records(self, begin: int, end: int) -> Iterator[Record]:
        """Yield each record between the places ``begin`` and ``end``."""
        while begin < end:
            if end - begin < RECORD_HEAD.size:
                raise Unreadable(f"a record at {begin} is cut off")
            kind, length = RECORD_HEAD.unpack(self.at(begin, RECORD_HEAD.size))
            begin += RECORD_HEAD.size
            if kind == 0 or length > end - begin:
                raise Unreadable(
                    f"what stands at {begin - RECORD_HEAD.size} is no record, or one of {length} "
                    "bytes, which reaches beyond its place"
                )
            yield Record(kind, begin, length)
            begin += length

    def message_head(self, record: Record) -> MessageHead:
        """Return the head of a message that is not in a chunk."""
        if record.length < MESSAGE_HEAD.size:
            raise Unreadable(f"a message at {record.place} is shorter than its fields")
        return MessageHead(*MESSAGE_HEAD.unpack(self.at(record.place, MESSAGE_HEAD.size)))


class Fields:
    """The fields of a record, read one after another.

    Raises:
        Unreadable: the record is shorter than its fields. All methods raise it.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._place = 0

    def numbers(self, form: str) -> tuple[int, ...]:
        """Return little-endian numbers; ``form`` is as in :mod:`struct`."""
        form = "<" + form
        return struct.unpack(form, self._next(struct.calcsize(form)))

    def data(self) -> bytes:
        """Return bytes that follow their count."""
        return self._next(*self.numbers("I"))

    def text(self) -> str:
        """Return UTF-8 text that follows its length."""
        try:
            return self.data().decode()
        except UnicodeDecodeError as error:
            raise Unreadable(f"a text in it is no UTF-8: {error.reason}") from error

    def left(self) -> bool:
        """Whether there are more fields."""
        return self._place < len(self._data)

    def _next(self, size: int) -> bytes:
        if size > len(self._data) - self._place:
            raise Unreadable("a record in it is shorter than its fields")
        self._place += size
        return self._data[self._place - size : self._place]


def chunk_records(data: bytes | memoryview, packed_bytes: int) -> Iterator[Record]:
    """Yield each record of an unpacked chunk, which took ``packed_bytes`` in the file.

    Raises:
        Unreadable: records are damaged, or more than the packed size explains.
    """
    place = 0
    end = len(data)
    left = ALWAYS_RECORDS + packed_bytes
    while place < end:
        left -= 1
        if left < 0:
            raise Unreadable(
                f"more than {ALWAYS_RECORDS + packed_bytes} records are packed in {packed_bytes} "
                "bytes"
            )
        if end - place < RECORD_HEAD.size:
            raise Unreadable("a chunk ends within a record")
        kind, length = RECORD_HEAD.unpack_from(data, place)
        place += RECORD_HEAD.size
        if (
            length > end - place
            or kind in (0, CHUNK)
            or (kind == MESSAGE and length < MESSAGE_HEAD.size)
        ):
            raise Unreadable("what stands in a chunk is no record of it, or reaches beyond its end")
        yield Record(kind, place, length)
        place += length


def message_head(data: bytes | memoryview, place: int) -> MessageHead:
    """Return the head of a message whose content is at ``place`` of an unpacked chunk."""
    return MessageHead(*MESSAGE_HEAD.unpack_from(data, place))
