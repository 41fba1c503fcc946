"""Decode sensor_msgs/Image and CompressedImage into :class:`RgbImage`.

Messages may be those of rclpy or rosbags, or any object with their fields. Encodings are the rows
of :mod:`vit_perception.image.encodings`; others go through cv_bridge if it is installed.
"""

import re
import struct
import zlib
from typing import Any

import numpy as np

from vit_perception.image.compressed import checked_picture, decoded_pixels
from vit_perception.image.encodings import ACCEPTED_ENCODINGS, ENCODINGS, PLANAR_ENCODINGS
from vit_perception.image.opencv import cv2
from vit_perception.wire.records import BadInput, RgbImage, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

# What decoders and numpy raise for an image that they cannot read. Anything else is a bug of ours.
DECODER_ERRORS = (
    cv2.error,
    ValueError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
)


def decode_image(message: Any) -> RgbImage:
    """Return the image of a sensor_msgs/Image as (H, W, 3) uint8 RGB.

    rgb8, bgr8, 8UC3 and their 16-bit forms are views of ``message.data``; nothing is copied.

    Raises:
        BadInput: ``stamp``, ``frame``, ``size``, ``short_data`` or ``encoding``.
    """
    stamp_ns = stamp_ns_of(message.header)
    check_frame_id(message.header.frame_id)
    height = int(message.height)
    width = int(message.width)
    if height < 1 or width < 1:
        raise BadInput("size", f"the image is {height} x {width} px; accepted: at least 1 x 1")
    if packed := ENCODINGS.get(message.encoding):
        row_bytes = width * packed.channels * packed.sample_bytes
        rows = rows_of_data(message, height, row_bytes)[:, :row_bytes]
        samples = rows.reshape(height, width, packed.channels, packed.sample_bytes)
        high_byte = 0 if packed.sample_bytes == 1 or message.is_bigendian else 1
        samples = samples[..., high_byte]
        pixels = packed.to_rgb(samples[..., 0] if packed.channels == 1 else samples)
    elif planar := PLANAR_ENCODINGS.get(message.encoding):
        # An odd height of 4:2:0 has no whole number of rows; `to_rgb` refuses it by name.
        rows = rows_of_data(message, (height * planar.rows_per_two + 1) // 2, width)
        pixels = planar.to_rgb(rows, height, width)
    else:
        pixels = _through_cv_bridge(message)
    return RgbImage(pixels, stamp_ns, message.header.frame_id)


def check_decoded(image: RgbImage) -> RgbImage:
    """Check an image that came decoded, by the rules for messages, and return it.

    Raises:
        BadInput: ``stamp``, ``frame``, ``size`` or ``encoding``.
    """
    if image.stamp_ns <= 0:
        raise BadInput("stamp", f"stamp_ns is {image.stamp_ns}; accepted: above zero")
    check_frame_id(image.frame_id)
    shape, dtype = image.pixels.shape, image.pixels.dtype
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise BadInput(
            "encoding", f"pixels are {shape} {dtype}; accepted: (height, width, 3) uint8"
        )
    if min(shape) < 1:
        raise BadInput("size", f"the image is {shape[0]} x {shape[1]} px; accepted: at least 1 x 1")
    return image


def rows_of_data(message: Any, row_count: int, row_bytes: int) -> np.ndarray:
    """Return ``message.data`` as (row_count, step) uint8, a view.

    ``row_bytes`` is the number of bytes that the pixels of a row take.
    """
    step = int(message.step)
    size = f"{message.height} x {message.width} px of {message.encoding}"
    if step < row_bytes:
        raise BadInput("size", f"step is {step} bytes for {size}; accepted: {row_bytes} and more")
    data_bytes = len(message.data)
    if data_bytes < row_count * step:
        raise BadInput(
            "short_data",
            f"data has {data_bytes} bytes for {size} with step {step}; accepted: "
            f"{row_count * step}",
        )
    return np.frombuffer(message.data, np.uint8, row_count * step).reshape(row_count, step)


def _through_cv_bridge(message: Any) -> np.ndarray:
    refused = f"encoding is {message.encoding!r}; accepted: {', '.join(ACCEPTED_ENCODINGS)}"
    if re.fullmatch(r"(8|16|32|64)[USF]C\d*", message.encoding):
        raise BadInput("encoding", refused + " (a depth or tensor image has no colours)")
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # a build for another NumPy may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cv_bridge"
        why = "is not installed" if missing else f"does not load: {error}"
        raise BadInput(
            "encoding", f"{refused} (and what cv_bridge converts, which {why})"
        ) from None
    try:
        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except Exception as error:  # by version its own error, cv2.error or RuntimeError
        raise BadInput("encoding", f"{refused} (cv_bridge: {error})") from error


def decode_compressed(message: Any) -> RgbImage:
    """Return the image of a sensor_msgs/CompressedImage as (H, W, 3) uint8 RGB.

    It is JPEG or PNG. ``format`` follows CompressedImage.msg: ``jpeg``, ``png`` or
    ``ORIG; CODEC compressed [PIXFMT]``. A PIXFMT of rgb8 says that red and blue are swapped in the
    file; an ORIG of bayer_* without PIXFMT says that the file holds the mosaic. An EXIF orientation
    is ignored: pixels stay where the sensor had them.

    Raises:
        BadInput: ``stamp``, ``frame``, ``encoding``, ``short_data``, ``size`` or ``decode``.
    """
    stamp_ns = stamp_ns_of(message.header)
    check_frame_id(message.header.frame_id)
    original, _, codec = (part.strip() for part in message.format.partition(";"))
    # 8UC1 and 8UC3 are images; every other plain OpenCV type holds measurements.
    if "compressedDepth" in message.format or re.fullmatch(r"(8S|16[US]|32[SF]|64F)C\d+", original):
        raise BadInput(
            "encoding",
            f"format is {message.format!r}, a depth image; accepted: a picture, jpeg or png",
        )
    picture = checked_picture(bytes(message.data), message.format)
    has_pixel_format = re.search(r"compressed\s+\w", codec)
    if original in ENCODINGS and original.startswith("bayer_") and not has_pixel_format:
        pixels = ENCODINGS[original].to_rgb(decoded_pixels(picture, grey=True))
    else:
        pixels = decoded_pixels(picture)
        # Publishers that say rgb8 here gave RGB to an encoder that takes BGR.
        pixels = pixels[..., ::-1] if re.search(r"compressed\s+rgb", codec) else pixels
    return RgbImage(pixels, stamp_ns, message.header.frame_id)
