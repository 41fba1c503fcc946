"""Records of MCAP files (https://mcap.dev/spec), each length checked before it is used.

Written here, as the libraries allocate what a length says and unpack what a chunk holds, however
much that is.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from vit_perception.recordings.storage import Unreadable

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 1, 2, 3, 4, 5, 6, 8, 11
RECORD = struct.Struct("<BQ")  # kind and length of what follows
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, number, time of recording and of publishing in ns
BLOCK_BYTES = 1 << 18
# Records that differ in nothing but their time take a few bytes each, however they are packed.
ALWAYS_RECORDS = 1000


class Window:
    """A file's bytes by place, read a block at a time. Raises Unreadable for places behind its
    end.
    """

    def __init__(self, file: BinaryIO):
        self._descriptor = file.fileno()
        self.size = os.fstat(self._descriptor).st_size
        self._begin, self._block = 0, b""

    def at(self, place: int, size: int) -> bytes:
        """``size`` bytes from ``place`` on."""
        if size > self.size - place:
            raise Unreadable(f"a record at {place} reaches beyond its end")
        if place < self._begin or place + size > self._begin + len(self._block):
            block = self._read(place, max(size, min(BLOCK_BYTES, self.size - place)))
            if len(block) > BLOCK_BYTES:
                return block  # a large one is read once
            self._begin, self._block = place, block
        return self._block[place - self._begin : place - self._begin + size]

    def _read(self, place: int, size: int) -> bytes:
        blocks = []
        while size > 0:
            block = os.pread(self._descriptor, size, place)
            if not block:
                raise Unreadable(f"it ends at {place}, while it is being read")
            blocks.append(block)
            place, size = place + len(block), size - len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def records(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Kind, place of the content and its length, of each record from ``begin`` to ``end``."""
        while begin < end:
            if end - begin < RECORD.size:
                raise Unreadable(f"a record at {begin} is cut off")
            kind, length = RECORD.unpack(self.at(begin, RECORD.size))
            begin += RECORD.size
            if kind == 0 or length > end - begin:
                raise Unreadable(
                    f"what stands at {begin - RECORD.size} is no record, or one of {length} bytes, "
                    "which reaches beyond its place"
                )
            yield kind, begin, length
            begin += length


class Fields:
    """What stands in a record, one field behind the other. Raises Unreadable where the record ends
    before it.
    """

    def __init__(self, data: bytes):
        self._data, self._place = data, 0

    def numbers(self, form: str) -> tuple[int, ...]:
        """Numbers as ``struct`` writes them, little-endian."""
        form = "<" + form
        return struct.unpack(form, self._next(struct.calcsize(form)))

    def data(self) -> bytes:
        """Bytes behind their number."""
        return self._next(*self.numbers("I"))

    def text(self) -> str:
        """UTF-8 text behind its length."""
        try:
            return self.data().decode()
        except UnicodeDecodeError as error:
            raise Unreadable(f"a text in it is no UTF-8: {error.reason}") from error

    def left(self) -> bool:
        """Whether more stands behind what has been read."""
        return self._place < len(self._data)

    def _next(self, size: int) -> bytes:
        if size > len(self._data) - self._place:
            raise Unreadable("a record in it is shorter than its fields")
        self._place += size
        return self._data[self._place - size : self._place]


def chunk_records(data: bytes | memoryview, packed_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Kind, place of the content and its length, of each record of a chunk that was unpacked from
    ``packed_bytes``.
    """
    place, end, unpack, left = 0, len(data), RECORD.unpack_from, ALWAYS_RECORDS + packed_bytes
    while place < end:
        left -= 1
        if left < 0:
            raise Unreadable(
                f"more than {ALWAYS_RECORDS + packed_bytes} records are packed in {packed_bytes} "
                "bytes"
            )
        if end - place < RECORD.size:
            raise Unreadable("a chunk ends within a record")
        kind, length = unpack(data, place)
        place += RECORD.size
        if (
            length > end - place
            or kind in (0, CHUNK)
            or (kind == MESSAGE and length < MESSAGE_HEAD.size)
        ):
            raise Unreadable("what stands in a chunk is no record of it, or reaches beyond its end")
        yield kind, place, length
        place += length
