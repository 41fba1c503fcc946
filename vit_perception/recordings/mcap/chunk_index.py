"""Where the chunks of an MCAP file are, and their data. rosbag2 may write one chunk per image."""

from array import array
from binascii import crc32
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vit_perception.recordings.mcap.records import CHUNK, RECORD_HEAD, Fields, Window
from vit_perception.recordings.storage import MOST_CHUNK_BYTES, Unreadable, mib
from vit_perception.recordings.unpacking import unpacked_chunk

_HEAD_BYTES = 300  # of a chunk, before its packed data: five numbers and the compression's name
MOST_INDEX_NUMBERS = 64 << 20  # of all chunks, 8 bytes each: about 8 million chunks
_MOST_COMPRESSIONS = 9
_NUMBERS = 7  # that ChunkIndex keeps of each chunk
_START, _PLACE, _LENGTH = 0, 2, 3  # columns of these numbers


class Chunk(NamedTuple):
    """One chunk."""

    start_ns: int  # of its first message
    last_ns: int  # of its last message
    place: int  # of its record in the file
    length: int  # of its record, in bytes
    packed_bytes: int
    unpacked_bytes: int
    compression: str
    channels: tuple[int, ...]  # of its messages; empty if the file does not say


class ChunkIndex:
    """The chunks of one file. Memory: 72 bytes per chunk, and 2 per channel of a chunk."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._channels = array("H")
        self._channels_end = array("Q")
        self._compressions: list[str] = []
        self.unpacked_bytes = 0  # of all chunks

    def append(self, chunk: Chunk) -> None:
        """Add one chunk.

        Raises:
            Unreadable: it unpacks to too much, or the index becomes too large.
        """
        if chunk.unpacked_bytes > MOST_CHUNK_BYTES:
            raise Unreadable(
                f"a chunk at {chunk.place} unpacks to {chunk.unpacked_bytes} bytes; accepted: at "
                f"most {mib(MOST_CHUNK_BYTES)}"
            )
        if len(self._numbers) + len(self._channels) // 4 > MOST_INDEX_NUMBERS:
            raise Unreadable("its index of chunks does not fit into the memory")
        if chunk.compression not in self._compressions:
            if len(self._compressions) == _MOST_COMPRESSIONS:
                raise Unreadable(f"its chunks are packed in more than {_MOST_COMPRESSIONS} ways")
            self._compressions.append(chunk.compression)
        self._numbers.extend((*chunk[:6], self._compressions.index(chunk.compression)))
        self._channels.extend(chunk.channels)
        self._channels_end.append(len(self._channels))
        self.unpacked_bytes += chunk.unpacked_bytes

    def __len__(self) -> int:
        return len(self._channels_end)

    def __getitem__(self, index: int) -> Chunk:
        *numbers, compression = self._numbers[_NUMBERS * index : _NUMBERS * (index + 1)]
        begin = self._channels_end[index - 1] if index else 0
        return Chunk(
            *numbers,
            compression=self._compressions[compression],
            channels=tuple(self._channels[begin : self._channels_end[index]]),
        )

    def _column(self, number: int) -> np.ndarray:
        return np.array(self._numbers, np.uint64)[number::_NUMBERS]

    def by_start(self) -> Iterator[Chunk]:
        """Yield the chunks in the order of their first messages' times."""
        return (self[int(index)] for index in np.argsort(self._column(_START), kind="stable"))

    def check(self, begin: int, end: int) -> None:
        """Check that all chunks are between the places ``begin`` and ``end``, one after another.

        Raises:
            Unreadable: a chunk is elsewhere, or overlaps another one.
        """
        places = self._column(_PLACE)
        lengths = self._column(_LENGTH)
        order = np.argsort(places)
        at = begin
        for place, length in zip(places[order].tolist(), lengths[order].tolist()):
            if place < at or length > end - place:
                raise Unreadable(
                    f"its index has a chunk at {place}, which stands within another one, or "
                    "outside of the data"
                )
            at = place + length


def indexed_chunk(fields: Fields) -> tuple[Chunk, dict[int, int]]:
    """Return the chunk that an index record describes, and its number of messages by channel."""
    start_ns, last_ns, place, length = fields.numbers("QQQQ")
    offsets = {}
    indices = Fields(fields.data())
    while indices.left():
        channel, offset = indices.numbers("HQ")
        offsets[channel] = offset
    (index_length,) = fields.numbers("Q")
    compression = fields.text()
    packed_bytes, unpacked_bytes = fields.numbers("QQ")
    if packed_bytes > length:
        raise Unreadable(f"a chunk at {place} is said to be larger than its record")
    # A message index has 16 bytes per message, after 15 of its own; some writers write none.
    ends = [*sorted(offsets.values())[1:], place + length + index_length]
    counts = {
        channel: max(0, end - offset - 15) // 16
        for (channel, offset), end in zip(sorted(offsets.items(), key=lambda pair: pair[1]), ends)
    }
    chunk = Chunk(
        start_ns=start_ns,
        last_ns=last_ns,
        place=place,
        length=length,
        packed_bytes=packed_bytes,
        unpacked_bytes=unpacked_bytes,
        compression=compression,
        channels=tuple(offsets),
    )
    return chunk, counts


def found_chunk(window: Window, place: int, length: int) -> Chunk:
    """Return the chunk whose record has its content at ``place``, as its own head describes it."""
    fields = Fields(window.at(place, min(length, _HEAD_BYTES)))
    start_ns, last_ns, unpacked_bytes, _ = fields.numbers("QQQI")
    compression = fields.text()
    (packed_bytes,) = fields.numbers("Q")
    if packed_bytes > length - _head_bytes(compression):
        raise Unreadable(f"a chunk at {place} is said to be larger than its record")
    return Chunk(
        start_ns=start_ns,
        last_ns=last_ns,
        place=place - RECORD_HEAD.size,
        length=length + RECORD_HEAD.size,
        packed_bytes=packed_bytes,
        unpacked_bytes=unpacked_bytes,
        compression=compression,
        channels=(),
    )


def _head_bytes(compression: str) -> int:
    return 8 * 3 + 4 + 4 + len(compression.encode()) + 8


def chunk_data(window: Window, chunk: Chunk) -> memoryview:
    """Return the unpacked data of ``chunk``.

    Raises:
        Unreadable: the file has another chunk there than its index says, or a damaged one.
    """
    kind, length = RECORD_HEAD.unpack(window.at(chunk.place, RECORD_HEAD.size))
    place = chunk.place + RECORD_HEAD.size
    if kind != CHUNK or length != chunk.length - RECORD_HEAD.size:
        raise Unreadable(f"its index has a chunk at {chunk.place}, where none is")
    found = found_chunk(window, place, length)
    if (found.packed_bytes, found.unpacked_bytes, found.compression) != (
        chunk.packed_bytes,
        chunk.unpacked_bytes,
        chunk.compression,
    ):
        raise Unreadable(f"its index has another chunk at {chunk.place} than is there")
    (checksum,) = Fields(window.at(place + 24, 4)).numbers("I")
    packed = window.at(place + _head_bytes(chunk.compression), chunk.packed_bytes)
    data = unpacked_chunk(packed, chunk.compression, chunk.unpacked_bytes)
    if checksum and crc32(data) != checksum:
        raise Unreadable(f"a chunk at {chunk.place} does not have the checksum that it says")
    return data
