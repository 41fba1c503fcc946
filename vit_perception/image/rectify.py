"""Rectification: an image without its lens's distortion, as image_pipeline makes it.

The maps are OpenCV's fixed-point ones, and pixels are interpolated linearly (1/32 px), so the
result is image_pipeline's, but for two things. What the lens's formula puts nowhere, or further off
than 16 bits hold, is black here; there it is a pixel of another place. And where D is zero, R and P
still hold.
"""

from collections.abc import Callable

import numpy as np

from vit_perception.image.camera_info import Calibration, check_size
from vit_perception.image.opencv import cv2
from vit_perception.wire.records import BadInput, RgbImage

MAX_RECTIFIED_PX = 1 << 25  # its maps take 200 MB
MAX_RECTIFIED_EDGE_PX = 16384
# Rows of the map that are checked at once: the check takes 8 bytes a pixel.
_ROWS_AT_ONCE = 64
# Beyond it, OpenCV's 16-bit coordinates would come out on the other side.
_FURTHEST_PX = 32_000
_BLACK = (-2, -2)  # a place that is not in any image

Maps = tuple[np.ndarray, np.ndarray]


class Rectifier:
    """Rectifies the images of one camera. It keeps the maps of the latest calibration alone.

    Making maps takes about 50 ms a megapixel, once a calibration; an image 2 ms a megapixel. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self._known: tuple[Calibration, Maps | BadInput | None] | None = None

    def __call__(self, image: RgbImage, calibration: Calibration) -> RgbImage:
        """Return ``image`` rectified, of the same size, stamp and frame.

        Raises:
            BadInput: ``camera_info``: the calibration is for images of another size, or puts no
                pixel into the image. ``size``: the image is too large.
        """
        check_size(image.size, calibration)
        if self._known is None or self._known[0] != calibration:
            self._known = None  # before the new ones are made: never two
            self._known = calibration, _made(calibration)
        maps = self._known[1]
        if isinstance(maps, BadInput):
            raise maps
        if maps is None:
            return image
        # OpenCV takes no negative strides: a bgr8 view is taken in the order of its memory.
        is_bgr = image.pixels.strides[2] < 0
        pixels = image.pixels[..., ::-1] if is_bgr else image.pixels
        rectified = cv2.remap(
            np.ascontiguousarray(pixels),
            *maps,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(0, 0, 0),
        )
        return RgbImage(
            rectified[..., ::-1] if is_bgr else rectified, image.stamp_ns, image.frame_id
        )


def _made(calibration: Calibration) -> Maps | BadInput | None:
    """Return the maps; None if they would change nothing; an error where there can be none."""
    height, width = calibration.size_px
    if max(height, width) > MAX_RECTIFIED_EDGE_PX or height * width > MAX_RECTIFIED_PX:
        return BadInput(
            "size",
            f"an image of {height} x {width} px is not rectified; accepted: up to "
            f"{MAX_RECTIFIED_EDGE_PX} px a side and {MAX_RECTIFIED_PX} px in all",
        )
    identity = tuple(np.eye(3).ravel())
    is_straight = calibration.model != "equidistant" and not any(calibration.distortion)
    unchanged = calibration.camera == calibration.projection and calibration.rotation == identity
    if is_straight and unchanged:
        return None
    make = _maker(calibration)
    places, fractions = make(0, height, cv2.CV_16SC2)
    seen = False
    for top in range(0, height, _ROWS_AT_ONCE):
        rows = slice(top, min(top + _ROWS_AT_ONCE, height))
        x, y = make(top, rows.stop - top, cv2.CV_32FC1)
        # Written so that NaN is far, too.
        far = ~((np.abs(x) < _FURTHEST_PX) & (np.abs(y) < _FURTHEST_PX))
        places[rows][far] = _BLACK
        fractions[rows][far] = 0
        inside = (x > -1) & (x < width) & (y > -1) & (y < height)
        seen = seen or bool(inside.any())
    if not seen:
        return BadInput(
            "camera_info",
            "k, d, r and p of the CameraInfo leave no pixel of the image in the rectified one; "
            "accepted: the calibration of this camera",
        )
    return places, fractions


def _maker(calibration: Calibration) -> Callable[[int, int, int], Maps]:
    """Return a function that makes the maps of ``count`` rows from ``top`` on, in one of OpenCV's
    types.
    """
    width = calibration.size_px[1]
    camera = _matrix(calibration.camera)
    rotation = np.reshape(calibration.rotation, (3, 3))
    distortion = np.array(calibration.distortion or (0.0,) * 4)
    fisheye = calibration.model == "equidistant"
    function = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap

    def make(top: int, count: int, kind: int) -> Maps:
        fx, fy, cx, cy = calibration.projection
        projection = _matrix((fx, fy, cx, cy - top))
        with np.errstate(all="ignore"):
            first, second = function(camera, distortion, rotation, projection, (width, count), kind)
        return first, second

    return make


def _matrix(numbers: tuple[float, float, float, float]) -> np.ndarray:
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
