"""Every encoding against values worked out by hand, and every bad input against its reason."""

from types import SimpleNamespace

import numpy as np
import pytest

from test.image.image_messages import header, image, random_rows
from vit_perception.image.decode import decode_image
from vit_perception.image.encodings import ACCEPTED_ENCODINGS
from vit_perception.wire.records import BadInput
from vit_perception.wire.stamps import stamp_ns_of

RED, GREEN, BLUE, GREY = [200, 10, 20], [30, 210, 40], [50, 60, 220], [90, 90, 90]
# 2 x 4 px, no two rows or columns alike.
PICTURE = np.array(
    [[RED, GREEN, BLUE, GREY], [[1, 2, 3], [4, 5, 6], [7, 8, 9], [250, 251, 252]]], np.uint8
)
LUMINANCE = np.array([[0, 50, 100, 255], [1, 2, 3, 4]], np.uint8)


def bytes_of(samples: np.ndarray, dtype: str = "u1") -> np.ndarray:
    """(H, W, C) samples as rows of bytes; 16-bit ones are 256 * sample + 77, whose high byte is the
    sample.
    """
    if dtype != "u1":
        samples = (samples.astype(np.uint16) * 256 + 77).astype(dtype)
    return np.frombuffer(samples.tobytes(), np.uint8).reshape(len(samples), -1)


