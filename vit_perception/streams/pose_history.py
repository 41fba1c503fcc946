"""Recent poses of one arm, and the pose at an image's stamp. numpy only."""

import math
from typing import Any

import numpy as np

from vit_perception.files.errors import shown
from vit_perception.streams.rotation import slerp
from vit_perception.streams.sample_history import JUMP_BACK_NS, KEEP_S, SampleHistory
from vit_perception.wire.records import (
    NANOSECONDS_PER_SECOND,
    BadInput,
    Pose,
    PoseAtImage,
    check_frame_id,
)

MAX_NORM_ERROR = 1e-3
MAX_POSITION_M = 1e6  # beyond it the unit or the driver is wrong; float32 features would overflow

__all__ = ["JUMP_BACK_NS", "PoseHistory", "pose_of"]


def pose_of(message: Any, expected_frame_id: str = "", accept_empty_frame: bool = False) -> Pose:
    """The pose of a geometry_msgs/PoseStamped (rclpy, rosbags or alike); its quaternion is made
    exactly unit.

    ``expected_frame_id``: what ``header.frame_id`` must be; empty takes any. With
    ``accept_empty_frame`` a header that names no frame is taken for one of ``expected_frame_id``,
    and that may be empty itself. Raises BadInput with the reason ``stamp``, ``frame``, ``nan``,
    ``position`` or ``quaternion``.
    """
    stamp, frame_id = message.header.stamp, message.header.frame_id
    stamp_ns = int(stamp.sec) * NANOSECONDS_PER_SECOND + int(stamp.nanosec)
    if stamp_ns <= 0 or stamp.nanosec >= NANOSECONDS_PER_SECOND:
        raise BadInput(
            "stamp",
            f"header.stamp is {stamp.sec} s {stamp.nanosec} ns; "
            "accepted: the time of measurement, above zero, nanosec below 1e9",
        )
    check_frame_id(frame_id)
    if accept_empty_frame and not frame_id:
        frame_id = expected_frame_id
    elif (expected_frame_id or accept_empty_frame) and frame_id != expected_frame_id:
        or_none = " or none" if accept_empty_frame and expected_frame_id else ""
        raise BadInput(
            "frame",
            f"header.frame_id is {shown(frame_id)}; accepted: {expected_frame_id!r}{or_none}",
        )
    p, q = message.pose.position, message.pose.orientation
    position, quaternion = (
        (float(p.x), float(p.y), float(p.z)),
        (float(q.x), float(q.y), float(q.z), float(q.w)),
    )
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
    return Pose(np.array(position), np.array(quaternion) / norm, stamp_ns, frame_id)


class PoseHistory:
    """The poses of the last ``keep_s`` seconds, as :class:`SampleHistory` keeps them. Not
    thread-safe either.
    """

    def __init__(self, keep_s: float = KEEP_S):
        self._samples: SampleHistory[Pose] = SampleHistory(keep_s)
        self.clear, self.covers = self._samples.clear, self._samples.covers

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest pose; None where there is none."""
        return self._samples.newest_ns

    @property
    def crowded_out(self) -> int:
        """How many poses were forgotten because too many came."""
        return self._samples.crowded_out

    def add(self, pose: Pose, needed_ns: int | None = None) -> None:
        """Insert ``pose`` by its stamp, as :meth:`SampleHistory.add` says."""
        self._samples.add(pose.stamp_ns, pose, needed_ns)

    def lookup(self, stamp_ns: int, max_skew_ns: int) -> PoseAtImage:
        """The pose at ``stamp_ns``: position linear and rotation slerp between the two samples
        around it.

        When one is held, and when there is none: :meth:`SampleHistory.around`.
        """
        status, skew_ns, before, after, fraction, nearest_ns = self._samples.around(
            stamp_ns, max_skew_ns
        )
        if before is None:
            return PoseAtImage(None, status, None, nearest_ns)
        if before is after:
            return PoseAtImage(
                Pose(before.position_m, before.quaternion_xyzw, stamp_ns, before.frame_id),
                status,
                skew_ns,
            )
        pose = Pose(
            before.position_m + fraction * (after.position_m - before.position_m),
            slerp(before.quaternion_xyzw, after.quaternion_xyzw, fraction),
            stamp_ns,
            before.frame_id,
        )
        return PoseAtImage(pose, status, skew_ns)
