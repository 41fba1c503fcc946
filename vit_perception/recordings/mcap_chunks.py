"""Chunks of an MCAP file: what is kept of each while reading, and no more of them unpacked than
overlap in time.

Of each chunk a row of whole numbers is kept; rosbag2 writes a chunk an image where images are
larger than 768 KiB.
"""

import heapq
from array import array
from binascii import crc32
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from vit_perception.recordings.mcap_records import (
    CHUNK,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD,
    Fields,
    Window,
    chunk_records,
)
from vit_perception.recordings.storage import (
    LONGEST_STAMP_NS,
    MOST_CHUNK_BYTES,
    MOST_MESSAGE_BYTES,
    MOST_OPEN_BYTES,
    Unreadable,
    mib,
)
from vit_perception.recordings.unpacking import unpacked_chunk

_HEAD_BYTES = 300  # of a chunk, before what is packed: five numbers and the compression's name
MOST_INDEX_NUMBERS = 64 << 20  # of all chunks, 8 bytes each: about 8 million chunks
_COST_BYTES = 16384  # of an open chunk beside its bytes
_MESSAGE_COST_BYTES = 32

Message = tuple[
    int, int, bytes | Unreadable
]  # channel, time of recording in ns, bytes or why there are none


class Chunk(NamedTuple):
    """One chunk: times of its messages, place of its record, sizes in bytes, and channels (none: it
    does not say).
    """

    start_ns: int
    last_ns: int
    place: int
    length: int
    packed_bytes: int
    unpacked_bytes: int
    compression: str
    channels: tuple[int, ...]


class ChunkIndex:
    """The chunks of one file, in 8 x 7 bytes and 2 a channel each, and 16 to find them."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._channels = array("H")
        self._channels_end = array("Q")
        self._compressions: list[str] = []
        self.unpacked_bytes = 0  # of all chunks

    def append(self, chunk: Chunk) -> None:
        """Add one; its sizes are checked."""
        if chunk.unpacked_bytes > MOST_CHUNK_BYTES:
            raise Unreadable(
                f"a chunk at {chunk.place} unpacks to {chunk.unpacked_bytes} bytes; accepted: at "
                f"most {mib(MOST_CHUNK_BYTES)}"
            )
        if len(self._numbers) + len(self._channels) // 4 > MOST_INDEX_NUMBERS:
            raise Unreadable("its index of chunks does not fit into the memory")
        if chunk.compression not in self._compressions:
            if len(self._compressions) > 8:
                raise Unreadable("its chunks are packed in more than eight ways")
            self._compressions.append(chunk.compression)
        self._numbers.extend((*chunk[:6], self._compressions.index(chunk.compression)))
        self._channels.extend(chunk.channels)
        self._channels_end.append(len(self._channels))
        self.unpacked_bytes += chunk.unpacked_bytes

    def __len__(self) -> int:
        return len(self._channels_end)

    def __getitem__(self, index: int) -> Chunk:
        *numbers, compression = self._numbers[7 * index : 7 * index + 7]
        begin = self._channels_end[index - 1] if index else 0
        return Chunk(
            *numbers,
            self._compressions[compression],
            tuple(self._channels[begin : self._channels_end[index]]),
        )

    def _column(self, number: int) -> np.ndarray:
        return np.array(self._numbers, np.uint64)[number::7]

    def by_start(self) -> Iterator[Chunk]:
        """The chunks in the order of their first messages' times."""
        return (self[int(index)] for index in np.argsort(self._column(0), kind="stable"))

    def check(self, begin: int, end: int) -> None:
        """Raise Unreadable where chunks stand outside of ``begin`` to ``end`` in the file, or
        within each other.
        """
        places, lengths = self._column(2), self._column(3)
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
    """The chunk that an index record describes, and how many messages each channel has in it."""
    start_ns, last_ns, place, length = fields.numbers("QQQQ")
    offsets, indices = {}, Fields(fields.data())
    while indices.left():
        channel, offset = indices.numbers("HQ")
        offsets[channel] = offset
    (index_length,) = fields.numbers("Q")
    compression = fields.text()
    packed_bytes, unpacked_bytes = fields.numbers("QQ")
    if packed_bytes > length:
        raise Unreadable(f"a chunk at {place} is said to be larger than its record")
    # An index has 16 bytes a message, behind 15 of its own; some writers leave it out.
    ends = [*sorted(offsets.values())[1:], place + length + index_length]
    counts = {
        channel: max(0, end - offset - 15) // 16
        for (channel, offset), end in zip(sorted(offsets.items(), key=lambda pair: pair[1]), ends)
    }
    return Chunk(
        start_ns, last_ns, place, length, packed_bytes, unpacked_bytes, compression, tuple(offsets)
    ), counts


def found_chunk(window: Window, place: int, length: int) -> Chunk:
    """The chunk whose record's content stands at ``place``, by its own head."""
    fields = Fields(window.at(place, min(length, _HEAD_BYTES)))
    start_ns, last_ns, unpacked_bytes, _ = fields.numbers("QQQI")
    compression = fields.text()
    (packed_bytes,) = fields.numbers("Q")
    if packed_bytes > length - _head_bytes(compression):
        raise Unreadable(f"a chunk at {place} is said to be larger than its record")
    return Chunk(
        start_ns,
        last_ns,
        place - RECORD.size,
        length + RECORD.size,
        packed_bytes,
        unpacked_bytes,
        compression,
        (),
    )


