"""Which images are encoded together, and where every received image went. No rclpy here: plain, testable code.

The newest frame wins. One camera: the latest image, older ones are superseded. Several cameras: the newest
set of images, one a camera, whose stamps lie within ``slop`` of each other.
Callers hold one lock around every method (the node shares it with its worker thread).
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# A bag that loops jumps back by its length; a late or re-ordered image by a few frames.
JUMP_BACK_NS = 1_000_000_000
# Images that wait for their partners; at 30 Hz this covers an encoder run of 0.3 s.
MAX_PENDING = 10


@dataclass
class FrameAccount:
    """One camera's books: ``received = published + dropped by reason + pending``, to the frame.

    ``in_flight`` images are with the worker; they and the waiting ones are what is pending.
    """

    received: int = 0
    published: int = 0
    in_flight: int = 0
    dropped: Counter = field(default_factory=Counter)
    arrivals_ns: deque = field(default_factory=lambda: deque(maxlen=1500))  # monotonic, of the latest images


class CameraSync:
    """Groups images by stamp and accounts for each of them. Stamps are header stamps in ns."""

    def __init__(self, cameras: Sequence[str], slop_ns: int, policy: str, silent_after_ns: int, now_ns: int):
        self.cameras = tuple(cameras)
        self.accounts = {name: FrameAccount() for name in cameras}
        self.configure(slop_ns, policy, silent_after_ns)
        self._waiting: dict[str, deque[tuple[int, Any]]] = {name: deque() for name in cameras}
        self._last_heard_ns = {name: now_ns for name in cameras}
        self._last_taken_ns: dict[str, int] = {}

    def configure(self, slop_ns: int, policy: str, silent_after_ns: int) -> None:
        """Group by these from the next call on; what waits, waits on."""
        self._slop_ns, self._policy, self._silent_after_ns = slop_ns, policy, silent_after_ns

    def refuse(self, camera: str, reason: str) -> None:
        """Count an image that was received but cannot even be queued."""
        self.accounts[camera].received += 1
        self.accounts[camera].dropped[reason] += 1

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> bool:
        """Queue one image; ``now_ns`` is the monotonic receive time, by which silence is judged.

        Returns whether time has jumped back: what waited is dropped then.
        """
        account, waiting = self.accounts[camera], self._waiting[camera]
        account.received += 1
        account.arrivals_ns.append(now_ns)
        self._last_heard_ns[camera] = now_ns
        newest_ns = waiting[-1][0] if waiting else self._last_taken_ns.get(camera)
        jumped = newest_ns is not None and stamp_ns < newest_ns - JUMP_BACK_NS
        if jumped:
            self.clear("time_jump")
        elif stamp_ns <= self._last_taken_ns.get(camera, -1):
            account.dropped["late"] += 1
            return False
        waiting.append((stamp_ns, message))
        if len(waiting) > 1 and waiting[-2][0] > stamp_ns:
            self._waiting[camera] = waiting = deque(sorted(waiting, key=lambda entry: entry[0]))
        if len(waiting) > (1 if len(self.cameras) == 1 else MAX_PENDING):
            self._drop_oldest(camera)
        return jumped

    def _drop_oldest(self, camera: str) -> None:
        """Drop the image that has waited longest: superseded where a newer group waits, unmatched where none does."""
        oldest_ns = self._waiting[camera].popleft()[0]
        required = [c for c in self.cameras if self._policy == "wait" or self._waiting[c]]
        group = self._newest_group(required)
        newer = group is not None and min(stamp_ns for stamp_ns, _ in group.values()) > oldest_ns
        self.accounts[camera].dropped["superseded" if newer else "unmatched"] += 1

    def take(self, now_ns: int) -> dict[str, Any] | None:
        """The newest group that is ready, as messages by camera, or None. Its images are in flight from now on.

        A camera that has been silent for ``silent_after`` is not waited for under the policy ``mask``.
        """
        required = [c for c in self.cameras if self._policy == "wait" or not self.is_silent(c, now_ns)]
        group = self._newest_group(required)
        if group is None:
            return None
        anchor_ns = min(stamp_ns for stamp_ns, _ in group.values())
        for camera, waiting in self._waiting.items():
            last_ns = group[camera][0] if camera in group else anchor_ns - self._slop_ns
            while waiting and waiting[0][0] <= last_ns:
                stamp_ns, message = waiting.popleft()
                if camera in group and message is group[camera][1]:
                    self.accounts[camera].in_flight += 1
                    self._last_taken_ns[camera] = stamp_ns
                else:
                    self.accounts[camera].dropped["superseded"] += 1
        return {camera: group[camera][1] for camera in self.cameras if camera in group}

    def _newest_group(self, required: list[str]) -> dict[str, tuple[int, Any]] | None:
        """One (stamp, message) a camera, all within the slop of each other, with every required camera."""
        anchors = sorted((entry[0] for c in self.cameras for entry in self._waiting[c]), reverse=True)
        for latest_ns in anchors:
            group = {}
            for camera in self.cameras:
                near = [e for e in self._waiting[camera] if latest_ns - self._slop_ns <= e[0] <= latest_ns]
                if near:
                    group[camera] = near[-1]
            if group and all(camera in group for camera in required):
                return group
        return None

    def finish(self, camera: str, dropped_because: str = "") -> None:
        """One in-flight image was published, or dropped for the reason given."""
        account = self.accounts[camera]
        account.in_flight -= 1
        if dropped_because:
            account.dropped[dropped_because] += 1
        else:
            account.published += 1

    def clear(self, reason: str) -> None:
        """Drop what waits (a time jump, a deactivation) and accept older stamps again."""
        for camera, waiting in self._waiting.items():
            if waiting:
                self.accounts[camera].dropped[reason] += len(waiting)
            waiting.clear()
        self._last_taken_ns.clear()

    def pending(self, camera: str) -> int:
        """Images received and not yet published or dropped: waiting, or with the worker."""
        return len(self._waiting[camera]) + self.accounts[camera].in_flight

    def is_silent(self, camera: str, now_ns: int) -> bool:
        """Whether nothing came from ``camera`` for ``silent_after``."""
        return self.age_ns(camera, now_ns) > self._silent_after_ns

    def age_ns(self, camera: str, now_ns: int) -> int:
        """How long ago the last usable image of ``camera`` came; since the start where none has come."""
        return now_ns - self._last_heard_ns[camera]