def with_alpha(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([samples, np.full((2, 4, 1), 7, np.uint8)], axis=2)


COLOUR_ROWS = {
    "rgb8": bytes_of(PICTURE),
    "bgr8": bytes_of(PICTURE[..., ::-1]),
    "8UC3": bytes_of(PICTURE[..., ::-1]),
    "rgba8": bytes_of(with_alpha(PICTURE)),
    "bgra8": bytes_of(with_alpha(PICTURE[..., ::-1])),
    "8UC4": bytes_of(with_alpha(PICTURE[..., ::-1])),
    "rgb16": bytes_of(PICTURE, "<u2"),
    "bgr16": bytes_of(PICTURE[..., ::-1], "<u2"),
    "rgba16": bytes_of(with_alpha(PICTURE), "<u2"),
    "bgra16": bytes_of(with_alpha(PICTURE[..., ::-1]), "<u2"),
}
GREY_ROWS = {
    "mono8": bytes_of(LUMINANCE),
    "8UC1": bytes_of(LUMINANCE),
    "mono16": bytes_of(LUMINANCE, "<u2"),
}

# (Y, U, V) of pure colours in ITU-R BT.601 with limited range, from the standard's table of colour
# bars.
YUV_BARS = {
    "red": (81, 90, 240),
    "green": (145, 54, 34),
    "blue": (41, 240, 110),
    "white": (235, 128, 128),
}
RGB_BARS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.mark.parametrize("encoding", COLOUR_ROWS)
def test_colour_has_the_values_written_down(encoding):
    decoded = decode_image(image(encoding, (2, 4), COLOUR_ROWS[encoding]))
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.tolist() == PICTURE.tolist()
    assert (decoded.stamp_ns, decoded.frame_id, decoded.size) == (
        12_000_000_345,
        "wrist_optical",
        (2, 4),
    )


@pytest.mark.parametrize("encoding", GREY_ROWS)
def test_grey_is_repeated_over_the_channels(encoding):
    decoded = decode_image(image(encoding, (2, 4), GREY_ROWS[encoding]))
    assert decoded.pixels.tolist() == [[[v] * 3 for v in row] for row in LUMINANCE.tolist()]


@pytest.mark.parametrize("encoding", [e for e in ACCEPTED_ENCODINGS if e.endswith("16")])
def test_big_endian_samples_give_the_same_picture(encoding):
    channels = {"mono": 1, "baye": 1, "rgba": 4, "bgra": 4}.get(encoding[:4], 3)
    samples = np.random.default_rng(3).integers(0, 1 << 16, (4, 6 * channels), np.uint16)
    little, big = (
        np.frombuffer(samples.astype(t).tobytes(), np.uint8).reshape(4, -1) for t in ("<u2", ">u2")
    )
    expected = decode_image(image(encoding, (4, 6), little)).pixels
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(
        decode_image(image(encoding, (4, 6), big, is_bigendian=1)).pixels, expected
    )


@pytest.mark.parametrize("bits", ["8", "16"])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_mosaic_of_one_colour_gives_that_colour(pattern, bits):
    level = dict(zip("rgb", RED))
    tile = np.array(
        [[level[pattern[0]], level[pattern[1]]], [level[pattern[2]], level[pattern[3]]]], np.uint8
    )
    rows = bytes_of(np.tile(tile, (3, 4)), "u1" if bits == "8" else "<u2")
    decoded = decode_image(image(f"bayer_{pattern}{bits}", (6, 8), rows))
    assert np.unique(decoded.pixels.reshape(-1, 3), axis=0).tolist() == [RED]


def test_bayer_keeps_the_place_of_a_colour():
    # Left half red, right half blue, in RGGB: a pattern shifted by one would mix them up.
    mosaic = np.zeros((6, 8), np.uint8)
    mosaic[0::2, 0:4:2] = 200
    mosaic[1::2, 5:8:2] = 100
    pixels = decode_image(image("bayer_rggb8", (6, 8), mosaic)).pixels
    assert pixels[3, 1].tolist() == [200, 0, 0]
    assert pixels[3, 6].tolist() == [0, 0, 100]


def yuv422_rows(order: str) -> list[list[int]]:
    """Two rows of two pairs: red, green; blue, white."""
    rows = []
    for left, right in (("red", "green"), ("blue", "white")):
        pairs = [dict(zip("yuv", YUV_BARS[name])) for name in (left, right)]
        rows.append([pair[letter] for pair in pairs for letter in order])
    return rows


@pytest.mark.parametrize(
    "encoding, order",
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv422_gives_the_colour_bars(encoding, order):
    pixels = decode_image(image(encoding, (2, 4), yuv422_rows(order))).pixels.astype(int)
    expected = [
        [RGB_BARS[name] for name in names for _ in range(2)]
        for names in (("red", "green"), ("blue", "white"))
    ]
    assert np.abs(pixels - expected).max() <= 2


@pytest.mark.parametrize("encoding, order", [("nv12", "uv"), ("nv21", "vu")])
def test_yuv420_gives_the_colour_bars(encoding, order):
    bars = [dict(zip("yuv", YUV_BARS[name])) for name in ("red", "blue")]
    luma = [bars[0]["y"]] * 2 + [bars[1]["y"]] * 2
    chroma = [bar[letter] for bar in bars for letter in order]
    pixels = decode_image(image(encoding, (2, 4), [luma, luma, chroma])).pixels.astype(int)
    assert np.abs(pixels - [[RGB_BARS["red"]] * 2 + [RGB_BARS["blue"]] * 2] * 2).max() <= 2


def nv24_rows(rows: list[list[str]]) -> np.ndarray:
    luma = [[YUV_BARS[name][0] for name in row] for row in rows]
    chroma = np.array([[YUV_BARS[name][1:] for name in row] for row in rows]).reshape(
        len(rows) * 2, -1
    )
    return np.concatenate([luma, chroma])


def test_nv24_has_a_colour_of_its_own_for_every_pixel():
    names = [["red", "green", "blue"], ["white", "red", "green"]]
    pixels = decode_image(image("nv24", (2, 3), nv24_rows(names))).pixels.astype(int)
    assert np.abs(pixels - [[RGB_BARS[name] for name in row] for row in names]).max() <= 2


def test_nv24_and_yuyv_use_one_yuv_formula():
    rng = np.random.default_rng(5)
    pairs = rng.integers(0, 256, (4, 3, 4), np.uint8)  # Y0 U Y1 V
    luma, chroma = (
        pairs[..., 0::2].reshape(4, 6),
        np.repeat(pairs[..., 1::2], 2, axis=1).reshape(8, 6),
    )
    np.testing.assert_array_equal(
        decode_image(image("nv24", (4, 6), np.concatenate([luma, chroma]))).pixels,
        decode_image(image("yuyv", (4, 6), pairs.reshape(4, 12))).pixels,
    )


@pytest.mark.parametrize("pad", [1, 2, 37])
@pytest.mark.parametrize("encoding", ACCEPTED_ENCODINGS)
def test_padded_rows_give_the_same_picture(encoding, pad):
    """rosbags-image 0.10.4 shears every picture whose step is not the width's."""
    rows = random_rows(encoding, 6, 8)
    expected = decode_image(image(encoding, (6, 8), rows)).pixels
    if encoding == "nv24":
        # A chroma row is two steps: its padding comes once, at its end.
        luma = np.pad(rows[:6], ((0, 0), (0, pad)))
        chroma = np.pad(rows[6:].reshape(6, 16), ((0, 0), (0, 2 * pad))).reshape(12, 8 + pad)
        padded = image(encoding, (6, 8), np.concatenate([luma, chroma]))
    else:
        padded = image(encoding, (6, 8), rows, pad=pad)
    assert padded.step == image(encoding, (6, 8), rows).step + pad
    assert expected.shape == (6, 8, 3) and len(np.unique(expected)) > 4
    np.testing.assert_array_equal(decode_image(padded).pixels, expected)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "8UC3", "rgb16", "bgr16"])
