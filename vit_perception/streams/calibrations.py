"""The calibration of each camera at the stamp of an image, from its CameraInfo messages.

An image has the calibration of the latest CameraInfo at or before its stamp; before the first one,
that first one. So it does not matter whether a driver sends a CameraInfo beside each image, or a
single latched one. A stamp of 0 is before every image. A CameraInfo that cannot be used is refused
and counted, and what was in force stays.
"""

import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.config.settings import CameraSettings
from vit_perception.image.camera_info import Calibration, calibration_of, info_stamp_ns
from vit_perception.streams.pairing import Pairing
from vit_perception.streams.sample_history import JUMP_BACK_NS
from vit_perception.wire.records import BadInput

# Changes of one camera's calibration that are kept: those of images that wait.
MOST_CHANGES = 64
# The longest wait for a CameraInfo at or after an image's stamp: drivers send both at once.
WAIT_S = 0.02


class CalibrationHistory:
    """The calibrations of one camera by stamp; equal ones that follow each other are kept once."""

    def __init__(self) -> None:
        # Two lists, so that bisect compares plain integers.
        self._since_ns: list[int] = []
        self._calibrations: list[Calibration] = []
        self._newest_ns: int | None = None

    def add(self, stamp_ns: int, calibration: Calibration) -> None:
        """Take the calibration of one CameraInfo. A stamp more than 1 s earlier than the newest
        means that time was set back: what was known of later times is forgotten.
        """
        if stamp_ns > 0:
            newest_ns = self._newest_ns
            if newest_ns is not None and stamp_ns < newest_ns - JUMP_BACK_NS:
                self._cut(stamp_ns)
                newest_ns = None
            self._newest_ns = stamp_ns if newest_ns is None else max(newest_ns, stamp_ns)
        at = bisect_right(self._since_ns, stamp_ns)
        if at and self._calibrations[at - 1] == calibration:
            return
        if at and self._since_ns[at - 1] == stamp_ns:
            self._calibrations[at - 1] = calibration
            return
        self._since_ns.insert(at, stamp_ns)
        self._calibrations.insert(at, calibration)
        del self._since_ns[:-MOST_CHANGES], self._calibrations[:-MOST_CHANGES]

    def at(self, stamp_ns: int) -> Calibration | None:
        """Return the calibration of an image with this stamp; None if there is none at all."""
        if not self._calibrations:
            return None
        return self._calibrations[max(0, bisect_right(self._since_ns, stamp_ns) - 1)]

    def covers(self, stamp_ns: int) -> bool:
        """Whether a CameraInfo at or after ``stamp_ns`` has come: waiting longer does not help."""
        return self._newest_ns is not None and self._newest_ns >= stamp_ns

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget calibrations of the time before the jump.

        If all are later, the earliest one stays: of a latched one there is no other.
        """
        if self.covers(stamp_ns + JUMP_BACK_NS):
            first = self._calibrations[0]
            self._cut(stamp_ns)
            self._newest_ns = None
            if not self._calibrations:
                self._since_ns, self._calibrations = [stamp_ns], [first]

    def _cut(self, stamp_ns: int) -> None:
        at = bisect_right(self._since_ns, stamp_ns)
        del self._since_ns[at:], self._calibrations[at:]


@dataclass
class InfoAccount:
    """The counters of one camera's CameraInfo messages."""

    received: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    trouble: str = ""  # why the latest one was refused; empty if it was not
    arrived_ns: int = 0  # monotonic, of the latest usable one
    used: int = 0  # images that had a calibration
    waited: int = 0  # images for which a CameraInfo was waited
    missing: int = 0  # images that had none


