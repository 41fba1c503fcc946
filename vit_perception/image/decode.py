"""sensor_msgs/Image and CompressedImage -> :class:`RgbImage`, for rclpy, rosbags or any object with
their fields.

Encodings are those of ``sensor_msgs/image_encodings.hpp`` that hold colour or grey pictures.
Choices that the header leaves open:

* 8UC1, 8UC3 and 8UC4 name no colours; they are taken as OpenCV holds pictures: grey, BGR, BGRA.
* 16-bit samples give their high byte (``is_bigendian`` says which that is), so full scale stays
  full scale.
* YUV is ITU-R BT.601 with limited range (16..235), as OpenCV and cv_bridge take it.
* ``height`` of nv12, nv21 and nv24 is the picture's; ``data`` holds the chroma rows below it (1.5,
  1.5 and 3 times ``height * step`` in all, as ``getHeightScaling`` in newer versions of that header
  has it).
* Signed, float, two-channel and 16UC samples are measurements (depth, flow, tensors), not colours:
  refused.

Encodings beyond the table go through cv_bridge where it is installed.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from vit_perception.image.compressed import checked_picture, decoded_pixels
from vit_perception.image.opencv import cv2
from vit_perception.wire.records import BadInput, RgbImage, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

# What decoders and numpy raise for a picture that they cannot read. Anything else is a defect of
# ours.
DECODER_ERRORS = (
    cv2.error,
    ValueError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
)

_Convert = Callable[[np.ndarray], np.ndarray]


def _cv(code: int) -> _Convert:
    return lambda samples: cv2.cvtColor(samples, code)


def _bayer(code: int) -> _Convert:
    def convert(mosaic: np.ndarray) -> np.ndarray:
        # OpenCV's demosaicing returns black below 3 px, without an error.
        if min(mosaic.shape[:2]) < 3:
            raise BadInput(
                "size",
                f"a Bayer image of {mosaic.shape[0]} x {mosaic.shape[1]} px cannot be demosaiced; "
                "accepted: 3 x 3 px and more",
            )
        return cv2.cvtColor(np.ascontiguousarray(mosaic), code)

    return convert


def _yuv422(code: int) -> _Convert:
    def convert(samples: np.ndarray) -> np.ndarray:
        if samples.shape[1] % 2:
            raise BadInput(
                "size", f"a YUV 4:2:2 image is {samples.shape[1]} px wide; accepted: an even width"
            )
        return cv2.cvtColor(samples, code)

    return convert


# encoding: (channels, bytes per sample, convert); `convert` takes (H, W, channels) uint8, or (H, W)
# for one channel. OpenCV names a Bayer pattern by its second row's second and third pixel, hence
# RGGB -> BayerBG.
_PACKED: dict[str, tuple[int, int, _Convert]] = {
    "rgb8": (3, 1, lambda samples: samples),
    "bgr8": (3, 1, lambda samples: samples[..., ::-1]),
    "rgba8": (4, 1, _cv(cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, 1, _cv(cv2.COLOR_BGRA2RGB)),
    "rgb16": (3, 2, lambda samples: samples),
    "bgr16": (3, 2, lambda samples: samples[..., ::-1]),
    "rgba16": (4, 2, lambda samples: samples[..., :3]),
    "bgra16": (4, 2, lambda samples: samples[..., 2::-1]),
    "mono8": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "mono16": (1, 2, _cv(cv2.COLOR_GRAY2RGB)),
    "8UC1": (1, 1, _cv(cv2.COLOR_GRAY2RGB)),
    "8UC3": (3, 1, lambda samples: samples[..., ::-1]),
    "8UC4": (4, 1, _cv(cv2.COLOR_BGRA2RGB)),
    "bayer_rggb8": (1, 1, _bayer(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": (1, 1, _bayer(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": (1, 1, _bayer(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": (1, 1, _bayer(cv2.COLOR_BayerGB2RGB)),
    "bayer_rggb16": (1, 2, _bayer(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr16": (1, 2, _bayer(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg16": (1, 2, _bayer(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg16": (1, 2, _bayer(cv2.COLOR_BayerGB2RGB)),
    "yuv422": (2, 1, _yuv422(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, 1, _yuv422(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, 1, _yuv422(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (2, 1, _yuv422(cv2.COLOR_YUV2RGB_YUY2)),
}


def _nv420(code: int) -> Callable[[np.ndarray, int, int], np.ndarray]:
    def convert(rows: np.ndarray, height: int, width: int) -> np.ndarray:
        if height % 2 or width % 2:
            raise BadInput(
                "size",
                f"a YUV 4:2:0 image is {height} x {width} px; accepted: even height and width",
            )
        return cv2.cvtColor(rows[:, :width], code)

    return convert


def _nv24(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    luma = rows[:height, :width]
    # One U V pair per pixel, so a chroma row is two steps long.
    chroma = rows[height:].reshape(height, -1)[:, : 2 * width].reshape(height, width, 2)
    # OpenCV has no 4:4:4 code: each pixel twice is 4:2:2, which keeps one YUV formula for all
    # encodings.
    u, v = cv2.split(chroma)
    doubled = cv2.merge([u, luma, v, luma]).reshape(height, 2 * width, 2)
    return cv2.cvtColor(doubled, cv2.COLOR_YUV2RGB_UYVY)[:, ::2]


# encoding: (rows of `step` bytes per two picture rows, convert(rows, height, width)).
_PLANAR: dict[str, tuple[int, Callable[[np.ndarray, int, int], np.ndarray]]] = {
    "nv12": (3, _nv420(cv2.COLOR_YUV2RGB_NV12)),
    "nv21": (3, _nv420(cv2.COLOR_YUV2RGB_NV21)),
    "nv24": (6, _nv24),
}

ACCEPTED_ENCODINGS = (*_PACKED, *_PLANAR)


def decode_image(message: Any) -> RgbImage:
    """The picture of a sensor_msgs/Image as (H, W, 3) uint8 RGB.

    rgb8, bgr8, 8UC3 and their 16-bit forms are views of ``message.data``, nothing is copied.
    Raises BadInput with the reason ``stamp``, ``frame``, ``size``, ``short_data`` or ``encoding``.
    """
    stamp_ns = stamp_ns_of(message.header)
    check_frame_id(message.header.frame_id)
    height, width, encoding = int(message.height), int(message.width), message.encoding
    if height < 1 or width < 1:
        raise BadInput("size", f"the image is {height} x {width} px; accepted: at least 1 x 1")
    if encoding in _PACKED:
        channels, sample_bytes, convert = _PACKED[encoding]
        row_bytes = width * channels * sample_bytes
        rows = _rows(message, height, row_bytes)[:, :row_bytes]
        samples = rows.reshape(height, width, channels, sample_bytes)
        samples = samples[..., 0 if sample_bytes == 1 or message.is_bigendian else 1]
        pixels = convert(samples[..., 0] if channels == 1 else samples)
    elif encoding in _PLANAR:
        rows_per_two, convert = _PLANAR[encoding]
        # An odd height of 4:2:0 has no whole number of rows; `convert` refuses it by name.
        pixels = convert(_rows(message, (height * rows_per_two + 1) // 2, width), height, width)
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


def _rows(message: Any, row_count: int, row_bytes: int) -> np.ndarray:
    """``message.data`` as (row_count, step) uint8, a view. ``row_bytes`` is what the pixels of a
    row need.
    """
    step, size = int(message.step), f"{message.height} x {message.width} px of {message.encoding}"
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
    except Exception as error:  # one that was built for another NumPy raises what it likes
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cv_bridge"
        why = "is not installed" if missing else f"does not load: {error}"
        raise BadInput(
            "encoding", f"{refused} (and what cv_bridge converts, which {why})"
        ) from None
    try:
        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (
        Exception
    ) as error:  # cv_bridge raises its own error, cv2.error or RuntimeError, by version
        raise BadInput("encoding", f"{refused} (cv_bridge: {error})") from error


def decode_compressed(message: Any) -> RgbImage:
    """The picture of a sensor_msgs/CompressedImage (JPEG or PNG) as (H, W, 3) uint8 RGB.

    ``format`` follows CompressedImage.msg: ``jpeg``, ``png`` or ``ORIG; CODEC compressed
    [PIXFMT]``; a PIXFMT of rgb8 says that the file's red and blue are swapped, an ORIG of bayer_*
    without PIXFMT that it holds the mosaic. An EXIF orientation is ignored: pixels stay where the
    sensor had them. Raises BadInput with the reason ``stamp``, ``frame``, ``encoding``,
    ``short_data``, ``size`` or ``decode``.
    """
    stamp_ns = stamp_ns_of(message.header)
    check_frame_id(message.header.frame_id)
    original, _, codec = (part.strip() for part in message.format.partition(";"))
    # 8UC1 and 8UC3 are pictures, every other bare OpenCV type holds measurements.
    if "compressedDepth" in message.format or re.fullmatch(r"(8S|16[US]|32[SF]|64F)C\d+", original):
        raise BadInput(
            "encoding",
            f"format is {message.format!r}, a depth image; accepted: a picture, jpeg or png",
        )
    picture = checked_picture(bytes(message.data), message.format)
    if (
        original in _PACKED
        and original.startswith("bayer_")
        and not re.search(r"compressed\s+\w", codec)
    ):
        pixels = _PACKED[original][2](decoded_pixels(picture, grey=True))
    else:
        pixels = decoded_pixels(picture)
        # What publishers call rgb8 here went through an encoder that takes BGR.
        pixels = pixels[..., ::-1] if re.search(r"compressed\s+rgb", codec) else pixels
    return RgbImage(pixels, stamp_ns, message.header.frame_id)