@pytest.mark.parametrize("pad", [0, 5])
def test_colour_is_a_view_of_the_message(encoding, pad):
    message = image(encoding, (2, 4), COLOUR_ROWS[encoding], pad=pad)
    message.data = np.frombuffer(message.data, np.uint8)
    assert np.shares_memory(decode_image(message).pixels, message.data)


def refusal(message: SimpleNamespace) -> BadInput:
    with pytest.raises(BadInput) as caught:
        decode_image(message)
    return caught.value


@pytest.mark.parametrize(
    "encoding", ["16UC1", "32FC1", "8UC2", "64FC3", "rgb9", "", "bayer_rggb12"]
)
def test_unknown_encoding_is_refused_with_the_accepted_ones(encoding):
    error = refusal(image(encoding, (2, 4), GREY_ROWS["mono8"]))
    assert error.reason == "encoding"
    assert repr(encoding) in str(error) and all(
        name in str(error) for name in ("bgr8", "nv24", "bayer_grbg16")
    )


@pytest.mark.parametrize("encoding", ACCEPTED_ENCODINGS)
def test_a_step_below_the_row_is_refused(encoding):
    message = image(encoding, (6, 8), random_rows(encoding, 6, 8))
    row_bytes, message.step = message.step, message.step - 1
    error = refusal(message)
    assert error.reason == "size" and f"accepted: {row_bytes}" in str(error)


@pytest.mark.parametrize("size", [(0, 4), (2, 0), (0, 0)])
def test_zero_size_is_refused(size):
    assert refusal(image("rgb8", size, COLOUR_ROWS["rgb8"])).reason == "size"


@pytest.mark.parametrize(
    "encoding, size, accepted",
    [
        ("yuyv", (2, 3), "even width"),
        ("nv12", (3, 4), "even height"),
        ("nv21", (4, 3), "even height"),
        ("bayer_rggb8", (2, 4), "3 x 3"),
    ],
)
def test_sizes_that_an_encoding_cannot_have(encoding, size, accepted):
    """Below 3 px OpenCV's demosaicing returns black instead of an error."""
    error = refusal(image(encoding, size, np.zeros((6, 8))))
    assert error.reason == "size" and accepted in str(error)


def test_a_stamp_is_in_nanoseconds():
    assert stamp_ns_of(header(0, 1)) == 1
    assert stamp_ns_of(header(1_700_000_000, 999_999_999)) == 1_700_000_000_999_999_999
