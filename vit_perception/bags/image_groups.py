"""Which recorded images belong together: every group of a bag, where the live node takes only the newest."""

from collections import deque
from typing import Any

# A camera that stops is waited for this long, so that the others' images do not fill the memory.
LONGEST_WAIT_NS = 2_000_000_000

Member = tuple[int, Any]  # stamp in ns, message


class ImageGroups:
    """Images of several cameras, one of each, whose stamps lie within the slop; each image is used once.

    A group is decided when every camera has sent an image at or behind its latest stamp, so that no nearer
    partner can come; with ``mask`` also when a camera has sent nothing for ``silent_after_ns``: it is left out.
    An image that has waited for ``LONGEST_WAIT_NS`` is unmatched.
    """

    def __init__(self, cameras: list[str], slop_ns: int, mask: bool, silent_after_ns: int):
        self._slop_ns, self._mask, self._silent_after_ns = slop_ns, mask, silent_after_ns
        self._waiting: dict[str, deque[Member]] = {camera: deque() for camera in cameras}
        self._newest_ns: dict[str, int] = {}
        self._first_ns: int | None = None
        self._unmatched: list[tuple[str, int]] = []

    def add(self, camera: str, stamp_ns: int, message: Any) -> list[dict[str, Member]]:
        """Take one image; the groups, each (stamp, message) by camera, that are decided now."""
        self._waiting[camera].append((stamp_ns, message))
        self._newest_ns[camera] = stamp_ns
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        groups = self._decided(ended=False)
        for name, waiting in self._waiting.items():
            while waiting and waiting[0][0] < stamp_ns - LONGEST_WAIT_NS:
                self._drop(name)
        return groups

    def flush(self) -> list[dict[str, Member]]:
        """Decide all that waits: nothing more comes, or time has jumped back."""
        groups = self._decided(ended=True)
        for camera, waiting in self._waiting.items():
            self._unmatched += [(camera, stamp_ns) for stamp_ns, _ in waiting]
            waiting.clear()
        self._newest_ns.clear()
        self._first_ns = None
        return groups

    def take_unmatched(self) -> list[tuple[str, int]]:
        """(camera, stamp in ns) of images that found no partners, since the last call."""
        unmatched, self._unmatched = self._unmatched, []
        return unmatched

    def _decided(self, ended: bool) -> list[dict[str, Member]]:
        groups = []
        while any(self._waiting.values()):
            now_ns = max(self._newest_ns.values())
            silent = {c for c, w in self._waiting.items() if self._mask and not w and
                      (ended or now_ns - self._newest_ns.get(c, self._first_ns) > self._silent_after_ns)}
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
            groups.append({c: self._nearest(c, latest_ns) for c in present})
        return groups

    def _nearest(self, camera: str, stamp_ns: int) -> Member:
        """Take the image nearest to ``stamp_ns``; those before it are left without a group."""
        waiting = self._waiting[camera]
        while len(waiting) > 1 and abs(waiting[1][0] - stamp_ns) < abs(waiting[0][0] - stamp_ns):
            self._drop(camera)
        return waiting.popleft()

    def _drop(self, camera: str) -> None:
        self._unmatched.append((camera, self._waiting[camera].popleft()[0]))
