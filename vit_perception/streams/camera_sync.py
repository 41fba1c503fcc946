"""Which images are encoded together, and what became of every received image.

The newest frame is taken. With one camera that is the latest image; older ones are superseded. With
several it is the newest set of images, one per camera, whose stamps differ by at most ``slop``; of
each camera the nearest. If a faster camera's rate says that its next image will be nearer, the
group waits for it, at most for the slop. Callers hold one lock around every method (the node shares
it with its worker thread).
"""

import itertools
from bisect import insort
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from statistics import median_low
from typing import Any, NamedTuple

from vit_perception.config.settings import EncoderSettings
from vit_perception.streams.recorded_groups import nearest_members
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

# A bag that loops jumps back by its length; a late or re-ordered image by a few frames.
JUMP_BACK_NS = 1_000_000_000
# Images that wait for other cameras; at 30 Hz this covers an encoder run of 0.3 s.
MAX_PENDING = 10
# A camera's period is the median between its latest stamps, so that single lost images do not
# matter.
PERIOD_STAMPS = 8
FEWEST_STAMPS = 3
LONGEST_IDLE_S = 0.05  # how late the silence of a camera may be noticed
# Why images are dropped that wait when the node stops.
DEACTIVATED = "deactivated"
GPU_LOST = "gpu_lost"


class SyncRule(NamedTuple):
    """How images are grouped."""

    slop_ns: int  # largest difference of stamps in one group
    policy: str  # what a silent camera does: "wait" for it, or "mask" it
    silent_after_ns: int  # a camera that sends nothing for this time is silent


def sync_of(settings: EncoderSettings) -> SyncRule:
    """Return the rule of ``settings``, in the order of :meth:`CameraSync.configure`."""
    sync = settings.sync
    return SyncRule(
        slop_ns=round(sync.slop_s * NANOSECONDS_PER_SECOND),
        policy=sync.policy,
        silent_after_ns=round(sync.silent_after_s * NANOSECONDS_PER_SECOND),
    )


class WaitingImage(NamedTuple):
    """An image that waits to be encoded."""

    stamp_ns: int  # of its header
    message: Any
    arrived_ns: int  # monotonic


@dataclass
class FrameAccount:
    """One camera's counters: exactly ``received = published + all dropped + pending``.

    Pending images wait, or are with the worker.
    """

    received: int = 0
    published: int = 0
    in_flight: int = 0  # with the worker
    dropped: Counter = field(default_factory=Counter)  # by reason
    # Monotonic, of the latest images.
    arrivals_ns: deque = field(default_factory=lambda: deque(maxlen=1500))


