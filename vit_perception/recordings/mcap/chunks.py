"""Messages of an MCAP file's chunks in the order of time.

Only chunks that overlap in time are unpacked at once.
"""

import heapq
from array import array
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from vit_perception.recordings.mcap.chunk_index import ChunkIndex, chunk_data
from vit_perception.recordings.mcap.records import (
    MESSAGE,
    MESSAGE_HEAD,
    Window,
    chunk_records,
    message_head,
)
from vit_perception.recordings.storage import (
    LONGEST_STAMP_NS,
    MOST_MESSAGE_BYTES,
    MOST_OPEN_BYTES,
    StoredMessage,
    Unreadable,
    mib,
)

_COST_BYTES = 16384  # of an open chunk, in addition to its data
_MESSAGE_COST_BYTES = 32


def is_within(stamp_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    """Whether ``stamp_ns`` is at or after ``start_ns`` and before ``stop_ns``.

    Raises:
        Unreadable: the stamp is not a time.
    """
    if stamp_ns >= LONGEST_STAMP_NS:
        raise Unreadable(f"a message is of {stamp_ns} ns; accepted: less than {LONGEST_STAMP_NS}")
    return (start_ns is None or stamp_ns >= start_ns) and (stop_ns is None or stamp_ns < stop_ns)


def too_large(size_bytes: int) -> Unreadable | None:
    """Return why a message of ``size_bytes`` is not read; None if it is."""
    if size_bytes <= MOST_MESSAGE_BYTES:
        return None
    return Unreadable(f"it has {size_bytes} bytes; accepted: at most {mib(MOST_MESSAGE_BYTES)}")


class _OpenChunk:
    """An unpacked chunk; iteration yields the wanted messages in the order of their times."""

    def __init__(
        self,
        data: memoryview,
        packed_bytes: int,
        wanted: Collection[int],
        start_ns: int | None,
        stop_ns: int | None,
    ):
        self._data = data
        self._places = array("Q")
        self._lengths = array("Q")
        stamps = array("Q")
        for kind, place, length in chunk_records(data, packed_bytes):
            if kind != MESSAGE:
                continue
            head = message_head(data, place)
            if head.channel in wanted and is_within(head.stamp_ns, start_ns, stop_ns):
                stamps.append(head.stamp_ns)
                self._places.append(place)
                self._lengths.append(length)
        self._order = np.argsort(np.array(stamps, np.uint64), kind="stable").tolist()
        self.cost_bytes = len(data) + _MESSAGE_COST_BYTES * len(stamps) + _COST_BYTES

    def __iter__(self) -> Iterator[StoredMessage]:
        for index in self._order:
            place = self._places[index]
            end = place + self._lengths[index]
            head = message_head(self._data, place)
            place += MESSAGE_HEAD.size
            data = too_large(end - place) or self._data[place:end].tobytes()
            yield StoredMessage(head.channel, head.stamp_ns, data)


class _Next(NamedTuple):
    """The next message of one open chunk; compared by its time, then by the chunk's place."""

    stamp_ns: int
    place: int
    message: StoredMessage
    rest: Iterator[StoredMessage]
    cost_bytes: int  # of the chunk


def chunk_messages(
    window: Window,
    chunks: ChunkIndex,
    wanted: Collection[int],
    start_ns: int | None,
    stop_ns: int | None,
) -> Iterator[StoredMessage]:
    """Yield messages of the channels ``wanted`` in the order of time, then of the file.

    A chunk is unpacked when its time has come.

    Raises:
        Unreadable: too many chunks overlap in time to be held at once, or one is damaged.
    """
    wanted = frozenset(wanted)
    heap: list[_Next] = []
    held_bytes = 0
    for chunk in chunks.by_start():
        if (start_ns is not None and start_ns > chunk.last_ns) or (
            stop_ns is not None and chunk.start_ns >= stop_ns
        ):
            continue
        # A chunk without message indices does not say which channels it has.
        if chunk.channels and wanted.isdisjoint(chunk.channels):
            continue
        while heap and heap[0].stamp_ns < chunk.start_ns:
            message, freed_bytes = _taken(heap)
            held_bytes -= freed_bytes
            yield message
            # Neither it nor its chunk, if that has ended, is kept while the next one is unpacked.
            del message
        data = chunk_data(window, chunk)
        opened = _OpenChunk(data, chunk.packed_bytes, wanted, start_ns=start_ns, stop_ns=stop_ns)
        del data
        if _push(heap, chunk.place, iter(opened), cost_bytes=opened.cost_bytes):
            held_bytes += opened.cost_bytes
        del opened
        if held_bytes > MOST_OPEN_BYTES:
            raise Unreadable(
                f"more than {mib(MOST_OPEN_BYTES)} of chunks overlap in time; accepted: at most "
                "that (`mcap sort` puts them in order)"
            )
    while heap:
        yield _taken(heap)[0]


def _push(heap: list[_Next], place: int, rest: Iterator[StoredMessage], cost_bytes: int) -> bool:
    message = next(rest, None)
    if message is None:
        return False
    entry = _Next(
        stamp_ns=message.stamp_ns, place=place, message=message, rest=rest, cost_bytes=cost_bytes
    )
    heapq.heappush(heap, entry)
    return True


def _taken(heap: list[_Next]) -> tuple[StoredMessage, int]:
    """Take the next message; also return the bytes that its chunk no longer takes."""
    entry = heapq.heappop(heap)
    has_more = _push(heap, entry.place, entry.rest, cost_bytes=entry.cost_bytes)
    return entry.message, 0 if has_more else entry.cost_bytes
