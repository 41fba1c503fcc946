"""Pose streams of the arms: one history each, what was refused, and the pose at an image's stamp."""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.pose.history import JUMP_BACK_NS, PoseHistory, pose_of
from vit_perception.settings import PoseSettings
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, PoseAtImage


@dataclass
class PoseAccount:
    """One arm's books: samples received and refused, and how poses at images were had."""

    received: int = 0
    refused: Counter = field(default_factory=Counter)
    statuses: Counter = field(default_factory=Counter)
    latest: str = ""
    skew_ms: deque = field(default_factory=lambda: deque(maxlen=500))


class PoseInputs:
    """Histories of all arms behind one condition, which ``add`` notifies and ``poses_at`` waits on."""

    def __init__(self, arms: Sequence[PoseSettings], changed: threading.Condition):
        self._arms = tuple(arms)
        self._changed = changed
        self._histories = {arm.name: PoseHistory() for arm in arms}
        self.accounts = {arm.name: PoseAccount() for arm in arms}

    def add(self, arm: PoseSettings, message: Any) -> None:
        """Take one PoseStamped. Raises BadInput, after counting it, when it cannot be used."""
        with self._changed:
            self.accounts[arm.name].received += 1
            try:
                self._histories[arm.name].add(pose_of(message, arm.frame_id))
            except BadInput as error:
                self.accounts[arm.name].refused[error.reason] += 1
                raise
            self._changed.notify_all()

    def poses_at(self, stamp_ns: int) -> dict[str, PoseAtImage]:
        """The pose of each arm at ``stamp_ns``, waiting at most ``wait_s`` for a sample at or after it.

        Called after inference, so usually the sample is there and nothing waits.
        """
        started = time.monotonic()
        with self._changed:
            poses = {}
            for arm in self._arms:
                history = self._histories[arm.name]
                self._changed.wait_for(lambda: history.covers(stamp_ns),
                                       timeout=max(0.0, started + arm.wait_s - time.monotonic()))
                pose = history.lookup(stamp_ns, round(arm.max_skew_s * NANOSECONDS_PER_SECOND))
                account = self.accounts[arm.name]
                account.statuses[pose.status] += 1
                account.latest = pose.status
                if pose.skew_ns is not None:
                    account.skew_ms.append(pose.skew_ns / 1e6)
                poses[arm.name] = pose
            return poses

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: drop histories of the time before the jump.

        A history that has jumped too, because its pose came first, is kept.
        """
        with self._changed:
            for history in self._histories.values():
                if history.covers(stamp_ns + JUMP_BACK_NS):
                    history.clear()
