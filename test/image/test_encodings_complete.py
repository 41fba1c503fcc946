"""Every encoding that sensor_msgs names: decoded like an independent implementation, or refused by
name.

The independent ones are Python's struct module, the arithmetic of ITU-R BT.601 and of bilinear
demosaicing written out in numpy, and Pillow for files.
"""

import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from test.image.image_messages import compressed, image
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.encodings import ACCEPTED_ENCODINGS
from vit_perception.wire.records import BadInput

COLOURLESS = (
    "8UC2",
    *(f"{depth}C{n}" for depth in ("8S", "16U", "16S", "32S", "32F", "64F") for n in range(1, 5)),
)
HEADER = (
    Path(os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)[0])
    / "include/sensor_msgs/sensor_msgs/image_encodings.hpp"
)


def test_every_encoding_of_the_header_is_decoded_or_refused_as_colourless():
    if not HEADER.is_file():
        pytest.skip(f"no {HEADER}: sensor_msgs is not installed at AMENT_PREFIX_PATH")
    named = set(
        re.findall(r'^const char [A-Z0-9_]+\[\] = "(\w+)";', HEADER.read_text(), re.MULTILINE)
    )
    assert len(named) >= 52
    # Jazzy's header has no nv12 yet.
    assert named | {"nv12"} == set(ACCEPTED_ENCODINGS) | set(COLOURLESS)


@pytest.mark.parametrize("encoding", [*COLOURLESS, "8UC5", "16UC", "32FC7"])
def test_measurements_are_refused_by_name_with_what_is_accepted(encoding):
    with pytest.raises(BadInput) as caught:
        decode_image(image(encoding, (4, 4), np.zeros((4, 128))))
    assert caught.value.reason == "encoding"
    assert repr(encoding) in str(caught.value) and "accepted: rgb8" in str(caught.value)
    assert "depth" in str(caught.value)


# -- packed samples: struct reads them one by one --------------------------------------------------

ORDER = {
    "rgb": (0, 1, 2),
    "bgr": (2, 1, 0),
    "rgba": (0, 1, 2),
    "bgra": (2, 1, 0),
    "mono": (0, 0, 0),
    "8UC1": (0, 0, 0),
    "8UC3": (2, 1, 0),
    "8UC4": (2, 1, 0),
}
PACKED = [
    (
        e,
        next(
            len_
            for start, len_ in (
                ("rgba", 4),
                ("bgra", 4),
                ("8UC4", 4),
                ("mono", 1),
                ("8UC1", 1),
                ("", 3),
            )
            if e.startswith(start)
        ),
    )
    for e in ACCEPTED_ENCODINGS
    if e.startswith(("rgb", "bgr", "mono", "8U"))
]