def _head_bytes(compression: str) -> int:
    return 8 * 3 + 4 + 4 + len(compression.encode()) + 8


def chunk_data(window: Window, chunk: Chunk) -> memoryview:
    """What is packed in ``chunk``. Raises Unreadable where the file has another one there than its
    index says.
    """
    kind, length = RECORD.unpack(window.at(chunk.place, RECORD.size))
    place = chunk.place + RECORD.size
    if kind != CHUNK or length != chunk.length - RECORD.size:
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


def is_within(stamp_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    """Whether a message of ``stamp_ns`` is asked for. Raises Unreadable for a time that is none."""
    if stamp_ns >= LONGEST_STAMP_NS:
        raise Unreadable(f"a message is of {stamp_ns} ns; accepted: less than {LONGEST_STAMP_NS}")
    return (start_ns is None or stamp_ns >= start_ns) and (stop_ns is None or stamp_ns < stop_ns)


def too_large(size_bytes: int) -> Unreadable | None:
    """Why a message of ``size_bytes`` is not read, if it is not."""
    if size_bytes <= MOST_MESSAGE_BYTES:
        return None
    return Unreadable(f"it has {size_bytes} bytes; accepted: at most {mib(MOST_MESSAGE_BYTES)}")


class _OpenChunk:
    """An unpacked chunk and the places of the messages that are asked for, in the order of their
    times.
    """

    def __init__(
        self,
        data: memoryview,
        packed_bytes: int,
        wanted: Collection[int],
        start_ns: int | None,
        stop_ns: int | None,
    ):
        stamps, places, lengths = array("Q"), array("Q"), array("Q")
        for kind, place, length in chunk_records(data, packed_bytes):
            if kind != MESSAGE:
                continue
            channel, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(data, place)
            if channel in wanted and is_within(stamp_ns, start_ns, stop_ns):
                stamps.append(stamp_ns)
                places.append(place)
                lengths.append(length)
        self._data, self._places, self._lengths = data, places, lengths
        self._order = np.argsort(np.array(stamps, np.uint64), kind="stable").tolist()
        self.cost_bytes = len(data) + _MESSAGE_COST_BYTES * len(places) + _COST_BYTES

    def __iter__(self) -> Iterator[Message]:
        for index in self._order:
            place, length = self._places[index], self._lengths[index]
            channel, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(self._data, place)
            size = length - MESSAGE_HEAD.size
            yield (
                channel,
                stamp_ns,
                too_large(size) or self._data[place + MESSAGE_HEAD.size : place + length].tobytes(),
            )


def chunk_messages(
    window: Window,
    chunks: ChunkIndex,
    wanted: Collection[int],
    start_ns: int | None,
    stop_ns: int | None,
) -> Iterator[Message]:
    """Messages of the channels ``wanted`` in the order of time, then of the file; a chunk is
    unpacked when its time has come. Raises Unreadable where too many overlap to be held at once.
    """
    wanted = frozenset(wanted)
    # Time and place in the file of the next message of each open chunk, by which they are in order;
    # the message; where the following ones come from; what the chunk takes.
    heap: list[tuple] = []
    held_bytes = 0
    for chunk in chunks.by_start():
        # A chunk without message indices does not say which channels it has.
        if (start_ns is not None and start_ns > chunk.last_ns) or (
            stop_ns is not None and chunk.start_ns >= stop_ns
        ):
            continue
        if chunk.channels and wanted.isdisjoint(chunk.channels):
            continue
        while heap and heap[0][0] < chunk.start_ns:
            message, freed_bytes = _taken(heap)
            held_bytes -= freed_bytes
            yield message
            del (
                message
            )  # neither it nor a chunk that has ended is kept while the next one is unpacked
        opened = _OpenChunk(
            chunk_data(window, chunk), chunk.packed_bytes, wanted, start_ns, stop_ns
        )
        if _push(heap, chunk.place, iter(opened), opened.cost_bytes):
            held_bytes += opened.cost_bytes
        del opened
        if held_bytes > MOST_OPEN_BYTES:
            raise Unreadable(
                f"more than {mib(MOST_OPEN_BYTES)} of chunks overlap in time; accepted: at most "
                "that (`mcap sort` puts them in order)"
            )
    while heap:
        yield _taken(heap)[0]


def _push(heap: list[tuple], place: int, source: Iterator[Message], cost_bytes: int) -> bool:
    message = next(source, None)
    if message is not None:
        heapq.heappush(heap, (message[1], place, message, source, cost_bytes))
    return message is not None


def _taken(heap: list[tuple]) -> tuple[Message, int]:
    """The next message, and how much of the memory its chunk no longer takes."""
    _, place, message, source, cost_bytes = heapq.heappop(heap)
    return message, 0 if _push(heap, place, source, cost_bytes) else cost_bytes
