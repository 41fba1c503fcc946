"""Which recorded images belong together: all groups of a bag. The live node takes the newest."""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

# The longest wait for a camera that stops, so that the others' images do not fill the memory.
LONGEST_WAIT_NS = 2_000_000_000
# Limits on all waiting images together: if stamps hardly advance, nothing ever waits that long.
MOST_WAITING_BYTES = 256 << 20
MOST_WAITING = 5000
# Times of recording may hardly advance: the size and the number of the groups that may wait for
# samples.
MOST_READY_BYTES = 192 << 20
MOST_READY = 1000


class Member(NamedTuple):
    """One image of a group."""

    stamp_ns: int  # of its header
    message: Any


class DroppedImage(NamedTuple):
    """One image that is in no group."""

    camera: str
    stamp_ns: int  # of its header
    reason: str  # unmatched, late or crowded


class _Stamped(Protocol):
    @property
    def stamp_ns(self) -> int: ...


Image = TypeVar("Image", bound=_Stamped)


def nearest_members(
    waiting: Mapping[str, Iterable[Image]], anchor_ns: int, slop_ns: int
) -> dict[str, Image]:
    """Return one image per camera: the nearest to ``anchor_ns``; of two as near, the earlier.

    All stamps differ by at most the slop: if those of the nearest images do not, images later than
    the anchor are left out. A camera without such an image is not in the result.
    """
    group: dict[str, Image] = {}
    for after_ns in (slop_ns, 0):
        low_ns = anchor_ns - slop_ns
        high_ns = anchor_ns + after_ns
        group = {}
        for camera, images in waiting.items():
            near = [image for image in images if low_ns <= image.stamp_ns <= high_ns]
            if near:
                group[camera] = min(near, key=lambda image: abs(image.stamp_ns - anchor_ns))
        stamps_ns = [image.stamp_ns for image in group.values()]
        if not stamps_ns or max(stamps_ns) - min(stamps_ns) <= slop_ns:
            break
    return group


