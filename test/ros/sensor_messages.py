"""What cameras and arms send. Quick to import: processes of the tests do."""

import array

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image

from vit_perception.ros.messages import header_of

MILLISECOND_NS = 1_000_000


def image_message(
    stamp_ns: int, seed: int = 0, size_px: tuple[int, int] = (48, 64), encoding: str = "bgr8"
) -> Image:
    """A picture of noise with the fields of a camera driver."""
    height, width = size_px
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    message = Image(
        header=header_of(stamp_ns, "camera_optical_frame"),
        height=height,
        width=width,
        encoding=encoding,
        step=3 * width,
    )
    message.data = array.array("B", pixels.tobytes())
    return message


def stamped_pose(stamp_ns: int, x_m: float = 0.0, frame_id: str = "base_link") -> PoseStamped:
    """A pose at (x, 0, 0.5) m without rotation."""
    message = PoseStamped(header=header_of(stamp_ns, frame_id))
    message.pose.position.x, message.pose.position.z = x_m, 0.5
    message.pose.orientation.w = 1.0
    return message
