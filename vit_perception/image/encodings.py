"""The table of image encodings, as ``sensor_msgs/image_encodings.hpp`` names them.

Choices that the header leaves open:

* 8UC1, 8UC3 and 8UC4 name no colours; they are taken as OpenCV holds images: grey, BGR, BGRA.
* 16-bit samples give their high byte (``is_bigendian`` says which it is), so full scale stays full
  scale.
* YUV is ITU-R BT.601 with limited range (16 to 235), as OpenCV and cv_bridge take it.
* ``height`` of nv12, nv21 and nv24 is the image's; ``data`` has the chroma rows after it (1.5, 1.5
  and 3 times ``height * step`` in total, as ``getHeightScaling`` in newer versions of the header).
* Signed, float, two-channel and 16UC samples are measurements (depth, flow, tensors), not colours;
  they have no row.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vit_perception.image.opencv import cv2
from vit_perception.wire.records import BadInput


class Encoding(NamedTuple):
    """An encoding whose samples of one pixel are next to each other."""

    channels: int
    sample_bytes: int
    # (H, W, channels) uint8, or (H, W) for one channel, to (H, W, 3) uint8 RGB.
    to_rgb: Callable[[np.ndarray], np.ndarray]


class PlanarEncoding(NamedTuple):
    """An encoding whose luma rows come first, then rows with U and V of each pixel or block."""

    rows_per_two: int  # rows of ``step`` bytes for two rows of the image
    # (rows, step) uint8, height and width in px, to (H, W, 3) uint8 RGB.
    to_rgb: Callable[[np.ndarray, int, int], np.ndarray]


def _same(samples: np.ndarray) -> np.ndarray:
    return samples


def _reversed(samples: np.ndarray) -> np.ndarray:
    return samples[..., ::-1]


def _cv(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda samples: cv2.cvtColor(samples, code)


def _bayer(code: int, sample_bytes: int = 1) -> Encoding:
    def to_rgb(mosaic: np.ndarray) -> np.ndarray:
        # OpenCV's demosaicing returns black below 3 px, without an error.
        if min(mosaic.shape[:2]) < 3:
            raise BadInput(
                "size",
                f"a Bayer image of {mosaic.shape[0]} x {mosaic.shape[1]} px cannot be demosaiced; "
                "accepted: 3 x 3 px and more",
            )
        return cv2.cvtColor(np.ascontiguousarray(mosaic), code)

    return Encoding(channels=1, sample_bytes=sample_bytes, to_rgb=to_rgb)


def _yuv422(code: int) -> Encoding:
    def to_rgb(samples: np.ndarray) -> np.ndarray:
        if samples.shape[1] % 2:
            raise BadInput(
                "size", f"a YUV 4:2:2 image is {samples.shape[1]} px wide; accepted: an even width"
            )
        return cv2.cvtColor(samples, code)

    return Encoding(channels=2, sample_bytes=1, to_rgb=to_rgb)


def _nv420(code: int) -> PlanarEncoding:
    def to_rgb(rows: np.ndarray, height: int, width: int) -> np.ndarray:
        if height % 2 or width % 2:
            raise BadInput(
                "size",
                f"a YUV 4:2:0 image is {height} x {width} px; accepted: even height and width",
            )
        return cv2.cvtColor(rows[:, :width], code)

    return PlanarEncoding(rows_per_two=3, to_rgb=to_rgb)


def _nv24_to_rgb(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    luma = rows[:height, :width]
    # One U V pair per pixel, so a chroma row is two steps long.
    chroma = rows[height:].reshape(height, -1)[:, : 2 * width].reshape(height, width, 2)
    # OpenCV has no 4:4:4 code. Each pixel twice is 4:2:2, so all encodings have one YUV formula.
    u, v = cv2.split(chroma)
    doubled = cv2.merge([u, luma, v, luma]).reshape(height, 2 * width, 2)
    return cv2.cvtColor(doubled, cv2.COLOR_YUV2RGB_UYVY)[:, ::2]


_GREY = _cv(cv2.COLOR_GRAY2RGB)
_RGBA = _cv(cv2.COLOR_RGBA2RGB)
_BGRA = _cv(cv2.COLOR_BGRA2RGB)
_UYVY = _yuv422(cv2.COLOR_YUV2RGB_UYVY)
_YUYV = _yuv422(cv2.COLOR_YUV2RGB_YUY2)

# OpenCV names a Bayer pattern by the second and third pixel of its second row: RGGB is BayerBG.
ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(channels=3, sample_bytes=1, to_rgb=_same),
    "bgr8": Encoding(channels=3, sample_bytes=1, to_rgb=_reversed),
    "rgba8": Encoding(channels=4, sample_bytes=1, to_rgb=_RGBA),
    "bgra8": Encoding(channels=4, sample_bytes=1, to_rgb=_BGRA),
    "rgb16": Encoding(channels=3, sample_bytes=2, to_rgb=_same),
    "bgr16": Encoding(channels=3, sample_bytes=2, to_rgb=_reversed),
    "rgba16": Encoding(channels=4, sample_bytes=2, to_rgb=lambda samples: samples[..., :3]),
    "bgra16": Encoding(channels=4, sample_bytes=2, to_rgb=lambda samples: samples[..., 2::-1]),
    "mono8": Encoding(channels=1, sample_bytes=1, to_rgb=_GREY),
    "mono16": Encoding(channels=1, sample_bytes=2, to_rgb=_GREY),
    "8UC1": Encoding(channels=1, sample_bytes=1, to_rgb=_GREY),
    "8UC3": Encoding(channels=3, sample_bytes=1, to_rgb=_reversed),
    "8UC4": Encoding(channels=4, sample_bytes=1, to_rgb=_BGRA),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _bayer(cv2.COLOR_BayerBG2RGB, sample_bytes=2),
    "bayer_bggr16": _bayer(cv2.COLOR_BayerRG2RGB, sample_bytes=2),
    "bayer_gbrg16": _bayer(cv2.COLOR_BayerGR2RGB, sample_bytes=2),
    "bayer_grbg16": _bayer(cv2.COLOR_BayerGB2RGB, sample_bytes=2),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
}
PLANAR_ENCODINGS: dict[str, PlanarEncoding] = {
    "nv12": _nv420(cv2.COLOR_YUV2RGB_NV12),
    "nv21": _nv420(cv2.COLOR_YUV2RGB_NV21),
    "nv24": PlanarEncoding(rows_per_two=6, to_rgb=_nv24_to_rgb),
}
ACCEPTED_ENCODINGS = (*ENCODINGS, *PLANAR_ENCODINGS)