class CameraSync:
    """Groups images by stamp and accounts for each of them. Stamps are those of headers, in ns."""

    def __init__(
        self, cameras: Sequence[str], slop_ns: int, policy: str, silent_after_ns: int, now_ns: int
    ):
        self.cameras = tuple(cameras)
        self.accounts = {name: FrameAccount() for name in cameras}
        self.configure(slop_ns, policy, silent_after_ns)
        # In the order of the stamps.
        self._waiting: dict[str, deque[WaitingImage]] = {name: deque() for name in cameras}
        self._flying_ns: dict[str, deque[int]] = {name: deque() for name in cameras}
        self._recent_ns = {name: deque(maxlen=PERIOD_STAMPS) for name in cameras}
        self._deferred_since_ns: int | None = None
        # The monotonic time at which take() returns the group that it deferred last time, because a
        # nearer image is expected. None if it deferred none.
        self.deferred_until_ns: int | None = None
        self._last_heard_ns = dict.fromkeys(cameras, now_ns)
        self._last_taken_ns: dict[str, int] = {}

    def configure(self, slop_ns: int, policy: str, silent_after_ns: int) -> None:
        """Use these values from the next call on; waiting images stay."""
        self._slop_ns = slop_ns
        self._policy = policy
        self._silent_after_ns = silent_after_ns

    def refuse(self, camera: str, reason: str) -> None:
        """Count an image that was received but cannot even be queued."""
        self.accounts[camera].received += 1
        self.accounts[camera].dropped[reason] += 1

    def add(self, camera: str, stamp_ns: int, message: Any, now_ns: int) -> bool:
        """Queue one image; ``now_ns`` is the monotonic time at which it arrived.

        Returns whether time has jumped back: all waiting images are dropped then.
        """
        account = self.accounts[camera]
        waiting = self._waiting[camera]
        account.received += 1
        account.arrivals_ns.append(now_ns)
        self._last_heard_ns[camera] = now_ns
        newest_ns = waiting[-1].stamp_ns if waiting else self._last_taken_ns.get(camera)
        jumped = newest_ns is not None and stamp_ns < newest_ns - JUMP_BACK_NS
        if jumped:
            self.clear("time_jump")
        elif stamp_ns <= self._last_taken_ns.get(camera, -1):
            account.dropped["late"] += 1
            return False
        self._recent_ns[camera].append(stamp_ns)
        insort(waiting, WaitingImage(stamp_ns, message, now_ns), key=attrgetter("stamp_ns"))
        if len(waiting) > (1 if len(self.cameras) == 1 else MAX_PENDING):
            self._drop_oldest(camera)
        return jumped

    def _drop_oldest(self, camera: str) -> None:
        """Drop the oldest image: superseded if a newer group waits, else unmatched."""
        oldest_ns = self._waiting[camera].popleft().stamp_ns
        required = [c for c in self.cameras if self._policy == "wait" or self._waiting[c]]
        group = self._newest_group(required)
        newer = group is not None and min(image.stamp_ns for image in group.values()) > oldest_ns
        self.accounts[camera].dropped["superseded" if newer else "unmatched"] += 1

    def take(self, now_ns: int) -> dict[str, Any] | None:
        """Take the newest group that is ready, as messages by camera; None if there is none.

        Its images are in flight then. With the policy ``mask`` silent cameras are not waited for. A
        group may be deferred, at most by the slop from the arrival of its last image: see
        ``deferred_until_ns``.
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
        anchor_ns = min(image.stamp_ns for image in group.values())
        for camera, waiting in self._waiting.items():
            last_ns = group[camera].stamp_ns if camera in group else anchor_ns - self._slop_ns
            while waiting and waiting[0].stamp_ns <= last_ns:
                stamp_ns, message, _ = waiting.popleft()
                if camera in group and message is group[camera].message:
                    self.accounts[camera].in_flight += 1
                    self._flying_ns[camera].append(stamp_ns)
                    self._last_taken_ns[camera] = stamp_ns
                else:
                    self.accounts[camera].dropped["superseded"] += 1
        return {camera: group[camera].message for camera in self.cameras if camera in group}

    def _newest_group(self, required: list[str]) -> dict[str, WaitingImage] | None:
        """Return one image per camera, all within the slop, with every required camera."""
        if not all(self._waiting[camera] for camera in required):
            return None
        newest_ns = [
            waiting[-1].stamp_ns
            for camera, waiting in self._waiting.items()
            if waiting and (camera in required or not required)
        ]
        if not newest_ns:
            return None
        # Images older than the slowest camera's newest one can be matched fully; later ones cannot
        # yet.
        full_ns = min(newest_ns)
        anchors = {image.stamp_ns for waiting in self._waiting.values() for image in waiting}
        for anchor_ns in sorted(anchors, key=lambda ns: (ns > full_ns, abs(ns - full_ns))):
            group = nearest_members(self._waiting, anchor_ns, self._slop_ns)
            if group and all(camera in group for camera in required):
                return group
        return None

    def _defer(self, group: dict[str, WaitingImage], required: list[str], now_ns: int) -> bool:
        """Defer the group if a required camera's next image will be nearer to its latest stamp.

        Returns whether it is deferred.
        """
        latest_ns = max(image.stamp_ns for image in group.values())
        if any(
            self._is_nearer_next(camera, group[camera].stamp_ns, latest_ns) for camera in required
        ):
            complete_ns = max(image.arrived_ns for image in group.values())
            if self._deferred_since_ns is None:
                self._deferred_since_ns = now_ns
            # From the first time on: further images may make it another group each time.
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
            or stamp_ns < self._waiting[camera][-1].stamp_ns
            or len(recent_ns) < FEWEST_STAMPS
        ):
            return False
        period_ns = median_low(later - earlier for earlier, later in itertools.pairwise(recent_ns))
        return abs(stamp_ns + period_ns - latest_ns) < latest_ns - stamp_ns

    def finish(self, camera: str, dropped_because: str = "", stamp_ns: int | None = None) -> None:
        """Count one in-flight image as published, or as dropped for the reason given: the image of
        ``stamp_ns``, or the oldest one.
        """
        account = self.accounts[camera]
        flying_ns = self._flying_ns[camera]
        account.in_flight -= 1
        flying_ns.remove(flying_ns[0] if stamp_ns is None else stamp_ns)
        if dropped_because:
            account.dropped[dropped_because] += 1
        else:
            account.published += 1

    def clear(self, reason: str) -> None:
        """Drop all waiting images (a time jump, a deactivation) and accept older stamps again."""
        for camera, waiting in self._waiting.items():
            if waiting:
                self.accounts[camera].dropped[reason] += len(waiting)
            waiting.clear()
        for recent in self._recent_ns.values():
            recent.clear()
        self._last_taken_ns.clear()
        self._forget_deferral()

    def oldest_ns(self) -> int | None:
        """Return the oldest stamp of images that wait or are in flight; None if there are none."""
        stamps_ns = [each[0].stamp_ns for each in self._waiting.values() if each]
        # In the order in which they were taken: a time jump makes that another one.
        stamps_ns += [min(each) for each in self._flying_ns.values() if each]
        return min(stamps_ns, default=None)

    def pending(self, camera: str) -> int:
        """Return the number of images that were not published or dropped yet."""
        return len(self._waiting[camera]) + self.accounts[camera].in_flight

    def apart_ns(self, camera: str, now_ns: int) -> dict[str, int]:
        """Return how much later the newest stamp of ``camera`` is than that of each other camera.

        Cameras from which no images come are left out.
        """
        own_ns = self._recent_ns[camera]
        return {
            other: own_ns[-1] - recent_ns[-1]
            for other, recent_ns in self._recent_ns.items()
            if other != camera and own_ns and recent_ns and not self.is_silent(other, now_ns)
        }

    @property
    def slop_ns(self) -> int:
        """The largest difference of stamps within one group."""
        return self._slop_ns

    def waited_for(self, camera: str, now_ns: int) -> dict[str, int]:
        """The silent cameras without which no image of ``camera`` is encoded, and their silence in
        ns. Under the policy ``mask`` there are none.
        """
        if self._policy != "wait":
            return {}
        return {
            other: self.age_ns(other, now_ns)
            for other in self.cameras
            if other != camera and self.is_silent(other, now_ns)
        }

    def is_silent(self, camera: str, now_ns: int) -> bool:
        """Whether nothing came from ``camera`` for ``silent_after_ns``."""
        return self.age_ns(camera, now_ns) > self._silent_after_ns

    def idle_s(self, now_ns: int) -> float | None:
        """After how many seconds without a message :meth:`take` may give a group: with a silent or
        slow camera, time completes one. None: never.
        """
        if len(self.cameras) == 1:
            return None
        if self.deferred_until_ns is None:
            return LONGEST_IDLE_S
        return min(LONGEST_IDLE_S, max(0.0, (self.deferred_until_ns - now_ns) / 1e9))

    def age_ns(self, camera: str, now_ns: int) -> int:
        """Return the time since the last usable image of ``camera``, or since the start."""
        return now_ns - self._last_heard_ns[camera]
