"""One MCAP file: what it says of itself, found in the data where it does not, and its messages."""

import struct
from collections.abc import Collection, Iterator
from heapq import merge
from operator import itemgetter
from typing import BinaryIO

from vit_perception.recordings.kind import MCAP_MAGIC
from vit_perception.recordings.mcap_chunks import (
    Chunk,
    ChunkIndex,
    chunk_data,
    chunk_messages,
    found_chunk,
    indexed_chunk,
    is_within,
    too_large,
)
from vit_perception.recordings.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    FOOTER,
    HEADER,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD,
    SCHEMA,
    STATISTICS,
    Fields,
    Window,
    chunk_records,
)
from vit_perception.recordings.storage import (
    MOST_TIMES_UNPACKED,
    Channel,
    Summary,
    Unreadable,
    mib,
    most_unpacked,
)

MOST_RECORD_BYTES = 16 << 20  # of what describes the messages
MOST_DESCRIBED_BYTES = 64 << 20  # of all schemas and channels
FOOTER_BYTES = RECORD.size + 20 + len(MCAP_MAGIC)


class McapFile:
    """What an open MCAP file says of itself: ``summary``, the index of its ``chunks``, and whether
    messages stand outside of chunks (``loose``). Raises Unreadable where it is no such file.
    """

    def __init__(self, file: BinaryIO):
        self.window = Window(file)
        self.chunks = ChunkIndex()
        self.loose = False
        self.summary = Summary([], [], {}, counted=False)
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._known: set[int] = set()
        self._described_bytes = 0
        self._counted = False
        self._stated_chunks: int | None = None
        self.begin, self.end, summary_place = self._frame()
        if summary_place:
            self._read_summary(summary_place)
        if self._known and self._stated_chunks == 0:
            self.loose = True
        elif not (self._known and len(self.chunks)):
            self._scan()
        self.chunks.check(self.begin, self.end)

    def _frame(self) -> tuple[int, int, int]:
        """Where the data begins and ends, and where the summary stands, or 0."""
        window = self.window
        if (
            window.size < len(MCAP_MAGIC) + RECORD.size + FOOTER_BYTES
            or window.at(0, len(MCAP_MAGIC)) != MCAP_MAGIC
        ):
            raise Unreadable("it does not begin as an MCAP file")
        footer = window.size - FOOTER_BYTES
        kind, place, length = next(window.records(len(MCAP_MAGIC), footer), (0, 0, 0))
        if kind != HEADER:
            raise Unreadable("it does not begin with the header of an MCAP file")
        begin = place + length
        data = window.at(footer, FOOTER_BYTES)
        if RECORD.unpack_from(data) != (FOOTER, 20) or not data.endswith(MCAP_MAGIC):
            raise Unreadable("it does not end as an MCAP file")
        (summary,) = struct.unpack_from("<Q", data, RECORD.size)
        if summary and not begin <= summary <= footer:
            raise Unreadable("its summary stands outside of it")
        return begin, summary or footer, summary

    def _read_summary(self, begin: int) -> None:
        for kind, place, length in self.window.records(begin, self.window.size - FOOTER_BYTES):
            if kind in (SCHEMA, CHANNEL, CHUNK_INDEX, STATISTICS):
                self._describe(kind, Fields(self._content(place, length)), length)

    def _content(self, place: int, length: int) -> bytes:
        if length > MOST_RECORD_BYTES:
            raise Unreadable(
                f"a record of {length} bytes describes its messages; accepted: {MOST_RECORD_BYTES}"
            )
        return self.window.at(place, length)

    def _describe(self, kind: int, fields: Fields, length: int) -> None:
        """Take a record that describes the messages."""
        if kind in (SCHEMA, CHANNEL):
            self._described_bytes += length
            if self._described_bytes > MOST_DESCRIBED_BYTES:
                raise Unreadable(
                    f"its schemas and channels have more than {MOST_DESCRIBED_BYTES} bytes"
                )
        if kind == SCHEMA:
            (number,) = fields.numbers("H")
            name, encoding = fields.text(), fields.text()
            if number not in self._schemas:
                self._schemas[number] = (name, encoding, fields.data().decode(errors="replace"))
        elif kind == CHANNEL:
            self._describe_channel(fields)
        elif kind == CHUNK_INDEX:
            self._take_chunk(*indexed_chunk(fields))
        elif kind == STATISTICS and not self._counted:
            self._counted = self.summary.counted = True
            messages, _, _, _, _, self._stated_chunks, start_ns, last_ns = fields.numbers(
                "QHIIIIQQ"
            )
            self.summary.start_ns = self.summary.stop_ns = 0
            self.summary.counts.clear()
            if messages:
                self.summary.widen(start_ns, last_ns)
            counts = Fields(fields.data())
            while counts.left():
                channel, count = counts.numbers("HQ")
                self.summary.counts[channel] = count

    def _take_chunk(self, chunk: Chunk, counts: dict[int, int]) -> None:
        self.chunks.append(chunk)
        if self.chunks.unpacked_bytes > most_unpacked(self.window.size):
            raise Unreadable(
                f"its chunks unpack to more than {mib(most_unpacked(self.window.size))}; accepted: "
                f"{mib(most_unpacked(0))}, or {MOST_TIMES_UNPACKED} times its size"
            )
        if not self._counted and counts:
            self.summary.widen(chunk.start_ns, chunk.last_ns)
            self._count(counts)

    def _count(self, counts: dict[int, int]) -> None:
        for channel, count in counts.items():
            self.summary.counts[channel] = self.summary.counts.get(channel, 0) + count

    def _describe_channel(self, fields: Fields) -> None:
        number, schema = fields.numbers("HH")
        topic, serialization, said = fields.text(), fields.text(), Fields(fields.data())
        if number in self._known:
            return
        self._known.add(number)
        qos = digest = ""
        while said.left():
            key, value = said.text(), said.text()
            qos = value if key == "offered_qos_profiles" else qos
            digest = value if key == "topic_type_hash" else digest
        name, encoding, definition = self._schemas.get(schema, ("", "", ""))
        self.summary.take(
            Channel(number, topic, name, encoding, definition, digest, qos), serialization
        )

    def _scan(self) -> None:
        """Find what the summary does not say in the data itself, a chunk at a time."""
        self.chunks = ChunkIndex()
        for kind, place, length in self.window.records(self.begin, self.end):
            if kind in (SCHEMA, CHANNEL):
                self._describe(kind, Fields(self._content(place, length)), length)
            elif kind == MESSAGE:
                channel, _, stamp_ns, _ = message_head(self.window, place, length)
                self.loose = True
                if not self._counted:
                    self.summary.widen(stamp_ns, stamp_ns)
                    self._count({channel: 1})
            elif kind == CHUNK:
                chunk = found_chunk(self.window, place, length)
                self._take_chunk(chunk, {})
                self._scan_chunk(chunk_data(self.window, chunk), chunk.packed_bytes)
        self.summary.counted = True

    def _scan_chunk(self, data: memoryview, packed_bytes: int) -> None:
        for kind, place, length in chunk_records(data, packed_bytes):
            if kind in (SCHEMA, CHANNEL):
                self._describe(kind, Fields(data[place : place + length].tobytes()), length)
            elif kind == MESSAGE and not self._counted:
                channel, _, stamp_ns, _ = MESSAGE_HEAD.unpack_from(data, place)
                self.summary.widen(stamp_ns, stamp_ns)
                self._count({channel: 1})

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, int, bytes | Unreadable]]:
        """Channel, time of recording and bytes of the messages of the channels ``wanted``: those of
        chunks in the order of time, loose ones in that of the file. Raises Unreadable where it is
        damaged.
        """
        chunked = chunk_messages(self.window, self.chunks, wanted, start_ns, stop_ns)
        if not self.loose:
            return chunked
        return merge(chunked, self._loose_messages(wanted, start_ns, stop_ns), key=itemgetter(1))

    def _loose_messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, int, bytes | Unreadable]]:
        for kind, place, length in self.window.records(self.begin, self.end):
            if kind == MESSAGE:
                channel, _, stamp_ns, _ = message_head(self.window, place, length)
                if channel in wanted and is_within(stamp_ns, start_ns, stop_ns):
                    size = length - MESSAGE_HEAD.size
                    yield (
                        channel,
                        stamp_ns,
                        (too_large(size) or self.window.at(place + MESSAGE_HEAD.size, size)),
                    )


def message_head(window: Window, place: int, length: int) -> tuple[int, int, int, int]:
    """Channel, number and times in ns of a message that stands outside of chunks."""
    if length < MESSAGE_HEAD.size:
        raise Unreadable(f"a message at {place} is shorter than its fields")
    return MESSAGE_HEAD.unpack(window.at(place, MESSAGE_HEAD.size))
