"""Small pictures of every kind that a sender can make: each colour type, marker, chunk and packing
at least once.
"""

import io
import itertools
import zlib

import cv2
import numpy as np
from PIL import Image

from vit_perception.image.png_file import SIGNATURE

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (40, 24), interpolation=cv2.INTER_CUBIC)
NOISE = RNG.integers(0, 256, (96, 144, 3), np.uint8)
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
TEXT = b"Comment\0\0" + zlib.compress(b"x" * 100_000)
# What each ancillary chunk holds; those of animations are there, too.
ANCILLARY = {
    b"gAMA": (45455).to_bytes(4, "big"),
    b"cHRM": bytes(range(32)),
    b"sRGB": b"\1",
    b"sBIT": b"\5\6\5\4",
    b"iCCP": b"profile\0\0" + zlib.compress(bytes(5000)),
    b"bKGD": b"\0\1\0\2\0\3",
    b"hIST": bytes(32),
    b"tRNS": b"\0\1\0\2\0\3",
    b"pHYs": bytes(8) + b"\1",
    b"sPLT": b"name\0\x08" + bytes(60),
    b"tIME": b"\x07\xea\1\2\3\4\5",
    b"tEXt": b"Title\0a",
    b"zTXt": TEXT,
    b"iTXt": b"Title\0\1\0en\0t\0" + zlib.compress(b"y" * 5000),
    b"eXIf": b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
    b"cICP": b"\x09\x10\0\1",
    b"mDCV": bytes(24),
    b"cLLI": bytes(8),
    b"oFFs": bytes(9),
    b"sCAL": b"\0011\0001",
    b"pCAL": b"p\0" + bytes(9) + b"\1u\0",
    b"vpAg": bytes(9),
    b"acTL": b"\0\0\0\2\0\0\0\0",
    b"fcTL": b"\0\0\0\0\0\0\0\x28\0\0\0\x18" + bytes(14),
    b"fdAT": b"\0\0\0\1" + zlib.compress(bytes(2904)),
    b"prVt": b"own",
}


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return (
        len(content).to_bytes(4, "big")
        + kind
        + content
        + zlib.crc32(kind + content).to_bytes(4, "big")
    )


def row_bytes_in_all(width: int, height: int, depth: int, colour_type: int, interlace: int) -> int:
    total = 0
    for x, y, across, down in PASSES if interlace else ((0, 0, 1, 1),):
        columns, rows = len(range(x, width, across)), len(range(y, height, down))
        total += (
            rows * (1 + (columns * depth * SAMPLES[colour_type] + 7) // 8)
            if columns and rows
            else 0
        )
    return total


def png_header(width: int, height: int, depth: int, colour_type: int, interlace: int) -> bytes:
    return (
        width.to_bytes(4, "big")
        + height.to_bytes(4, "big")
        + bytes([depth, colour_type, 0, 0, interlace])
    )


def png(
    colour_type: int, depth: int, interlace: int, extra: tuple[bytes, ...] = (), size=(40, 24)
) -> bytes:
    """Rows of noise, each with a filter of 0 to 4, in two IDAT chunks."""
    header = png_header(*size, depth, colour_type, interlace)
    rows = RNG.integers(
        0, 5, row_bytes_in_all(*size, depth, colour_type, interlace), np.uint8
    ).tobytes()
    packed, palette = zlib.compress(rows), png_chunk(b"PLTE", bytes(range(48))[: 3 << depth])
    return b"".join(
        (
            SIGNATURE,
            png_chunk(b"IHDR", header),
            palette if colour_type == 3 else b"",
            *(png_chunk(kind, ANCILLARY[kind]) for kind in extra),
            png_chunk(b"IDAT", packed[:20]),
            png_chunk(b"IDAT", packed[20:]),
            png_chunk(b"IEND", b""),
        )
    )


def saved(form: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(file, form, **options)
    return file.getvalue()


def pngs() -> list[bytes]:
    plain = [png(c, d, i) for c in DEPTHS for d, i in itertools.product(DEPTHS[c], (0, 1))]
    return (
        plain
        + [png(2, 8, 0, (kind,)) for kind in ANCILLARY]
        + [png(6, 8, 0, (b"acTL", b"fcTL", b"fdAT"))]
    )


def jpegs() -> list[bytes]:
    def opencv(*flags: int, pixels: np.ndarray = RGB) -> bytes:
        return cv2.imencode(".jpg", pixels, list(flags))[1].tobytes()

    progressive, restarts, sampling = (
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    )
    samplings = [
        opencv(sampling, factor, progressive, p, restarts, r)
        for p in (0, 1)
        for r in (0, 2)
        for factor in (0x111111, 0x211111, 0x121111, 0x221111, 0x411111)
    ]
    # Long enough for the loops of libjpeg-turbo that take several bytes at once.
    long = [
        opencv(*flags, cv2.IMWRITE_JPEG_QUALITY, 98, pixels=NOISE)
        for flags in ((), (progressive, 1), (restarts, 2), (sampling, 0x111111))
    ]
    exif = Image.Exif()
    exif[0x112] = 6
    kinds = [saved("JPEG", mode, progressive=p) for mode in ("L", "CMYK") for p in (False, True)]
    return (
        samplings
        + long
        + kinds
        + [
            saved("JPEG", keep_rgb=True),
            saved("JPEG", exif=exif, comment=b"text", icc_profile=bytes(300), dpi=(72, 72)),
        ]
    )


def bmps() -> list[bytes]:
    plain = saved("BMP")
    sixteen = bytearray(plain[:54] + bytes(2 * 40 * 24))
    sixteen[28] = 16
    packed = bytearray(saved("BMP", "P"))
    packed[30] = 1
    return [
        plain,
        bytes(sixteen),
        bytes(packed),
        *(saved("BMP", mode) for mode in ("1", "L", "P", "RGBA")),
    ]


def webps() -> list[bytes]:
    frames = [Image.fromarray(np.roll(RGB, k, 1)) for k in (1, 2)]
    return [
        saved("WEBP"),
        saved("WEBP", lossless=True),
        saved("WEBP", "RGBA"),
        saved("WEBP", "RGBA", lossless=True),
        saved("WEBP", exif=b"Exif\0\0MM\0*", icc_profile=bytes(300)),
        saved("WEBP", save_all=True, append_images=frames),
    ]
