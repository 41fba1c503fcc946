"""JPEG and PNG messages: formats by the words of CompressedImage.msg, damage, and sizes that would
not fit.
"""

import struct
import zlib

import cv2
import numpy as np
import pytest

from test.image.image_messages import compressed
from vit_perception.image.decode import decode_compressed
from vit_perception.wire.records import BadInput

# Left half red, right half blue, large enough that JPEG's blocks keep the colours pure.
PICTURE = np.zeros((32, 64, 3), np.uint8)
PICTURE[:, :32], PICTURE[:, 32:] = (200, 10, 20), (50, 60, 220)


def encoded(extension: str, rgb: np.ndarray = PICTURE) -> bytes:
    return cv2.imencode(extension, rgb[..., ::-1] if rgb.ndim == 3 else rgb)[1].tobytes()


JPEG, PNG = encoded(".jpg"), encoded(".png")


@pytest.mark.parametrize(
    "image_format",
    [
        "jpeg",
        "jpg",
        "",
        "bgr8; jpeg compressed bgr8",
        "rgb8; jpeg compressed bgr8",
        "yuv422; jpeg compressed bgr8",
        "8UC3; jpeg compressed bgr8",
    ],
)
def test_jpeg(image_format):
    decoded = decode_compressed(compressed(image_format, JPEG))
    assert np.abs(decoded.pixels.astype(int) - PICTURE).mean() < 2
    assert (decoded.size, decoded.stamp_ns, decoded.frame_id) == (
        (32, 64),
        12_000_000_345,
        "wrist_optical",
    )


@pytest.mark.parametrize(
    "image_format", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8"]
)
def test_png_is_exact(image_format):
    np.testing.assert_array_equal(decode_compressed(compressed(image_format, PNG)).pixels, PICTURE)


def test_a_file_that_says_compressed_rgb8_holds_red_and_blue_swapped():
    data = encoded(".png", PICTURE[..., ::-1])
    np.testing.assert_array_equal(
        decode_compressed(compressed("rgb8; png compressed rgb8", data)).pixels, PICTURE
    )


def test_grey_and_alpha_become_three_channels():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    pixels = decode_compressed(compressed("mono8; png compressed ", encoded(".png", grey))).pixels
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))
    alpha = np.dstack([PICTURE[..., ::-1], np.full((32, 64), 128, np.uint8)])
    data = cv2.imencode(".png", alpha)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(compressed("png", data)).pixels, PICTURE)


def test_a_bayer_mosaic_in_a_png_is_demosaiced():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (4, 4))
    pixels = decode_compressed(
        compressed("bayer_rggb8; png compressed ", encoded(".png", mosaic))
    ).pixels
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


def test_exif_orientation_does_not_turn_the_picture():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 32, 3)
    decoded = decode_compressed(compressed("jpeg", turned))
    assert decoded.size == (32, 64)


def refusal(image_format: str, data: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        decode_compressed(compressed(image_format, data))
    return caught.value


@pytest.mark.parametrize(
    "image_format",
    [
        "16UC1; compressedDepth",
        "16UC1; compressedDepth png",
        "32FC1; compressedDepth rvl",
        "16UC1; png compressed ",
    ],
)
def test_depth_is_refused_by_name(image_format):
    error = refusal(image_format, PNG)
    assert error.reason == "encoding" and image_format in str(error) and "depth" in str(error)


@pytest.mark.parametrize("data", [b"", b"\xff", b"RIFF....WEBP", b"II*\0", b"\x89PNG", bytes(100)])
def test_other_files_are_refused(data):
    error = refusal("jpeg", data)
    assert error.reason == "encoding" and "JPEG" in str(error) and "PNG" in str(error)


@pytest.mark.parametrize("kept", [4, 20, 100])
def test_a_jpeg_cut_in_its_headers_does_not_decode(kept):
    assert refusal("jpeg", JPEG[:kept]).reason == "decode"


def test_a_damaged_png_does_not_decode():
    start = PNG.index(b"IDAT") + 4
    assert refusal("png", PNG[:start] + bytes(20) + PNG[start + 20 :]).reason == "decode"


def test_a_png_chunk_longer_than_the_file_is_refused_before_it_is_decoded():
    """OpenCV 5 allocates the length that the chunk declares: 10 s for a file of 259 bytes."""
    start = PNG.index(b"IDAT") - 4
    assert refusal("png", PNG[:start] + b"\xf0" + PNG[start + 1 :]).reason == "short_data"


def test_a_small_file_that_declares_gigabytes_is_refused_before_it_is_decoded():
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = PNG[:8] + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + PNG[33:]
    error = refusal("png", bomb)
    assert error.reason == "size" and "60000 x 60000" in str(error) and "16384" in str(error)
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0)
    bomb = PNG[:8] + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + PNG[33:]
    assert refusal("png", bomb).reason == "size"
    frame = JPEG.index(b"\xff\xc0") + 5
    assert refusal("jpeg", JPEG[:frame] + b"\xea\x60\xea\x60" + JPEG[frame + 4 :]).reason == "size"
    assert refusal("jpeg", JPEG[:frame] + b"\0\0\0\0" + JPEG[frame + 4 :]).reason == "size"
