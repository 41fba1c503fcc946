"""Which recorded images belong together: every group of a bag, where the live node takes only the
newest.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

# A camera that stops is waited for this long, so that the others' images do not fill the memory.
LONGEST_WAIT_NS = 2_000_000_000
# Stamps may hardly advance, so that nothing ever waits that long: what all cameras' images that
# wait may take.
MOST_WAITING_BYTES = 256 << 20
MOST_WAITING = 5000

Member = tuple[int, Any]  # stamp in ns, message


def nearest_members(
    waiting: Mapping[str, Iterable[tuple]], anchor_ns: int, slop_ns: int
) -> dict[str, tuple]:
    """One image per camera: the nearest to ``anchor_ns`` within the slop; of two as near, the
    earlier.

    Images are tuples that begin with their stamp in ns. All lie within the slop of each other: if
    the nearest do not, those later than the anchor are left out. A camera without such an image is
    not in the result.
    """
    group: dict[str, tuple] = {}
    for after_ns in (slop_ns, 0):
        group = {}
        for camera, images in waiting.items():
            near = [
                image for image in images if anchor_ns - slop_ns <= image[0] <= anchor_ns + after_ns
            ]
            if near:
                group[camera] = min(near, key=lambda image: abs(image[0] - anchor_ns))
        stamps_ns = [image[0] for image in group.values()]
        if not stamps_ns or max(stamps_ns) - min(stamps_ns) <= slop_ns:
            break
    return group


class ImageGroups:
    """Images of several cameras, one of each, whose stamps lie within the slop; each image is used
    once.

    A group is decided when every camera has sent an image at its latest stamp or later: no nearer
    partner can come then, except out of order. With ``mask`` it is also decided when a camera has
    sent nothing for ``silent_after_ns``; that camera is left out. Waiting images are in the order
    of their stamps, whichever came first. An image that has waited for ``LONGEST_WAIT_NS`` is
    ``unmatched``. One that is not later than the last taken of its camera, or has the stamp of one
    that waits, is ``late``. Where those that wait take more than ``MOST_WAITING_BYTES``
    (``size_of`` a message says how many), or are more than ``MOST_WAITING``, the earliest is
    ``crowded`` out.
    """

    def __init__(
        self,
        cameras: list[str],
        slop_ns: int,
        mask: bool,
        silent_after_ns: int,
        size_of: Callable[[Any], int] = lambda message: 0,
    ):
        self._slop_ns, self._mask, self._silent_after_ns = slop_ns, mask, silent_after_ns
        self._waiting: dict[str, deque[Member]] = {camera: deque() for camera in cameras}
        self._newest_ns: dict[str, int] = {}
        self._taken_ns: dict[str, int] = {}
        self._first_ns: int | None = None
        self._dropped: list[tuple[str, int, str]] = []
        self._size_of, self._waiting_bytes, self._waiting_count = size_of, 0, 0

    def add(self, camera: str, stamp_ns: int, message: Any) -> list[dict[str, Member]]:
        """Take one image; the groups, each (stamp, message) by camera, that are decided now."""
        waiting = self._waiting[camera]
        if stamp_ns <= self._taken_ns.get(camera, -1) or any(
            stamp_ns == other_ns for other_ns, _ in waiting
        ):
            self._dropped.append((camera, stamp_ns, "late"))
            return []
        insort(waiting, (stamp_ns, message), key=itemgetter(0))
        self._waiting_bytes += self._size_of(message)
        self._waiting_count += 1
        self._newest_ns[camera] = max(stamp_ns, self._newest_ns.get(camera, stamp_ns))
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        groups = self._decided(ended=False)
        for name, others in self._waiting.items():
            while others and others[0][0] < stamp_ns - LONGEST_WAIT_NS:
                self._drop(name)
        while self._waiting_bytes > MOST_WAITING_BYTES or self._waiting_count > MOST_WAITING:
            self._drop(min((w[0][0], name) for name, w in self._waiting.items() if w)[1], "crowded")
        return groups

    def flush(self) -> list[dict[str, Member]]:
        """Decide all that waits: nothing more comes, or time has jumped back. Any stamp is taken
        again.
        """
        groups = self._decided(ended=True)
        for camera, waiting in self._waiting.items():
            self._dropped += [(camera, stamp_ns, "unmatched") for stamp_ns, _ in waiting]
            waiting.clear()
        self._waiting_bytes = self._waiting_count = 0
        self._newest_ns.clear()
        self._taken_ns.clear()
        self._first_ns = None
        return groups

    def take_dropped(self) -> list[tuple[str, int, str]]:
        """(camera, stamp in ns, ``unmatched``, ``late`` or ``crowded``) of images in no group,
        since the last call.
        """
        dropped, self._dropped = self._dropped, []
        return dropped

    def _decided(self, ended: bool) -> list[dict[str, Member]]:
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
            heads = {c: self._waiting[c][0][0] for c in present}
            latest_ns, earliest = max(heads.values()), min(heads, key=heads.get)
            if latest_ns - heads[earliest] > self._slop_ns:
                self._drop(earliest)
                continue
            if not ended and any(self._newest_ns[c] < latest_ns for c in present):
                break
            groups.append(
                self._take(
                    nearest_members(
                        {c: self._waiting[c] for c in present}, latest_ns, self._slop_ns
                    )
                )
            )
        return groups

    def _take(self, group: dict[str, Member]) -> dict[str, Member]:
        """Take the images of ``group``; those of its cameras before them are left without one."""
        for camera, (stamp_ns, _) in group.items():
            while self._waiting[camera][0][0] < stamp_ns:
                self._drop(camera)
            self._popped(camera)
            self._taken_ns[camera] = stamp_ns
        return group

    def _drop(self, camera: str, reason: str = "unmatched") -> None:
        self._dropped.append((camera, self._popped(camera)[0], reason))

    def _popped(self, camera: str) -> Member:
        member = self._waiting[camera].popleft()
        self._waiting_bytes -= self._size_of(member[1])
        self._waiting_count -= 1
        return member
