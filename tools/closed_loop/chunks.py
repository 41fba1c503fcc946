"""The chunks of targets that a policy sends, made of messages of two topics, matched by stamp."""

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from tools.closed_loop.interface import CLOSED, CONTROL_PERIOD_NS, OPEN, STEPS, stamp_of
from vit_perception.policy.timing import ActionTiming

# Halves of chunks whose other half does not come.
MOST_PENDING = 20


@dataclass(frozen=True, eq=False)
class Chunk:
    """The answer to one observation."""

    stamp_ns: int  # of the observation
    poses: np.ndarray  # (n, 7): target in m, quaternion xyzw, one for each control step
    grippers: np.ndarray  # (n,) from OPEN to CLOSED

    def at(self, timing: ActionTiming, now_ns: int) -> tuple[np.ndarray, float]:
        """Return pose (7,) and gripper of the control step that is due; the last ones hold."""
        due = timing.due(self.stamp_ns, now_ns)
        step = len(self.poses) - 1 if due is None else due
        return (
            self.poses[min(step, len(self.poses) - 1)],
            float(self.grippers[min(step, len(self.grippers) - 1)]),
        )


def timing_of_chunks() -> ActionTiming:
    """Return what says which step of a chunk is due."""
    return ActionTiming(period_s=CONTROL_PERIOD_NS * 1e-9, length=STEPS)


@dataclass
class ChunkInputs:
    """Receives both topics."""

    received: int = 0  # whole chunks
    superseded: int = 0  # whole chunks that a newer one came before
    refused: dict[str, int] = field(default_factory=dict)  # messages, by reason
    _poses: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict)
    _grippers: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict)
    _whole: OrderedDict[int, Chunk] = field(default_factory=OrderedDict)

    def add_poses(self, message) -> None:
        """Take a geometry_msgs/PoseArray."""
        rows = [
            [getattr(p.position, a) for a in "xyz"] + [getattr(p.orientation, a) for a in "xyzw"]
            for p in message.poses
        ]
        poses = np.array(rows, float).reshape(-1, 7)
        lengths = np.linalg.norm(poses[:, 3:], axis=1)
        if not len(poses) or not np.isfinite(poses).all():
            self._refuse("target poses: none, or not finite")
        elif (np.abs(lengths - 1) > 1e-3).any():
            self._refuse("target poses: a quaternion that is not of length 1")
        else:
            self._put(self._poses, stamp_of(message.header), poses)

    def add_grippers(self, message) -> None:
        """Take a trajectory_msgs/JointTrajectory with one joint."""
        values = [list(point.positions) for point in message.points]
        if not values or any(len(value) != 1 for value in values):
            self._refuse("gripper commands: none, or of several joints")
            return
        grippers = np.array(values, float)[:, 0]
        if not np.isfinite(grippers).all() or (grippers < OPEN).any() or (grippers > CLOSED).any():
            self._refuse(f"gripper commands: not from {OPEN} to {CLOSED}")
            return
        self._put(self._grippers, stamp_of(message.header), grippers)

    def take(self, stamp_ns: int) -> Chunk | None:
        """Return the chunk for the observation of that stamp, once, if it is whole."""
        return self._whole.pop(stamp_ns, None)

    def take_newest(self) -> Chunk | None:
        """Return the chunk of the latest stamp, and forget older ones; None without a new one."""
        if not self._whole:
            return None
        newest = self._whole.pop(max(self._whole))
        self.superseded += self.forget()
        return newest

    def forget(self) -> int:
        """Forget the chunks that nobody took, and return how many there were."""
        count = len(self._whole)
        self._whole.clear()
        return count

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _put(self, half: OrderedDict, stamp_ns: int, values: np.ndarray) -> None:
        half[stamp_ns] = values
        while len(half) > MOST_PENDING:
            half.popitem(last=False)
        if stamp_ns in self._poses and stamp_ns in self._grippers:
            self.received += 1
            chunk = Chunk(stamp_ns, self._poses.pop(stamp_ns), self._grippers.pop(stamp_ns))
            self._whole[stamp_ns] = chunk