@pytest.mark.parametrize("is_bigendian", [0, 1])
@pytest.mark.parametrize("encoding, channels", PACKED)
def test_packed_samples_equal_those_that_struct_reads(encoding, channels, is_bigendian):
    height, width, pad, sixteen = 5, 7, 3, encoding.endswith("16")
    row_bytes = width * channels * (2 if sixteen else 1)
    rows = np.random.default_rng(1).integers(0, 256, (height, row_bytes), np.uint8)
    message = image(encoding, (height, width), rows, pad, is_bigendian)
    order = next(
        v
        for k, v in sorted(ORDER.items(), key=lambda item: -len(item[0]))
        if encoding.startswith(k)
    )
    expected = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        samples = struct.unpack_from(
            f"{'>' if is_bigendian else '<'}{width * channels}{'H' if sixteen else 'B'}",
            message.data,
            y * message.step,
        )
        for x in range(width):
            expected[y, x] = [samples[x * channels + c] // (256 if sixteen else 1) for c in order]
    np.testing.assert_array_equal(decode_image(message).pixels, expected)


# -- YUV: the arithmetic of BT.601, limited range --------------------------------------------------


def bt601(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601: luma 16 to 235, chroma 16 to 240 around 128, Kr = 0.299, Kb = 0.114."""
    luma, blue, red = (y - 16.0) / 219, (u - 128.0) / 224, (v - 128.0) / 224
    r, b = luma + 2 * (1 - 0.299) * red, luma + 2 * (1 - 0.114) * blue
    g = (luma - 0.299 * r - 0.114 * b) / 0.587
    return 255 * np.stack([r, g, b], axis=-1)


def planes_of(encoding: str, message) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U and V at every pixel, picked out of the bytes by the kernel's description of the pixel
    formats.
    """
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    y, x = np.mgrid[:height, :width]
    if encoding in ("yuyv", "yuv422_yuy2", "uyvy", "yuv422"):
        luma, chroma = (1, 0) if encoding in ("uyvy", "yuv422") else (0, 1)
        pair = y * step + x // 2 * 4
        return data[y * step + 2 * x + luma], data[pair + chroma], data[pair + chroma + 2]
    if encoding == "nv24":
        u = height * step + y * 2 * step + 2 * x
        return data[y * step + x], data[u], data[u + 1]
    first = height * step + y // 2 * step + x // 2 * 2
    u, v = (first, first + 1) if encoding == "nv12" else (first + 1, first)
    return data[y * step + x], data[u], data[v]


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize(
    "encoding, size",
    [
        *((e, (8, 10)) for e in ("yuyv", "yuv422_yuy2", "uyvy", "yuv422", "nv12", "nv21", "nv24")),
        ("nv24", (5, 7)),
        ("yuyv", (5, 6)),
    ],
)
def test_yuv_equals_the_arithmetic_of_bt601(encoding, size, pad):
    height, width = size
    rows = {"nv12": height * 3 // 2, "nv21": height * 3 // 2, "nv24": height * 3}.get(
        encoding, height
    )
    row_bytes = width if encoding.startswith("nv") else 2 * width
    values = np.random.default_rng(2).integers(0, 256, (rows, row_bytes), np.uint8)
    message = image(encoding, size, values, pad)
    y, u, v = planes_of(encoding, message)
    # OpenCV, and so cv_bridge, clips luma below 16.
    expected = np.clip(bt601(np.maximum(y, 16), u, v), 0, 255)
    # 1 for rounding, and 1 for OpenCV's constants of three digits.
    assert np.abs(decode_image(message).pixels - expected).max() <= 2


# -- Bayer: the mean of a colour's neighbours ------------------------------------------------------


def bilinear(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """The classical bilinear demosaicing, pixel by pixel; inner pixels only."""
    height, width = mosaic.shape
    colour = [
        ["rgb".index(pattern[2 * (y % 2) + x % 2]) for x in range(width)] for y in range(height)
    ]
    result = np.empty((height - 2, width - 2, 3))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for c in range(3):
                if colour[y][x] == c:
                    result[y - 1, x - 1, c] = mosaic[y, x]
                    continue
                near = [
                    (dy, dx)
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if colour[y + dy][x + dx] == c
                ]
                # A green pixel's four neighbours are at distance 1; those at the corners are
                # further away.
                closest = min(abs(dy) + abs(dx) for dy, dx in near)
                result[y - 1, x - 1, c] = np.mean(
                    [int(mosaic[y + dy, x + dx]) for dy, dx in near if abs(dy) + abs(dx) == closest]
                )
    return result


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_equals_bilinear_demosaicing(pattern, bits, size):
    mosaic = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    rows = (
        mosaic if bits == 8 else np.repeat(mosaic, 2, axis=1)
    )  # high and low byte alike: either order
    pixels = decode_image(image(f"bayer_{pattern}{bits}", size, rows, pad=2)).pixels
    assert pixels.shape == (*size, 3)
    assert np.abs(pixels[1:-1, 1:-1] - bilinear(mosaic, pattern)).max() <= 1


# -- files: Pillow ---------------------------------------------------------------------------------

RANDOM = np.random.default_rng(4).integers(0, 256, (33, 47, 3), np.uint8)
SMOOTH = np.asarray(Pillow.fromarray(RANDOM[:5, :7]).resize((47, 33)))


def saved(picture: Pillow.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_gamma() -> bytes:
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    return saved(Pillow.fromarray(RANDOM), "PNG", pnginfo=info)


FILES = {
    "png rgb": (0, saved(Pillow.fromarray(RANDOM), "PNG")),
    "png grey": (0, saved(Pillow.fromarray(RANDOM[..., 0]), "PNG")),
    "png grey and alpha": (0, saved(Pillow.fromarray(RANDOM).convert("LA"), "PNG")),
    "png rgb and alpha": (0, saved(Pillow.fromarray(np.dstack([RANDOM, RANDOM[..., 0]])), "PNG")),
    "png palette": (0, saved(Pillow.fromarray(RANDOM).quantize(200), "PNG")),
    "png 1 bit": (0, saved(Pillow.fromarray(RANDOM).convert("1"), "PNG")),
    "png with a gamma of 1": (0, with_gamma()),
    "jpeg 4:2:0": (2, saved(Pillow.fromarray(SMOOTH), "JPEG")),
    "jpeg 4:4:4": (2, saved(Pillow.fromarray(SMOOTH), "JPEG", subsampling=0)),
    "jpeg progressive": (2, saved(Pillow.fromarray(SMOOTH), "JPEG", progressive=True)),
    "jpeg grey": (2, saved(Pillow.fromarray(SMOOTH[..., 0]), "JPEG")),
    "jpeg cmyk": (2, saved(Pillow.fromarray(SMOOTH).convert("CMYK"), "JPEG")),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_decodes_as_in_pillow(kind):
    tolerance, data = FILES[kind]
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
    pixels = decode_compressed(compressed("", data)).pixels
    assert pixels.shape == (33, 47, 3) and np.abs(pixels - expected).max() <= tolerance


@pytest.mark.parametrize(
    "image_format, swapped",
    [("rgb16; png compressed bgr16", False), ("png", False), ("bgr16; png compressed rgb16", True)],
)
def test_a_png_of_16_bits_gives_the_high_byte(image_format, swapped):
    """Pillow has no 16-bit RGB: the PNG is written by hand, big-endian samples after a filter byte
    of 0.
    """
    import zlib

    samples = np.random.default_rng(5).integers(0, 1 << 16, (6, 9, 3), np.uint16)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    expected = (samples >> 8).astype(np.uint8)
    pixels = decode_compressed(compressed(image_format, data)).pixels
    np.testing.assert_array_equal(pixels, expected[..., ::-1] if swapped else expected)


def test_a_grey_png_of_16_bits_gives_the_high_byte():
    samples = np.random.default_rng(6).integers(0, 1 << 16, (6, 9), np.uint16)
    data = saved(Pillow.fromarray(samples), "PNG")
    pixels = decode_compressed(compressed("mono16; png compressed ", data)).pixels
    np.testing.assert_array_equal(
        pixels, np.repeat((samples >> 8).astype(np.uint8)[..., None], 3, axis=2)
    )


def test_the_orientation_of_a_png_does_not_turn_the_picture():
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = saved(Pillow.fromarray(RANDOM), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_compressed(compressed("png", data)).pixels, RANDOM)


VIDEO = {
    "h264": b"\0\0\0\1\x67\x42\0\x1e",
    "hevc": b"\0\0\0\1\x40\1\x0c\1",
    "theora": b"\x80theora\3\2\1",
    "bgr8; tiff compressed bgr8": saved(Pillow.fromarray(RANDOM), "TIFF"),
    "gif": saved(Pillow.fromarray(RANDOM), "GIF"),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 ",
}


@pytest.mark.parametrize("image_format", VIDEO)
def test_other_codecs_are_refused_by_name_with_what_is_accepted(image_format):
    with pytest.raises(BadInput) as caught:
        decode_compressed(compressed(image_format, VIDEO[image_format]))
    assert caught.value.reason == "encoding"
    assert repr(image_format) in str(caught.value) and "accepted: JPEG" in str(caught.value)
