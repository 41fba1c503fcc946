"""What a sensor_msgs/CameraInfo says of the images of its camera, checked.

Names are those of the message: K is the camera's matrix, D its distortion, R and P turn and project
to the rectified image. Sizes are (height, width) in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vit_perception.config.cameras.region import LONGEST_EDGE_PX
from vit_perception.files.errors import shown
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, Roi
from vit_perception.wire.stamps import nanoseconds

INFO_TYPE = "sensor_msgs/msg/CameraInfo"
# The accepted numbers of coefficients, by distortion model.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
MOST_BINNING = 64
# Of the rows of R, which files hold with a few digits.
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """How one camera's images are rectified. Equal calibrations give equal images."""

    model: str  # a key of COEFFICIENTS
    distortion: tuple[float, ...]  # D
    camera: tuple[float, float, float, float]  # fx, fy, cx, cy of K, in px of the image
    rotation: tuple[float, ...]  # R, 9 numbers row by row
    projection: tuple[float, float, float, float]  # fx, fy, cx, cy of P, in px of the image
    size_px: tuple[int, int]  # (height, width) of the image, binned, and cut to the message's roi


def calibration_of(message: Any) -> Calibration:
    """Return what a sensor_msgs/CameraInfo of rclpy or rosbags says.

    ``binning`` and ``roi`` of the message are those of the driver: K and P, which are of the whole
    sensor, are brought to the image that it sends. P's fourth column (a stereo baseline) moves no
    pixel, and ``roi.do_rectify`` changes nothing, as in image_pipeline.

    Raises:
        BadInput: ``camera_info``, with the field, its value, and what is accepted.
    """
    model = str(message.distortion_model)
    if model not in COEFFICIENTS:
        raise _refused("distortion_model", shown(model), "one of " + ", ".join(COEFFICIENTS))
    counts = COEFFICIENTS[model]
    if len(message.d) not in counts:
        accepted = " or ".join(map(str, counts))
        raise _refused("d", f"{len(message.d)} numbers", f"{accepted} numbers for {model}")
    distortion = _finite("d", message.d)
    k = _matrix("k", message.k, columns=3)
    p = _matrix("p", message.p, columns=4)
    rotation = _finite("r", message.r, count=9)
    turned = np.reshape(rotation, (3, 3))
    is_rotation = np.allclose(turned @ turned.T, np.eye(3), rtol=0.0, atol=_ROTATION_TOLERANCE)
    if not is_rotation or np.linalg.det(turned) < 0:
        raise _refused(
            "r", shown(list(rotation)), "a rotation matrix; 1 0 0 0 1 0 0 0 1 of a single camera"
        )
    window, binning = _window(message), _binning(message)
    size_px = (window.height // binning[1], window.width // binning[0])
    if min(size_px) < 1:
        raise _refused(
            "binning_x and binning_y", shown(list(binning)), f"less than {list(window)} px"
        )
    return Calibration(
        model=model,
        distortion=distortion,
        camera=_of_window(k, window, binning),
        rotation=rotation,
        projection=_of_window(p, window, binning),
        size_px=size_px,
    )


def check_size(size_px: tuple[int, int], calibration: Calibration) -> None:
    """Check that ``calibration`` is for images of ``size_px`` (height, width).

    Raises:
        BadInput: ``camera_info``: it is for images of another size.
    """
    if size_px != calibration.size_px:
        raise BadInput(
            "camera_info",
            f"the image is {size_px[0]} x {size_px[1]} px, and the CameraInfo is for "
            f"{calibration.size_px[0]} x {calibration.size_px[1]} px (with its binning and "
            "roi); accepted: one size",
        )


def info_stamp_ns(message: Any) -> int:
    """Return the stamp of a CameraInfo in ns; 0 where none was set, as latched ones may have it.

    Raises:
        BadInput: ``stamp``: it is no time.
    """
    stamp = message.header.stamp
    if stamp.sec < 0 or not 0 <= stamp.nanosec < NANOSECONDS_PER_SECOND:
        raise BadInput(
            "stamp",
            f"header.stamp of the CameraInfo is {stamp.sec} s {stamp.nanosec} ns; accepted: from "
            "0, nanosec below 1e9",
        )
    return nanoseconds(stamp)


def _refused(field: str, said: str, accepted: str) -> BadInput:
    """Return the error for a ``field`` of a CameraInfo whose value is ``said``."""
    return BadInput("camera_info", f"{field} of the CameraInfo is {said}; accepted: {accepted}")


def _finite(field: str, values: Sequence[float], count: int | None = None) -> tuple[float, ...]:
    if count is not None and len(values) != count:
        raise _refused(field, f"{len(values)} numbers", f"{count} numbers")
    numbers = tuple(float(value) for value in values)
    if not np.isfinite(numbers).all():
        raise _refused(field, shown(list(numbers)), "finite numbers")
    return numbers


def _matrix(field: str, values: Sequence[float], columns: int) -> tuple[float, ...]:
    """Return fx, fy, cx, cy of K or P."""
    rows = np.reshape(_finite(field, values, count=3 * columns), (3, columns))
    form = np.array([[rows[0, 0], 0, rows[0, 2]], [0, rows[1, 1], rows[1, 2]], [0, 0, 1]])
    if min(rows[0, 0], rows[1, 1]) <= 0 or not np.array_equal(rows[:, :3], form):
        raise _refused(
            field,
            shown(rows[:, :3].tolist()),
            "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx and fy above 0 px, of a camera that is "
            "calibrated",
        )
    return float(rows[0, 0]), float(rows[1, 1]), float(rows[0, 2]), float(rows[1, 2])


def _window(message: Any) -> Roi:
    """Return the part of the sensor that the image shows, not binned."""
    width, height = int(message.width), int(message.height)
    if not 0 < min(width, height) <= max(width, height) <= LONGEST_EDGE_PX:
        raise _refused(
            "height and width", f"{height} x {width} px", f"1 to {LONGEST_EDGE_PX} px, as the image"
        )
    given = message.roi
    roi = Roi(int(given.x_offset), int(given.y_offset), int(given.width), int(given.height))
    if roi == (0, 0, 0, 0):
        return Roi(0, 0, width, height)
    inside = roi.x + roi.width <= width and roi.y + roi.height <= height
    if min(roi) < 0 or min(roi.width, roi.height) < 1 or not inside:
        raise _refused(
            "roi",
            f"x_offset {roi.x}, y_offset {roi.y}, width {roi.width}, height {roi.height}",
            f"a part of {height} x {width} px, or 0, 0, 0, 0 for all",
        )
    return roi


def _binning(message: Any) -> tuple[int, int]:
    """Return binning_x and binning_y, of which 0 means 1."""
    binning = (int(message.binning_x) or 1, int(message.binning_y) or 1)
    if not 1 <= min(binning) <= max(binning) <= MOST_BINNING:
        raise _refused("binning_x and binning_y", shown(list(binning)), f"0 to {MOST_BINNING}")
    return binning


def _of_window(
    matrix: tuple[float, ...], window: Roi, binning: tuple[int, int]
) -> tuple[float, float, float, float]:
    fx, fy, cx, cy = matrix
    return (
        fx / binning[0],
        fy / binning[1],
        (cx - window.x) / binning[0],
        (cy - window.y) / binning[1],
    )
