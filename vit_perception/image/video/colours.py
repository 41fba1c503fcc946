"""Pictures of a video to RGB, by the colours that the stream names."""

from functools import cache
from typing import Any

import numpy as np

from vit_perception.wire.records import BadInput

# PyAV's names of FFmpeg's matrices (AVColorSpace). A stream that names none is BT.601.
_BT601 = "ITU601"
_MATRICES = {
    0: _BT601,
    1: "ITU709",
    2: _BT601,
    4: "FCC",
    5: _BT601,
    6: _BT601,
    7: "SMPTE240M",
    9: "BT2020",
}
_LIMITED, _FULL = 1, 2  # AVColorRange
# A colour of BT.709 with full range, and what it is in RGB by the formula.
_YUV, _RGB = (120, 90, 180), (202, 103, 50)
_LEVELS = 3


def rgb_of(frame: Any) -> np.ndarray:
    """Return PyAV's ``frame`` as (H, W, 3) uint8 RGB.

    Raises:
        BadInput: ``encoding``, for a matrix that is not converted here.
    """
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == _FULL
    matrix = _MATRICES.get(int(frame.colorspace), "")
    try:
        # Both are given, and another matrix as the goal, which RGB has not: PyAV up to 16 looks at
        # the colours only where something differs, and takes BT.601 with limited range otherwise.
        converted = frame.reformat(
            format="rgb24",
            src_colorspace=matrix,
            dst_colorspace=_BT601,
            src_color_range=_FULL if full else _LIMITED,
            dst_color_range=_FULL,
        )
    except KeyError as error:
        raise BadInput(
            "encoding",
            f"colours are those of matrix {int(frame.colorspace)} (FFmpeg's number); accepted: "
            "BT.601 and BT.709; BT.2020 with PyAV 18",
        ) from error
    pixels: np.ndarray = converted.to_ndarray()
    return pixels


@cache
def heeds_colours(av: Any) -> bool:
    """Whether a picture of BT.709 with full range becomes RGB as such with this PyAV."""
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, _YUV, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    try:
        frame.colorspace, frame.color_range = 1, _FULL
        pixel = rgb_of(frame)[24, 32]
    except (AttributeError, TypeError, BadInput):
        return False
    return all(abs(int(a) - b) <= _LEVELS for a, b in zip(pixel, _RGB, strict=True))
