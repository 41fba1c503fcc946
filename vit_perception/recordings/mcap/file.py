"""One MCAP file: its summary, read or found in the data, and its messages.

Not the official library `mcap` (1.6 was tried). It unpacks a chunk to whatever comes out: a file of
2 kB whose chunk says 100 bytes and has 64 MiB kept it busy for 100 s. It unpacks all chunks that
overlap in time: a file of 177 kB took 1.5 GiB. It also keeps 586 bytes per chunk, and this module
100.
"""

import struct
from collections.abc import Collection, Iterator
from heapq import merge
from operator import attrgetter
from typing import BinaryIO

from vit_perception.recordings.kind import MCAP_MAGIC
from vit_perception.recordings.mcap.chunk_index import (
    Chunk,
    ChunkIndex,
    chunk_data,
    found_chunk,
    indexed_chunk,
)
from vit_perception.recordings.mcap.chunks import chunk_messages, is_within, too_large
from vit_perception.recordings.mcap.records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    FOOTER,
    HEADER,
    MESSAGE,
    MESSAGE_HEAD,
    RECORD_HEAD,
    SCHEMA,
    STATISTICS,
    Fields,
    Record,
    Window,
    chunk_records,
    message_head,
)
from vit_perception.recordings.storage import (
    MOST_TIMES_UNPACKED,
    Channel,
    Definition,
    StoredMessage,
    Summary,
    Unreadable,
    mib,
    most_unpacked,
)

MOST_RECORD_BYTES = 16 << 20  # of a record that describes the messages
MOST_DESCRIBED_BYTES = 64 << 20  # of all schemas and channels
FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MCAP_MAGIC)


