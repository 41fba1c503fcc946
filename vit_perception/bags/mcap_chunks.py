"""MCAP recordings of any length: what is kept of each chunk while reading, and no more open chunks than overlap.

The library's reader keeps about a kilobyte of every chunk, and a generator for each; rosbag2 writes a chunk an image
where images are larger than its 768 KiB. Here it is a row of whole numbers. Chunks: https://mcap.dev/spec.
"""

import heapq
from array import array
from collections.abc import Collection, Iterator

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, msgsrc

# Fields of a chunk that are whole numbers; behind them come its compression, and each channel with its messages.
_NUMBERS = ("message_start_time", "message_end_time", "chunk_start_offset", "compressed_size", "uncompressed_size")


class ChunkIndex:
    """The chunks of one file, as the library's list of them, in 8 x (7 + 2 x channels) bytes each.

    Of a chunk that comes out of it, what only finds the message indices is empty.
    """

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._begins = array("Q")
        self._compressions: list[str] = []

    def append(self, chunk: ChunkInfo) -> None:
        if chunk.compression not in self._compressions:
            self._compressions.append(chunk.compression)
        self._begins.append(len(self._numbers))
        self._numbers.extend(getattr(chunk, name) for name in _NUMBERS)
        self._numbers.append(self._compressions.index(chunk.compression))
        for channel, messages in chunk.channel_count.items():
            # The library takes it from the lengths of the indices, which some writers leave at 0.
            self._numbers.extend((channel, max(0, messages)))

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: int) -> ChunkInfo:
        begin = self._begins[index]
        end = self._begins[index + 1] if index + 1 < len(self) else len(self._numbers)
        start, stop, offset, compressed, uncompressed, compression, *counts = self._numbers[begin:end]
        return ChunkInfo(start, stop, offset, 0, {}, 0, self._compressions[compression], compressed, uncompressed,
                         dict(zip(counts[::2], counts[1::2])))

    def by_start(self) -> Iterator[ChunkInfo]:
        """The chunks in the order of their first messages' times."""
        starts_ns = np.array(self._numbers)[np.array(self._begins)]
        return (self[int(index)] for index in np.argsort(starts_ns, kind="stable"))

    def clear(self) -> None:
        self.__init__()


class LongMcapReader(McapReader):
    """The library's reader of one file, which opens a chunk when its time has come. Same messages, same
    order, and also those of chunks without message indices."""

    def __init__(self, path):
        super().__init__(path)
        self.chunks = ChunkIndex()

    def messages(self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
                 ) -> Iterator[tuple[Connection, int, bytes]]:
        if not len(self.chunks):
            yield from super().messages(connections, start, stop)
            return
        wanted = {connection.id: connection for connection in connections}
        # Time and place in the file of the next message of each open chunk, by which they are in order; the message;
        # where the following ones come from.
        heap: list[tuple] = []
        for chunk in self.chunks.by_start():
            begin_ns, end_ns = chunk.message_start_time, chunk.message_end_time + 1
            # A chunk without message indices does not say which channels it has.
            if (start is not None and start >= end_ns) or (stop is not None and begin_ns >= stop) or (
                    chunk.channel_count and wanted.keys().isdisjoint(chunk.channel_count)):
                continue
            while heap and heap[0][0] < begin_ns:
                yield _taken(heap)
            source = msgsrc(chunk, wanted, begin_ns if start is None else start, end_ns if stop is None else stop,
                            self.bio)
            next(source)  # it says the chunk's time first
            _push(heap, source)
        while heap:
            yield _taken(heap)


def _push(heap: list[tuple], source: Iterator) -> None:
    message = next(source, None)
    if message is not None:
        heapq.heappush(heap, (message.timestamp, message.offset, message, source))


def _taken(heap: list[tuple]) -> tuple[Connection, int, bytes]:
    _, _, message, source = heapq.heappop(heap)
    _push(heap, source)
    return message.connection, message.timestamp, message.data


class _LongDirectoryReader(DirectoryReader):
    STORAGE_PLUGINS = {**DirectoryReader.STORAGE_PLUGINS, "mcap": LongMcapReader}


class LongReader(Reader):
    """The library's reader of a recording of ROS 2, with little memory for each chunk of MCAP."""

    STORAGE_PLUGINS = {**Reader.STORAGE_PLUGINS, "dir": _LongDirectoryReader, ".mcap": LongMcapReader}
