"""The depth image of each camera at the stamp of an image.

An image has the depth image of its own stamp. If there is none, it has the latest earlier one, or
the first later one, within ``cameras.<name>.depth_max_skew_s``. Nothing is interpolated.
"""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from vit_perception.config.settings import CameraSettings
from vit_perception.streams.pairing import Pairing
from vit_perception.streams.sample_history import JUMP_BACK_NS
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

# The longest wait for a depth image of an image's stamp.
WAIT_S = 0.02
KEEP_S = 1.0
# Of all depth images that are kept of one camera: 2 s of 1280 x 720 px at 30 Hz.
MOST_BYTES = 128 << 20

DepthMessage = Any  # a sensor_msgs/Image


class DepthHistory:
    """The depth images of one camera by stamp, of the last ``keep_s`` seconds."""

    def __init__(self, keep_s: float = KEEP_S) -> None:
        self._keep_ns = round(keep_s * NANOSECONDS_PER_SECOND)
        self._kept: list[tuple[int, DepthMessage]] = []
        self._bytes = 0

    def add(self, stamp_ns: int, message: DepthMessage) -> None:
        """Take one depth image. A stamp more than 1 s earlier than the newest means that time was
        set back: all are forgotten.
        """
        if self._kept and stamp_ns < self._kept[-1][0] - JUMP_BACK_NS:
            self.clear()
        at = bisect_left(self._kept, stamp_ns, key=itemgetter(0))
        if at < len(self._kept) and self._kept[at][0] == stamp_ns:
            self._bytes -= len(self._kept.pop(at)[1].data)
        insort(self._kept, (stamp_ns, message), key=itemgetter(0))
        self._bytes += len(message.data)
        oldest_ns = self._kept[-1][0] - self._keep_ns
        while self._kept and (self._kept[0][0] < oldest_ns or self._bytes > MOST_BYTES):
            self._bytes -= len(self._kept.pop(0)[1].data)

    def at(self, stamp_ns: int, max_skew_ns: int) -> DepthMessage | None:
        """Return the depth image of an image with this stamp; None if there is none near it."""
        after = bisect_right(self._kept, stamp_ns, key=itemgetter(0))
        for index in (after - 1, after):
            if 0 <= index < len(self._kept):
                found_ns, message = self._kept[index]
                if abs(found_ns - stamp_ns) <= max_skew_ns:
                    return message
        return None

    def covers(self, stamp_ns: int) -> bool:
        """Whether a depth image at or after ``stamp_ns`` has come."""
        return bool(self._kept) and self._kept[-1][0] >= stamp_ns

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._bytes = 0


@dataclass
class DepthAccount:
    """The counters of one camera's depth images."""

    received: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    used: int = 0  # images that had one
    waited: int = 0  # images for which one was waited
    missing: int = 0  # images that had none


class Depths:
    """The histories of all cameras that have depth images. Not thread-safe: a bag is read with it.

    What a depth image holds is looked at when it is used.
    """

    def __init__(self, cameras: Sequence[CameraSettings], keep_s: float = KEEP_S):
        given = [camera for camera in cameras if camera.depth_topic]
        self.by_topic: dict[str, list[str]] = {}
        for camera in given:
            self.by_topic.setdefault(camera.depth_topic, []).append(camera.name)
        self._topics = {camera.name: camera.depth_topic for camera in given}
        self._max_skew_ns = {
            camera.name: round(camera.depth_max_skew_s * NANOSECONDS_PER_SECOND) for camera in given
        }
        self._histories = {camera.name: DepthHistory(keep_s) for camera in given}
        self.accounts = {camera.name: DepthAccount() for camera in given}

    def add(self, cameras: Sequence[str], message: DepthMessage) -> int:
        """Take a depth image of ``cameras``; return its stamp in ns.

        Raises:
            BadInput: ``stamp``, ``frame`` or ``size``; it is counted first.
        """
        accounts = [self.accounts[camera] for camera in cameras]
        for account in accounts:
            account.received += 1
        try:
            stamp_ns = stamp_ns_of(message.header)
            check_frame_id(message.header.frame_id)
            if len(message.data) > MOST_BYTES:
                raise BadInput(
                    "size",
                    f"the depth image has {len(message.data)} bytes; accepted: up to {MOST_BYTES}",
                )
        except BadInput as error:
            for account in accounts:
                account.refused[error.reason] += 1
            raise
        for camera in cameras:
            self._histories[camera].add(stamp_ns, message)
        return stamp_ns

    def covers(self, stamp_ns: int) -> bool:
        """Whether each camera has had a depth image at or after ``stamp_ns``."""
        return all(history.covers(stamp_ns) for history in self._histories.values())

    def at(self, stamps_ns: Mapping[str, int]) -> dict[str, DepthMessage | BadInput]:
        """Return the depth image of each camera's image, whose stamp is in ``stamps_ns``.

        Where there is none, it is the error for the image.
        """
        found: dict[str, DepthMessage | BadInput] = {}
        for camera, history in self._histories.items():
            if camera in stamps_ns:
                message = history.at(stamps_ns[camera], self._max_skew_ns[camera])
                account = self.accounts[camera]
                account.used += message is not None
                account.missing += message is None
                found[camera] = self._missing(camera) if message is None else message
        return found

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget the depth images of the time before the jump,
        unless they have jumped, too.
        """
        for history in self._histories.values():
            if history.covers(stamp_ns + JUMP_BACK_NS):
                history.clear()

    def _missing(self, camera: str) -> BadInput:
        return BadInput(
            "no_depth",
            f"no depth image has come on {self._topics[camera]} near the image's stamp; accepted: "
            f"one within cameras.{camera}.depth_max_skew_s",
        )


class DepthInputs:
    """:class:`Depths` under the node's condition: ``add`` notifies it, ``at`` waits on it."""

    def __init__(self, cameras: Sequence[CameraSettings], changed: threading.Condition):
        self._changed = changed
        self._depths = Depths(cameras)
        self.accounts = self._depths.accounts
        self._pairings = {camera: Pairing() for camera in self.accounts}

    def add(self, camera: str, message: DepthMessage) -> None:
        """Take a depth image of ``camera``. Raises BadInput if it cannot be used."""
        with self._changed:
            self._pairings[camera].came(self._depths.add([camera], message))
            self._changed.notify_all()

    def at(self, stamps_ns: Mapping[str, int]) -> dict[str, DepthMessage | BadInput]:
        """Return the depth image of each camera that has some at its image's stamp.

        It waits at most ``WAIT_S`` for one of the image's stamp where the driver sends one with
        each image.
        """
        with self._changed:
            waited = {
                camera: pairing
                for camera, pairing in self._pairings.items()
                if camera in stamps_ns and pairing.is_expected(stamps_ns[camera])
            }
            for camera in waited:
                self.accounts[camera].waited += 1
            self._changed.wait_for(
                lambda: all(each.has(stamps_ns[camera]) for camera, each in waited.items()),
                timeout=WAIT_S,
            )
            return self._depths.at(stamps_ns)

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``."""
        with self._changed:
            self._depths.forget_after(stamp_ns)
