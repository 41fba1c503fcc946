"""MCAP files of the tests' own making, record by record, so that they can also be wrong."""

import struct
import zlib
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def record(kind: int, content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<BQ", kind, len(content) if length is None else length) + content


def schema(number: int, name: str, encoding: str = "ros2msg", data: str | bytes = b"") -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text(encoding) + text(data))


def channel(
    number: int,
    of_schema: int,
    topic: str,
    encoding: str = "cdr",
    said: dict[str, str] | None = None,
) -> bytes:
    pairs = b"".join(text(key) + text(value) for key, value in (said or {}).items())
    return record(
        4, struct.pack("<HH", number, of_schema) + text(topic) + text(encoding) + text(pairs)
    )


def message(number: int, stamp_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, stamp_ns, stamp_ns) + data)


def chunk(
    start_ns: int, last_ns: int, packed: bytes, size: int, compression: str = "", checksum: int = 0
) -> bytes:
    return record(
        6,
        struct.pack("<QQQI", start_ns, last_ns, size, checksum)
        + text(compression)
        + struct.pack("<Q", len(packed))
        + packed,
    )


def chunk_of(messages: list[tuple[int, int, bytes]], described: bytes = b"") -> bytes:
    """A chunk of (channel, time in ns, bytes) that says the truth."""
    data = described + b"".join(message(*each) for each in messages)
    stamps = [stamp_ns for _, stamp_ns, _ in messages]
    return chunk(min(stamps), max(stamps), data, len(data), checksum=zlib.crc32(data))


def index(
    start_ns: int,
    last_ns: int,
    place: int,
    length: int,
    packed: int,
    size: int,
    compression: str = "",
    channels: tuple[int, ...] = (),
) -> bytes:
    offsets = b"".join(struct.pack("<HQ", number, 0) for number in channels)
    return record(
        8,
        struct.pack("<QQQQ", start_ns, last_ns, place, length)
        + text(offsets)
        + struct.pack("<Q", 0)
        + text(compression)
        + struct.pack("<QQ", packed, size),
    )


def statistics(counts: dict[int, int], start_ns: int, last_ns: int, chunks: int) -> bytes:
    return record(
        11,
        struct.pack(
            "<QHIIIIQQ", sum(counts.values()), 0, len(counts), 0, 0, chunks, start_ns, last_ns
        )
        + text(b"".join(struct.pack("<HQ", *pair) for pair in counts.items())),
    )


def header(profile: str = "ros2") -> bytes:
    return MAGIC + record(1, text(profile) + text("test"))


def write(path: Path, data: bytes, summary: bytes = b"", begin: bytes | None = None) -> Path:
    """A file of ``data``, with ``summary`` behind it where there is one."""
    whole = (header() if begin is None else begin) + data
    path.write_bytes(
        whole + summary + record(2, struct.pack("<QQI", len(whole) if summary else 0, 0, 0)) + MAGIC
    )
    return path
