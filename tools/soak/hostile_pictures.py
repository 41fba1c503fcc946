"""Pictures that crashed, filled or held up a decoder once, made here so that the soak needs no
files.

Nothing here is decoded by the one who makes it.
"""

import os
import zlib
from pathlib import Path

import cv2
import numpy as np

# A folder whose files are sent among the crash pictures; inherited by the cameras' processes.
EXTRA_VARIABLE = "VIT_PERCEPTION_SOAK_PICTURES"
MOST_EXTRA_BYTES = 4_000_000
SCANS = 5000


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return (
        len(content).to_bytes(4, "big")
        + kind
        + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
    )


def png(*extra: bytes) -> bytes:
    """16 × 16 pixels of RGB, with the chunks ``extra`` in front of the picture's data."""
    header = (16).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            *extra,
            png_chunk(b"IDAT", zlib.compress(bytes(16 * 49))),
            png_chunk(b"IEND", b""),
        )
    )


def _jpeg(*flags: int) -> bytes:
    return cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8), list(flags))[1].tobytes()


def crash_pictures() -> list[bytes]:
    """Each of them must be refused: animations, chunks that lie about their length, a JPEG with two
    sizes.
    """
    control = png_chunk(b"fcTL", bytes(4) + (16).to_bytes(4, "big") * 2 + bytes(14))
    animation = (
        png_chunk(b"acTL", b"\0\0\0\2\0\0\0\0"),
        control,
        png_chunk(b"fdAT", b"\0\0\0\1" + zlib.compress(bytes(16 * 49))),
    )
    good, end = png(), png_chunk(b"IEND", b"")
    # 32,000² behind a marker without length; a parser that reads one there lands in a comment's
    # frame of 16 × 16.
    plain = _jpeg()
    size = plain.index(b"\xff\xc0") + 5
    frame = plain[size - 5 : size + 14]
    big = plain[2:size] + (32_000).to_bytes(2, "big") * 2 + plain[size + 4 :]
    two_sizes = [
        b"\xff\xd8\xff" + marker + b"\xff\xfe\xff\xfd" + bytes(0xFFFB - len(frame)) + frame + big
        for marker in (b"\x01", b"\xd0", b"\xd7")
    ]
    return [
        png(*animation),
        png(*animation[:1]),
        png(control),
        png(animation[2]),
        good.replace(end, b"\xff\xff\xff\xf0IEND"),
        good.replace(end, b"\x7f\xff\xff\xffIEND"),
        good.replace(b"\0\0\0\x0dIHDR", b"\0\xff\xff\xffIHDR"),
        good[:33] + b"\x10\0\0\0IDAT" + good[41:],
        *two_sizes,
        *extra_pictures(),
    ]


def slow_pictures() -> list[bytes]:
    """A progressive JPEG with thousands of scans, small and some seconds to decode."""
    progressive = _jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + b"\x2b"
    return [progressive[:-2] + scan * SCANS + b"\xff\xd9"]


def extra_pictures() -> list[bytes]:
    """The first bytes of every plain file of the folder that EXTRA_VARIABLE names."""
    folder = os.environ.get(EXTRA_VARIABLE)
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file()) if folder else []
    pictures = []
    for path in files:
        with path.open("rb") as file:
            pictures.append(file.read(MOST_EXTRA_BYTES))
    return pictures
