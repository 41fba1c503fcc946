"""Which images are encoded together, and where every received image went. No rclpy here: plain,
testable code.

The newest frame wins. One camera: the latest image, older ones are superseded. Several cameras: the
newest set of images, one a camera, whose stamps lie within ``slop`` of each other; of each camera
the nearest. A faster camera's next image is waited for, as long as the slop at most, where its rate
says that it will be nearer. Callers hold one lock around every method (the node shares it with its
worker thread).
"""

import itertools
from bisect import insort
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import median_low
from typing import Any

from vit_perception.config.settings import EncoderSettings
from vit_perception.streams.recorded_groups import nearest_members
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

# A bag that loops jumps back by its length; a late or re-ordered image by a few frames.
JUMP_BACK_NS = 1_000_000_000
# Images that wait for their partners; at 30 Hz this covers an encoder run of 0.3 s.
MAX_PENDING = 10
# A camera's period is the median between its latest stamps, so that single lost images do not
# matter.
PERIOD_STAMPS, FEWEST_STAMPS = 8, 3


def sync_of(settings: EncoderSettings) -> tuple[int, str, int]:
    """Slop in ns, policy, and silence in ns, as :class:`CameraSync` takes them."""
    sync = settings.sync
    return (
        round(sync.slop_s * NANOSECONDS_PER_SECOND),
        sync.policy,
        round(sync.silent_after_s * NANOSECONDS_PER_SECOND),
    )


@dataclass
class FrameAccount:
    """One camera's counters: ``received = published + dropped by reason + pending``, to the frame.

    ``in_flight`` images are with the worker; they and the waiting ones are what is pending.
    """

    received: int = 0
    published: int = 0
    in_flight: int = 0
    dropped: Counter = field(default_factory=Counter)
    arrivals_ns: deque = field(
        default_factory=lambda: deque(maxlen=1500)
    )  # monotonic, of the latest images


