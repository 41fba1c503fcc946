"""PoseStamped messages and poses for the tests, without ROS."""

from types import SimpleNamespace

import numpy as np

from vit_perception.wire.records import Pose


def pose_message(
    position=(0.1, 0.2, 0.3), quaternion=(0.0, 0.0, 0.0, 1.0), sec=5, nanosec=7, frame_id="base"
):
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
    return SimpleNamespace(
        header=header,
        pose=SimpleNamespace(
            position=SimpleNamespace(**dict(zip("xyz", position))),
            orientation=SimpleNamespace(**dict(zip("xyzw", quaternion))),
        ),
    )


def pose_at(
    stamp_ns: int, x_m: float = 0.0, degrees_about_z: float = 0.0, frame_id: str = "base"
) -> Pose:
    half = np.radians(degrees_about_z) / 2
    return Pose(
        np.array([x_m, 0.0, 1.0]),
        np.array([0.0, 0.0, np.sin(half), np.cos(half)]),
        stamp_ns,
        frame_id,
    )