class Calibrations:
    """The histories of all cameras that are rectified, and of those that ``wanted`` names.

    Not thread-safe: a bag is read with it.
    """

    def __init__(self, cameras: Sequence[CameraSettings], wanted: Collection[str] = ()):
        chosen = [camera for camera in cameras if camera.rectify or camera.name in wanted]
        self._rectified = {camera.name for camera in chosen if camera.rectify}
        self.by_topic: dict[str, list[str]] = {}
        for camera in chosen:
            self.by_topic.setdefault(camera.info_topic, []).append(camera.name)
        self._histories = {camera.name: CalibrationHistory() for camera in chosen}
        self.accounts = {camera.name: InfoAccount() for camera in chosen}

    def add(self, cameras: Sequence[str], message: Any) -> int:
        """Take a CameraInfo of ``cameras``; return its stamp in ns.

        Raises:
            BadInput: it cannot be used; it is counted first.
        """
        accounts = [self.accounts[camera] for camera in cameras]
        for account in accounts:
            account.received += 1
        try:
            stamp_ns = info_stamp_ns(message)
            calibration = calibration_of(message)
        except BadInput as error:
            for account in accounts:
                account.refused[error.reason] += 1
                account.trouble = str(error)
            raise
        for camera, account in zip(cameras, accounts):
            account.trouble = ""
            account.arrived_ns = time.monotonic_ns()
            self._histories[camera].add(stamp_ns, calibration)
        return stamp_ns

    def covers(self, stamp_ns: int) -> bool:
        """Whether each camera has had a CameraInfo at or after ``stamp_ns``."""
        return all(history.covers(stamp_ns) for history in self._histories.values())

    def covers_each(self, stamps_ns: Mapping[str, int], cameras: Sequence[str]) -> bool:
        """Whether each of ``cameras`` has had a CameraInfo at or after its own stamp."""
        return all(self._histories[camera].covers(stamps_ns[camera]) for camera in cameras)

    def at(self, stamps_ns: Mapping[str, int]) -> "dict[str, Calibration | BadInput]":
        """Return the calibration of each camera's image, whose stamp is in ``stamps_ns``.

        Where there is none, it is the error for the image.
        """
        found: dict[str, Calibration | BadInput] = {}
        for camera, history in self._histories.items():
            if camera in stamps_ns:
                calibration = history.at(stamps_ns[camera])
                self.accounts[camera].used += calibration is not None
                self.accounts[camera].missing += calibration is None
                found[camera] = self._missing(camera) if calibration is None else calibration
        return found

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: see :meth:`CalibrationHistory.forget_after`."""
        for history in self._histories.values():
            history.forget_after(stamp_ns)

    def _missing(self, camera: str) -> BadInput:
        topic = next(name for name, cameras in self.by_topic.items() if camera in cameras)
        trouble = self.accounts[camera].trouble
        why = f" (the latest one was refused: {trouble})" if trouble else ""
        without = f", or cameras.{camera}.rectify: false" if camera in self._rectified else ""
        return BadInput(
            "no_camera_info",
            f"no usable CameraInfo has come on {topic}{why}; accepted: one before the images"
            f"{without}",
        )


class CalibrationInputs:
    """:class:`Calibrations` under the node's condition: ``add`` notifies it, ``at`` waits on it."""

    def __init__(
        self,
        cameras: Sequence[CameraSettings],
        changed: threading.Condition,
        wanted: Collection[str] = (),
    ):
        self._changed = changed
        self._calibrations = Calibrations(cameras, wanted)
        self.accounts = self._calibrations.accounts
        self._pairings = {camera: Pairing() for camera in self.accounts}

    def add(self, camera: str, message: Any) -> None:
        """Take a CameraInfo of ``camera``. Raises BadInput if it cannot be used."""
        with self._changed:
            self._pairings[camera].came(self._calibrations.add([camera], message))
            self._changed.notify_all()

    def at(self, stamps_ns: Mapping[str, int]) -> "dict[str, Calibration | BadInput]":
        """Return the calibration of each camera that has one at its image's stamp.

        It waits at most ``WAIT_S`` for a CameraInfo at or after the stamp, which may come a little
        later than the image, where the driver sends one with each image.
        """
        with self._changed:
            waited = [
                camera
                for camera, pairing in self._pairings.items()
                if camera in stamps_ns and pairing.is_expected(stamps_ns[camera])
            ]
            for camera in waited:
                self.accounts[camera].waited += 1
            self._changed.wait_for(
                lambda: self._calibrations.covers_each(stamps_ns, waited), timeout=WAIT_S
            )
            return self._calibrations.at(stamps_ns)

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``."""
        with self._changed:
            self._calibrations.forget_after(stamp_ns)