class CameraSync:
    """Groups images by stamp and accounts for each of them. Stamps are header stamps in ns.

    ``deferred_until_ns`` is the monotonic time at which :meth:`take` gives a group that it did not
    give the last time because a nearer image is expected; None where it put none off.
    """

    def __init__(
        self, cameras: Sequence[str], slop_ns: int, policy: str, silent_after_ns: int, now_ns: int
    ):
        self.cameras = tuple(cameras)
        self.accounts = {name: FrameAccount() for name in cameras}
        self.configure(slop_ns, policy, silent_after_ns)
        # Stamp, message, monotonic time of arrival; in the order of the stamps.
        self._waiting: dict[str, deque[tuple[int, Any, int]]] = {name: deque() for name in cameras}
        self._flying_ns: dict[str, deque[int]] = {name: deque() for name in cameras}
        self._recent_ns = {name: deque(maxlen=PERIOD_STAMPS) for name in cameras}
        self._deferred_since_ns: int | None = None
        self.deferred_until_ns: int | None = None
        self._last_heard_ns = dict.fromkeys(cameras, now_ns)
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
        self._recent_ns[camera].append(stamp_ns)
        insort(waiting, (stamp_ns, message, now_ns), key=itemgetter(0))
        if len(waiting) > (1 if len(self.cameras) == 1 else MAX_PENDING):
            self._drop_oldest(camera)
        return jumped

    def _drop_oldest(self, camera: str) -> None:
        """Drop the image that has waited longest: superseded where a newer group waits, unmatched
        where none does.
        """
        oldest_ns = self._waiting[camera].popleft()[0]
        required = [c for c in self.cameras if self._policy == "wait" or self._waiting[c]]
        group = self._newest_group(required)
        newer = group is not None and min(image[0] for image in group.values()) > oldest_ns
        self.accounts[camera].dropped["superseded" if newer else "unmatched"] += 1

    def take(self, now_ns: int) -> dict[str, Any] | None:
        """The newest group that is ready, as messages by camera, or None. Its images are in flight
        from now on.

        A camera that has been silent for ``silent_after`` is not waited for under the policy
        ``mask``. A group may be deferred, at most by the slop from the arrival of its last image:
        see ``deferred_until_ns``.
        """
        required = [
            c for c in self.cameras if self._policy == "wait" or not self.is_silent(c, now_ns)
        ]
        group = self._newest_group(required)
        if group is None:
            self._forget_deferral()
            return None
        if self._defer(group, required, now_ns):
            return None
        self._forget_deferral()
        anchor_ns = min(image[0] for image in group.values())
        for camera, waiting in self._waiting.items():
            last_ns = group[camera][0] if camera in group else anchor_ns - self._slop_ns
            while waiting and waiting[0][0] <= last_ns:
                stamp_ns, message, _ = waiting.popleft()
                if camera in group and message is group[camera][1]:
                    self.accounts[camera].in_flight += 1
                    self._flying_ns[camera].append(stamp_ns)
                    self._last_taken_ns[camera] = stamp_ns
                else:
                    self.accounts[camera].dropped["superseded"] += 1
        return {camera: group[camera][1] for camera in self.cameras if camera in group}

    def _newest_group(self, required: list[str]) -> dict[str, tuple[int, Any, int]] | None:
        """One image a camera, all within the slop of each other, with every required camera."""
        if not all(self._waiting[camera] for camera in required):
            return None
        newest_ns = [
            waiting[-1][0]
            for camera, waiting in self._waiting.items()
            if waiting and (camera in required or not required)
        ]
        if not newest_ns:
            return None
        # Images older than the slowest camera's newest one can be matched fully; later ones cannot
        # yet.
        whole_ns = min(newest_ns)
        anchors = {image[0] for waiting in self._waiting.values() for image in waiting}
        for anchor_ns in sorted(anchors, key=lambda ns: (ns > whole_ns, abs(ns - whole_ns))):
            group = nearest_members(self._waiting, anchor_ns, self._slop_ns)
            if group and all(camera in group for camera in required):
                return group
        return None

    def _defer(
        self, group: dict[str, tuple[int, Any, int]], required: list[str], now_ns: int
    ) -> bool:
        """Wait for a nearer image of a required camera whose image is older than the group's
        latest; return whether the group is deferred.
        """
        latest_ns = max(image[0] for image in group.values())
        if any(self._is_nearer_next(camera, group[camera][0], latest_ns) for camera in required):
            complete_ns = max(arrived_ns for _, _, arrived_ns in group.values())
            if self._deferred_since_ns is None:
                self._deferred_since_ns = now_ns
            # From the first time on, as further images may make it another group each time.
            until_ns = min(complete_ns, self._deferred_since_ns) + self._slop_ns
            if now_ns < until_ns:
                self.deferred_until_ns = until_ns
                return True
        return False

    def _forget_deferral(self) -> None:
        self._deferred_since_ns = self.deferred_until_ns = None

    def _is_nearer_next(self, camera: str, stamp_ns: int, latest_ns: int) -> bool:
        recent_ns = sorted(self._recent_ns[camera])
        if (
            stamp_ns >= latest_ns
            or stamp_ns < self._waiting[camera][-1][0]
            or len(recent_ns) < FEWEST_STAMPS
        ):
            return False
        period_ns = median_low(later - earlier for earlier, later in itertools.pairwise(recent_ns))
        return abs(stamp_ns + period_ns - latest_ns) < latest_ns - stamp_ns

    def finish(self, camera: str, dropped_because: str = "") -> None:
        """One in-flight image was published, or dropped for the reason given."""
        account = self.accounts[camera]
        account.in_flight -= 1
        self._flying_ns[camera].popleft()
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
        for recent in self._recent_ns.values():
            recent.clear()
        self._last_taken_ns.clear()
        self._forget_deferral()

    def oldest_ns(self) -> int | None:
        """The oldest stamp of the images that wait or are in flight; None where there are none."""
        stamps_ns = [each[0][0] for each in self._waiting.values() if each]
        stamps_ns += [each[0] for each in self._flying_ns.values() if each]
        return min(stamps_ns, default=None)

    def pending(self, camera: str) -> int:
        """Images received and not yet published or dropped: waiting, or with the worker."""
        return len(self._waiting[camera]) + self.accounts[camera].in_flight

    def apart_ns(self, camera: str, now_ns: int) -> dict[str, int]:
        """How far the newest stamp of ``camera`` is ahead of that of each other camera from which
        images come too.
        """
        own_ns = self._recent_ns[camera]
        return {
            other: own_ns[-1] - recent_ns[-1]
            for other, recent_ns in self._recent_ns.items()
            if other != camera and own_ns and recent_ns and not self.is_silent(other, now_ns)
        }

    def is_silent(self, camera: str, now_ns: int) -> bool:
        """Whether nothing came from ``camera`` for ``silent_after``."""
        return self.age_ns(camera, now_ns) > self._silent_after_ns

    def age_ns(self, camera: str, now_ns: int) -> int:
        """How long ago the last usable image of ``camera`` came; since the start where none has
        come.
        """
        return now_ns - self._last_heard_ns[camera]