class McapFile:
    """One open MCAP file; ``summary`` says what is in it.

    Memory: the index of its chunks, and while messages are read the chunks that overlap in time.

    Raises:
        Unreadable: it is not a complete MCAP file.
    """

    def __init__(self, file: BinaryIO):
        self.window = Window(file)
        self.chunks = ChunkIndex()
        # Whether there are messages outside of chunks.
        self.loose = False
        self.summary = Summary([], [], {}, counted=False)
        self._schemas: dict[int, Definition] = {}
        self._known: set[int] = set()  # channels
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
        """Return begin and end of the data, and the place of the summary (0 if there is none)."""
        window = self.window
        if (
            window.size < len(MCAP_MAGIC) + RECORD_HEAD.size + FOOTER_BYTES
            or window.at(0, len(MCAP_MAGIC)) != MCAP_MAGIC
        ):
            raise Unreadable("it does not begin as an MCAP file")
        footer = window.size - FOOTER_BYTES
        header = next(window.records(len(MCAP_MAGIC), footer), None)
        if header is None or header.kind != HEADER:
            raise Unreadable("it does not begin with the header of an MCAP file")
        begin = header.place + header.length
        data = window.at(footer, FOOTER_BYTES)
        if RECORD_HEAD.unpack_from(data) != (FOOTER, 20) or not data.endswith(MCAP_MAGIC):
            raise Unreadable("it does not end as an MCAP file")
        (summary,) = struct.unpack_from("<Q", data, RECORD_HEAD.size)
        if summary and not begin <= summary <= footer:
            raise Unreadable("its summary stands outside of it")
        return begin, summary or footer, summary

    def _read_summary(self, begin: int) -> None:
        for record in self.window.records(begin, self.window.size - FOOTER_BYTES):
            if record.kind in (SCHEMA, CHANNEL, CHUNK_INDEX, STATISTICS):
                self._describe(record.kind, self._content(record))

    def _content(self, record: Record) -> bytes:
        if record.length > MOST_RECORD_BYTES:
            raise Unreadable(
                f"a record of {record.length} bytes describes its messages; accepted: "
                f"{MOST_RECORD_BYTES}"
            )
        return self.window.at(record.place, record.length)

    def _describe(self, kind: int, content: bytes) -> None:
        """Take a record that describes the messages."""
        if kind in (SCHEMA, CHANNEL):
            self._described_bytes += len(content)
            if self._described_bytes > MOST_DESCRIBED_BYTES:
                raise Unreadable(
                    f"its schemas and channels have more than {MOST_DESCRIBED_BYTES} bytes"
                )
        fields = Fields(content)
        if kind == SCHEMA:
            self._describe_schema(fields)
        elif kind == CHANNEL:
            self._describe_channel(fields)
        elif kind == CHUNK_INDEX:
            self._take_chunk(*indexed_chunk(fields))
        elif kind == STATISTICS and not self._counted:
            self._take_statistics(fields)

    def _describe_schema(self, fields: Fields) -> None:
        (number,) = fields.numbers("H")
        name = fields.text()
        encoding = fields.text()
        if number not in self._schemas:
            text = fields.data().decode(errors="replace")
            self._schemas[number] = Definition(name, encoding, text)

    def _describe_channel(self, fields: Fields) -> None:
        number, schema = fields.numbers("HH")
        topic = fields.text()
        serialization = fields.text()
        metadata = Fields(fields.data())
        if number in self._known:
            return
        self._known.add(number)
        values: dict[str, str] = {}
        while metadata.left():
            key = metadata.text()
            values[key] = metadata.text()
        channel = Channel(
            id=number,
            topic=topic,
            definition=self._schemas.get(schema, Definition("")),
            digest=values.get("topic_type_hash", ""),
            qos=values.get("offered_qos_profiles", ""),
        )
        self.summary.take(channel, serialization)

    def _take_statistics(self, fields: Fields) -> None:
        self._counted = True
        self.summary.counted = True
        messages, _, _, _, _, chunks, start_ns, last_ns = fields.numbers("QHIIIIQQ")
        self._stated_chunks = chunks
        self.summary.start_ns = 0
        self.summary.stop_ns = 0
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
            for channel, count in counts.items():
                self.summary.add_count(channel, count)

    def _count(self, channel: int, stamp_ns: int) -> None:
        if not self._counted:
            self.summary.widen(stamp_ns, stamp_ns)
            self.summary.add_count(channel, 1)

    def _scan(self) -> None:
        """Find in the data what the summary does not say, one chunk at a time."""
        self.chunks = ChunkIndex()
        for record in self.window.records(self.begin, self.end):
            if record.kind in (SCHEMA, CHANNEL):
                self._describe(record.kind, self._content(record))
            elif record.kind == MESSAGE:
                head = self.window.message_head(record)
                self.loose = True
                self._count(head.channel, head.stamp_ns)
            elif record.kind == CHUNK:
                chunk = found_chunk(self.window, record.place, record.length)
                self._take_chunk(chunk, {})
                self._scan_chunk(chunk_data(self.window, chunk), chunk.packed_bytes)
        self.summary.counted = True

    def _scan_chunk(self, data: memoryview, packed_bytes: int) -> None:
        for kind, place, length in chunk_records(data, packed_bytes):
            if kind in (SCHEMA, CHANNEL):
                self._describe(kind, data[place : place + length].tobytes())
            elif kind == MESSAGE:
                head = message_head(data, place)
                self._count(head.channel, head.stamp_ns)

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[StoredMessage]:
        """Yield messages of the channels ``wanted`` from ``start_ns`` until before ``stop_ns``.

        Messages of chunks are in the order of time, messages outside of chunks in that of the file.

        Raises:
            Unreadable: the file is damaged.
        """
        chunked = chunk_messages(
            self.window, self.chunks, wanted, start_ns=start_ns, stop_ns=stop_ns
        )
        if not self.loose:
            return chunked
        loose = self._loose_messages(wanted, start_ns, stop_ns)
        return merge(chunked, loose, key=attrgetter("stamp_ns"))

    def _loose_messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[StoredMessage]:
        for record in self.window.records(self.begin, self.end):
            if record.kind != MESSAGE:
                continue
            head = self.window.message_head(record)
            if head.channel in wanted and is_within(head.stamp_ns, start_ns, stop_ns):
                size = record.length - MESSAGE_HEAD.size
                place = record.place + MESSAGE_HEAD.size
                data = too_large(size) or self.window.at(place, size)
                yield StoredMessage(head.channel, head.stamp_ns, data)
