"""Recent poses of one arm, and the pose at an image's stamp. numpy only."""

import math
from bisect import bisect_left
from typing import Any

import numpy as np

from vit_perception.pose.rotation import slerp
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, Pose, PoseAtImage

MAX_NORM_ERROR = 1e-3
# A bag that starts again jumps back by its length; a late sample is late by milliseconds.
JUMP_BACK_NS = NANOSECONDS_PER_SECOND

_MISSING = PoseAtImage(None, "missing", None)


def pose_of(message: Any, expected_frame_id: str = "") -> Pose:
    """The pose of a geometry_msgs/PoseStamped (rclpy, rosbags or alike); its quaternion is made exactly unit.

    ``expected_frame_id``: what ``header.frame_id`` must be; empty takes any.
    Raises BadInput with the reason ``stamp``, ``frame``, ``nan`` or ``quaternion``.
    """
    stamp, frame_id = message.header.stamp, message.header.frame_id
    stamp_ns = int(stamp.sec) * NANOSECONDS_PER_SECOND + int(stamp.nanosec)
    if stamp_ns <= 0:
        raise BadInput("stamp", f"header.stamp is {stamp.sec} s {stamp.nanosec} ns; "
                                "accepted: the time of measurement, above zero")
    if expected_frame_id and frame_id != expected_frame_id:
        raise BadInput("frame", f"header.frame_id is {frame_id!r}; accepted: {expected_frame_id!r}")
    p, q = message.pose.position, message.pose.orientation
    position, quaternion = (float(p.x), float(p.y), float(p.z)), (float(q.x), float(q.y), float(q.z), float(q.w))
    if not all(map(math.isfinite, position + quaternion)):
        raise BadInput("nan", f"position is {position} m, orientation {quaternion}; accepted: finite numbers")
    norm = math.hypot(*quaternion)
    if abs(norm - 1.0) > MAX_NORM_ERROR:
        raise BadInput("quaternion", f"orientation {quaternion} has the norm {norm:.6g}; "
                                     f"accepted: 1 within {MAX_NORM_ERROR:g}")
    return Pose(np.array(position), np.array(quaternion) / norm, stamp_ns, frame_id)


class PoseHistory:
    """The poses of the last ``keep_s`` seconds before the newest one, sorted by stamp.

    Not thread-safe: the caller holds one lock around every call.
    """

    def __init__(self, keep_s: float = 2.0):
        if not 0.0 < keep_s < math.inf:
            raise ValueError(f"keep_s is {keep_s!r}; accepted: a time above zero, in seconds")
        self._keep_ns = round(keep_s * NANOSECONDS_PER_SECOND)
        # Two lists, so that bisect compares plain integers.
        self._stamps_ns: list[int] = []
        self._poses: list[Pose] = []

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, pose: Pose) -> None:
        """Insert ``pose`` by its stamp; a sample with the same stamp is replaced.

        A stamp more than 1 s before the newest means that time was set back (a bag looped): everything
        older is forgotten. A late sample that is already older than ``keep_s`` is not kept.
        """
        stamps = self._stamps_ns
        if stamps and pose.stamp_ns < stamps[-1] - JUMP_BACK_NS:
            self.clear()
        at = bisect_left(stamps, pose.stamp_ns)
        if at < len(stamps) and stamps[at] == pose.stamp_ns:
            self._poses[at] = pose
            return
        stamps.insert(at, pose.stamp_ns)
        self._poses.insert(at, pose)
        expired = bisect_left(stamps, stamps[-1] - self._keep_ns)
        del stamps[:expired], self._poses[:expired]

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps_ns.clear()
        self._poses.clear()

    def covers(self, stamp_ns: int) -> bool:
        """Whether a sample at or after ``stamp_ns`` is there, so that waiting longer brings nothing better."""
        return bool(self._stamps_ns) and self._stamps_ns[-1] >= stamp_ns

    def lookup(self, stamp_ns: int, max_skew_ns: int) -> PoseAtImage:
        """The pose at ``stamp_ns``: position linear and rotation slerp between the two samples around it.

        Outside the samples the nearest one is held; so it is between two that are more than twice
        ``max_skew_ns`` apart: interpolating across a gap in the stream would invent a motion that nobody
        measured. Nothing is given (``missing``) when the nearest sample is further than ``max_skew_ns`` away.
        """
        stamps, poses = self._stamps_ns, self._poses
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            return PoseAtImage(poses[at], "interpolated", 0)
        before, after = at - 1, at
        around = [index for index in (before, after) if 0 <= index < len(stamps)]
        if not around:
            return _MISSING
        nearest = min(around, key=lambda index: abs(stamps[index] - stamp_ns))
        skew_ns = abs(stamps[nearest] - stamp_ns)
        if skew_ns > max_skew_ns:
            return _MISSING
        if len(around) == 2 and stamps[after] - stamps[before] <= 2 * max_skew_ns:
            return PoseAtImage(_between(poses[before], poses[after], stamp_ns), "interpolated", skew_ns)
        held = poses[nearest]
        return PoseAtImage(Pose(held.position_m, held.quaternion_xyzw, stamp_ns, held.frame_id), "held", skew_ns)


def _between(before: Pose, after: Pose, stamp_ns: int) -> Pose:
    fraction = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    return Pose(before.position_m + fraction * (after.position_m - before.position_m),
                slerp(before.quaternion_xyzw, after.quaternion_xyzw, fraction), stamp_ns, before.frame_id)
