"""What cameras and arms send, as plain objects with the fields of the ROS messages: without ROS."""

from types import SimpleNamespace

import numpy as np

MILLISECOND_NS = 1_000_000


def header_of(stamp_ns: int, frame_id: str) -> SimpleNamespace:
    seconds, rest_ns = divmod(stamp_ns, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=rest_ns), frame_id=frame_id)


def image_message(
    stamp_ns: int, seed: int = 0, size_px: tuple[int, int] = (48, 64), encoding: str = "bgr8"
) -> SimpleNamespace:
    """A picture of noise, as ``test.ros.sensor_messages.image_message``."""
    height, width = size_px
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return SimpleNamespace(
        header=header_of(stamp_ns, "camera_optical_frame"),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=3 * width,
        data=pixels.tobytes(),
    )


def stamped_pose(stamp_ns: int, x_m: float = 0.0, frame_id: str = "base_link") -> SimpleNamespace:
    """A pose at (x, 0, 0.5) m without rotation."""
    pose = SimpleNamespace(
        position=SimpleNamespace(x=x_m, y=0.0, z=0.5),
        orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
    )
    return SimpleNamespace(header=header_of(stamp_ns, frame_id), pose=pose)
