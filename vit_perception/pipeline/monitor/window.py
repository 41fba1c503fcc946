"""The last seconds of one camera's changes, and what they say together.

One image may be odd: medians over a window decide.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.pipeline.monitor.reference import CameraReference
from vit_perception.wire.monitored import CameraChange
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

Level = Literal["ok", "warn", "error"]
# Of a slow camera so many images count, however old they are; fewer say nothing.
FEWEST = 3
MOST = 4096
# Images of so much of the window have to be there.
COVERED = 0.5
# A shift warns from so much more than the held-out frames' noise on: these are few episodes.
NOISE_MARGIN = 1.5


@dataclass(frozen=True)
class Finding:
    """What a window says of a camera."""

    level: Level
    says: str
    # The largest of the medians in units of the limits from which on it warns: 1 or more warns.
    alarm: float = 0.0
    # Medians; NaN without.
    novelty: float = math.nan
    score: float = math.nan
    x_px: float = math.nan
    y_px: float = math.nan
    rotation_deg: float = math.nan
    # Share of the images in which the background was found; NaN without images.
    found: float = math.nan


class ChangeWindow:
    """The changes of one camera, newest last. A step back in time begins anew."""

    def __init__(self, reference: CameraReference):
        self._reference = reference
        self._kept: deque[tuple[int, CameraChange]] = deque(maxlen=MOST)

    def clear(self) -> None:
        """Forget every image."""
        self._kept.clear()

    def add(self, stamp_ns: int, change: CameraChange, window_s: float) -> None:
        """Take the change of one image, and drop those that are older than ``window_s``."""
        if self._kept and stamp_ns <= self._kept[-1][0]:
            self.clear()
        self._kept.append((stamp_ns, change))
        oldest_ns = stamp_ns - round(window_s * NANOSECONDS_PER_SECOND)
        while len(self._kept) > FEWEST and self._kept[0][0] < oldest_ns:
            self._kept.popleft()

    def finding(self, settings: MonitorSettings) -> Finding:
        """Return what the window says, by the limits of ``settings``."""
        kept = list(self._kept)
        if not kept:
            return Finding("ok", "no image yet that the reference knows")
        span_s = (kept[-1][0] - kept[0][0]) / NANOSECONDS_PER_SECOND
        if len(kept) < FEWEST or span_s < COVERED * settings.window_s:
            return Finding("ok", f"{len(kept)} images in {span_s:.1f} s are too few to judge")
        changes = [change for _, change in kept]
        novelty = float(np.median([change.novelty for change in changes]))
        score = float(np.median([change.score for change in changes]))
        shifts = [change.shift for change in changes if change.shift]
        found = len(shifts) / len(changes)
        x_px = y_px = rotation_deg = math.nan
        if found >= COVERED:
            x_px, y_px, rotation_deg = (
                float(number)
                for number in np.median(
                    [(each.x_px, each.y_px, each.rotation_deg) for each in shifts], axis=0
                )
            )
        level, says, alarm = self._judged(settings, score, (x_px, y_px, rotation_deg))
        return Finding(
            level=level,
            says=says,
            alarm=alarm,
            novelty=novelty,
            score=score,
            x_px=x_px,
            y_px=y_px,
            rotation_deg=rotation_deg,
            found=found,
        )

    def _judged(
        self, settings: MonitorSettings, score: float, shift: tuple[float, float, float]
    ) -> tuple[Level, str, float]:
        x_px, y_px, rotation_deg = shift
        noise_x, noise_y, noise_deg = NOISE_MARGIN * self._reference.shift_noise
        # What is measured, what it is called, from where on it warns, and is an error.
        judged = [
            (
                score,
                f"novel: {score:.2f}, the limit of normal frames is 1",
                settings.novelty_warn,
                settings.novelty_error,
            )
        ]
        if not math.isnan(x_px):
            noise_px = float(math.hypot(noise_x, noise_y))
            moved = f"the camera has moved: {x_px:+.1f} {y_px:+.1f} px, {rotation_deg:+.1f} degrees"
            judged += [
                (
                    math.hypot(x_px, y_px),
                    moved,
                    max(settings.shift_warn_px, noise_px),
                    settings.shift_error_px,
                ),
                (
                    abs(rotation_deg),
                    moved,
                    max(settings.rotation_warn_deg, float(noise_deg)),
                    settings.rotation_error_deg,
                ),
            ]
        alarm = max(value / warn for value, _, warn, _ in judged)
        texts = dict.fromkeys(text for value, text, warn, _ in judged if value >= warn)
        if not texts:
            return "ok", "as in training", alarm
        is_error = any(value >= max(warn, error) for value, _, warn, error in judged)
        # A move explains a novelty, and not the other way round.
        return "error" if is_error else "warn", "; ".join(reversed(texts)), alarm
