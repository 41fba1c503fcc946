"""CameraInfo messages as plain objects, with numbers of real lenses scaled to small images."""

from types import SimpleNamespace

import numpy as np

from test.plain_messages import header_of

DISTORTIONS = {
    "plumb_bob": (-0.31, 0.12, 0.0015, -0.002, -0.03),
    "rational_polynomial": (0.55, -2.6, 0.0009, -0.0004, 1.55, 0.43, -2.4, 1.45),
    "equidistant": (0.12, -0.03, 0.01, -0.002),
}


def camera_info(model: str = "plumb_bob", size_px=(48, 64), stamp_ns: int = 1, **fields):
    """A calibrated camera whose picture is ``size_px`` (height, width); ``fields`` replace some."""
    height, width = size_px
    focal_px = 0.8 * width
    k = np.array([focal_px, 0, 0.51 * width, 0, 1.02 * focal_px, 0.47 * height, 0, 0, 1.0])
    p = np.insert(k, (3, 6, 9), 0.0)
    values = {
        "header": header_of(stamp_ns, "camera_optical_frame"),
        "height": height,
        "width": width,
        "distortion_model": model,
        "d": np.array(DISTORTIONS.get(model, ())),
        "k": k,
        "r": np.eye(3).ravel(),
        "p": p,
        "binning_x": 0,
        "binning_y": 0,
        "roi": region(),
    }
    return SimpleNamespace(**(values | fields))


def region(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False):
    return SimpleNamespace(
        x_offset=x_offset, y_offset=y_offset, height=height, width=width, do_rectify=do_rectify
    )


def rotation(x_rad: float, y_rad: float, z_rad: float) -> np.ndarray:
    """A rotation about x, then y, then z, row by row."""
    cosines, sines = np.cos([x_rad, y_rad, z_rad]), np.sin([x_rad, y_rad, z_rad])
    about_x = [[1, 0, 0], [0, cosines[0], -sines[0]], [0, sines[0], cosines[0]]]
    about_y = [[cosines[1], 0, sines[1]], [0, 1, 0], [-sines[1], 0, cosines[1]]]
    about_z = [[cosines[2], -sines[2], 0], [sines[2], cosines[2], 0], [0, 0, 1]]
    return (np.array(about_z) @ np.array(about_y) @ np.array(about_x)).ravel()
