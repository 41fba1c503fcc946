"""Recent poses of one arm, and the pose at an image's stamp. numpy only."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from vit_perception.streams.rotation import slerp
from vit_perception.streams.sample_history import ValueHistory
from vit_perception.wire.records import BadInput, Pose, expected_frame
from vit_perception.wire.stamps import stamp_ns_of

MAX_NORM_ERROR = 1e-3
MAX_POSITION_M = 1e6  # beyond it the unit or the driver is wrong; float32 features would overflow


def pose_of(message: Any, expected_frame_id: str = "", accept_empty_frame: bool = False) -> Pose:
    """Return the pose of a geometry_msgs/PoseStamped; its quaternion gets exactly unit length.

    ``header.frame_id`` must be ``expected_frame_id``; if that is empty, any is accepted. With
    ``accept_empty_frame`` a header that names no frame counts as ``expected_frame_id``, which may
    then be empty.

    Raises:
        BadInput: ``stamp``, ``frame``, ``nan``, ``position`` or ``quaternion``.
    """
    stamp_ns = stamp_ns_of(message.header, "measurement")
    frame_id = expected_frame(message.header, expected_frame_id, accept_empty_frame)
    p = message.pose.position
    q = message.pose.orientation
    position = (float(p.x), float(p.y), float(p.z))
    quaternion = (float(q.x), float(q.y), float(q.z), float(q.w))
    if not all(map(math.isfinite, position + quaternion)):
        raise BadInput(
            "nan", f"position is {position} m, orientation {quaternion}; accepted: finite numbers"
        )
    if max(map(abs, position)) > MAX_POSITION_M:
        raise BadInput(
            "position", f"position is {position} m; accepted: up to {MAX_POSITION_M:g} m an axis"
        )
    norm = math.hypot(*quaternion)
    if abs(norm - 1.0) > MAX_NORM_ERROR:
        raise BadInput(
            "quaternion",
            f"orientation {quaternion} has the norm {norm:.6g}; "
            f"accepted: 1 within {MAX_NORM_ERROR:g}",
        )
    return Pose(
        position_m=np.array(position),
        quaternion_xyzw=np.array(quaternion) / norm,
        stamp_ns=stamp_ns,
        frame_id=frame_id,
    )


class PoseHistory(ValueHistory[Pose]):
    """The poses of the last ``keep_s`` seconds; rotations follow the shortest arc."""

    def between(self, earlier: Pose, later: Pose, fraction: float) -> Pose:
        """Return the pose at ``fraction`` (0 to 1) of the way; its stamp does not matter."""
        step_m = later.position_m - earlier.position_m
        return replace(
            earlier,
            position_m=earlier.position_m + fraction * step_m,
            quaternion_xyzw=slerp(earlier.quaternion_xyzw, later.quaternion_xyzw, fraction),
        )