class ImageGroups:
    """Groups images of several cameras, one of each, by stamps within the slop.

    Each image is used once. A group is complete when every camera has sent an image at the group's
    latest stamp or later: then no nearer image can arrive, except out of order. With ``mask`` it is
    also complete when a camera has sent nothing for ``silent_after_ns``; that camera is left out.

    Images in no group are dropped:

    * ``unmatched``: it has waited for ``LONGEST_WAIT_NS``, or later images of its camera are taken,
    * ``late``: it is not later than the last taken image of its camera, or has the stamp of one
      that waits,
    * ``crowded``: it is the earliest one, and all that wait are more than ``MOST_WAITING``, or take
      more than ``MOST_WAITING_BYTES``; ``size_of`` returns the bytes of a message.
    """

    def __init__(
        self,
        cameras: list[str],
        slop_ns: int,
        mask: bool,
        silent_after_ns: int,
        size_of: Callable[[Any], int] = lambda message: 0,
    ):
        self._slop_ns = slop_ns
        self._mask = mask
        self._silent_after_ns = silent_after_ns
        # In the order of the stamps.
        self._waiting: dict[str, deque[Member]] = {camera: deque() for camera in cameras}
        self._newest_ns: dict[str, int] = {}
        self._taken_ns: dict[str, int] = {}
        self._first_ns: int | None = None
        self._dropped: list[DroppedImage] = []
        self._size_of = size_of
        self._waiting_bytes = 0
        self._waiting_count = 0

    def add(self, camera: str, stamp_ns: int, message: Any) -> list[dict[str, Member]]:
        """Take one image; return the groups that are complete now, by camera."""
        waiting = self._waiting[camera]
        if stamp_ns <= self._taken_ns.get(camera, -1) or any(
            stamp_ns == other.stamp_ns for other in waiting
        ):
            self._dropped.append(DroppedImage(camera, stamp_ns, "late"))
            return []
        insort(waiting, Member(stamp_ns, message), key=attrgetter("stamp_ns"))
        self._waiting_bytes += self._size_of(message)
        self._waiting_count += 1
        self._newest_ns[camera] = max(stamp_ns, self._newest_ns.get(camera, stamp_ns))
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        groups = self._complete(ended=False)
        for name, others in self._waiting.items():
            while others and others[0].stamp_ns < stamp_ns - LONGEST_WAIT_NS:
                self._drop(name)
        while self._waiting_bytes > MOST_WAITING_BYTES or self._waiting_count > MOST_WAITING:
            _, earliest = min((w[0].stamp_ns, name) for name, w in self._waiting.items() if w)
            self._drop(earliest, "crowded")
        return groups

    def flush(self) -> list[dict[str, Member]]:
        """Return the groups of all waiting images: no more come, or time has jumped back.

        Any stamp is accepted again.
        """
        groups = self._complete(ended=True)
        for camera, waiting in self._waiting.items():
            self._dropped += [DroppedImage(camera, each.stamp_ns, "unmatched") for each in waiting]
            waiting.clear()
        self._waiting_bytes = 0
        self._waiting_count = 0
        self._newest_ns.clear()
        self._taken_ns.clear()
        self._first_ns = None
        return groups

    def take_dropped(self) -> list[DroppedImage]:
        """Return the images that were dropped since the last call."""
        dropped = self._dropped
        self._dropped = []
        return dropped

    def _complete(self, ended: bool) -> list[dict[str, Member]]:
        groups = []
        while any(self._waiting.values()):
            now_ns = max(self._newest_ns.values())
            silent = {
                c
                for c, w in self._waiting.items()
                if self._mask
                and not w
                and (
                    ended or now_ns - self._newest_ns.get(c, self._first_ns) > self._silent_after_ns
                )
            }
            present = [c for c in self._waiting if c not in silent]
            if not all(self._waiting[c] for c in present):
                break
            # Without partners within the slop, the earliest image will never find any.
            heads = {c: self._waiting[c][0].stamp_ns for c in present}
            latest_ns = max(heads.values())
            earliest = min(heads, key=heads.get)
            if latest_ns - heads[earliest] > self._slop_ns:
                self._drop(earliest)
                continue
            if not ended and any(self._newest_ns[c] < latest_ns for c in present):
                break
            waiting = {c: self._waiting[c] for c in present}
            groups.append(self._take(nearest_members(waiting, latest_ns, self._slop_ns)))
        return groups

    def _take(self, group: dict[str, Member]) -> dict[str, Member]:
        """Take the images of ``group``, and drop earlier ones of its cameras."""
        for camera, image in group.items():
            while self._waiting[camera][0].stamp_ns < image.stamp_ns:
                self._drop(camera)
            self._popped(camera)
            self._taken_ns[camera] = image.stamp_ns
        return group

    def _drop(self, camera: str, reason: str = "unmatched") -> None:
        self._dropped.append(DroppedImage(camera, self._popped(camera).stamp_ns, reason))

    def _popped(self, camera: str) -> Member:
        member = self._waiting[camera].popleft()
        self._waiting_bytes -= self._size_of(member.message)
        self._waiting_count -= 1
        return member


class ReadyGroup(NamedTuple):
    """Images that belong together, and wait for the samples around them."""

    decided_ns: int  # recorded time of the message that completed it
    recorded_ns: int  # of its own last image
    latest_ns: int  # the latest stamp of its images
    size_bytes: int  # of its images
    messages: dict[str, Any]  # by camera


class ReadyGroups:
    """Complete groups, in order. Their images are those of image.video.recorded."""

    def __init__(self) -> None:
        self._groups: deque[ReadyGroup] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def first(self) -> ReadyGroup:
        """The one that waits for the longest time."""
        return self._groups[0]

    @property
    def is_full(self) -> bool:
        """Whether more wait than may."""
        return self._bytes > MOST_READY_BYTES or len(self._groups) > MOST_READY

    def add(self, groups: Iterable[dict[str, Member]], decided_ns: int) -> None:
        """Have ``groups`` wait, which a message recorded at ``decided_ns`` completed."""
        for group in groups:
            images = {camera: member.message for camera, member in group.items()}
            self._groups.append(
                ReadyGroup(
                    decided_ns=decided_ns,
                    recorded_ns=max(image.recorded_ns for image in images.values()),
                    latest_ns=max(member.stamp_ns for member in group.values()),
                    size_bytes=sum(image.size_bytes for image in images.values()),
                    messages={camera: image.message for camera, image in images.items()},
                )
            )
            self._bytes += self._groups[-1].size_bytes

    def pop(self) -> tuple[int, dict[str, Any]]:
        """Take the first group: the recorded time of its last image, and its messages by camera."""
        group = self._groups.popleft()
        self._bytes -= group.size_bytes
        return group.recorded_ns, group.messages
