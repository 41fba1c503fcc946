"""Numbers of a topic by stamp: the sample that holds at a stamp, or the line between two."""

import math
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from vit_perception.streams.sample_history import JUMP_BACK_NS, MOST_KEPT_NS


class NumbersAt(NamedTuple):
    """The numbers at a stamp."""

    # float64 (n,); None if there are none.
    numbers: np.ndarray | None
    # The stamp of the latest sample at or before the stamp asked for.
    stamp_ns: int = 0
    # If there are none: why.
    why: str = ""


class NumberHistory:
    """The samples of one topic, sorted by stamp: those of the last 60 s, and one before them.

    ``longest_ns`` bounds the age of a sample (``linear`` False; 0 is no bound), or the gap between
    the two samples (``linear`` True). At most ``most_samples`` are kept.
    Not thread-safe.
    """

    def __init__(self, linear: bool, longest_ns: int, most_samples: int):
        self._linear = linear
        self._longest_ns = longest_ns
        self._most = max(2, most_samples)
        self._stamps_ns: list[int] = []
        self._samples: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, stamp_ns: int, numbers: np.ndarray) -> None:
        """Insert a sample; one of the same stamp is replaced.

        A stamp more than 1 s before the newest means that time was set back: all are forgotten.
        """
        stamps = self._stamps_ns
        if stamps and stamp_ns < stamps[-1] - JUMP_BACK_NS:
            self.clear()
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            self._samples[at] = numbers
            return
        stamps.insert(at, stamp_ns)
        self._samples.insert(at, numbers)
        # The last sample before the kept time still holds at its beginning.
        old = bisect_right(stamps, stamps[-1] - MOST_KEPT_NS) - 1
        expired = max(0, old, len(stamps) - self._most)
        del stamps[:expired]
        del self._samples[:expired]

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps_ns.clear()
        self._samples.clear()

    def covers(self, stamp_ns: int) -> bool:
        """Whether there is a sample at or after ``stamp_ns``: waiting longer does not help."""
        return bool(self._stamps_ns) and self._stamps_ns[-1] >= stamp_ns

    def at(self, stamp_ns: int) -> NumbersAt:
        """Return the numbers at ``stamp_ns``."""
        stamps = self._stamps_ns
        later = bisect_left(stamps, stamp_ns)
        is_exact = later < len(stamps) and stamps[later] == stamp_ns
        earlier = later if is_exact else later - 1
        if earlier < 0:
            after = f"; the first is {_seconds(stamps[0] - stamp_ns)} after it" if stamps else ""
            return NumbersAt(None, why=f"no sample at or before it{after}")
        age_ns = stamp_ns - stamps[earlier]
        if is_exact or not self._linear:
            if self._longest_ns and age_ns > self._longest_ns:
                return NumbersAt(None, why=f"the latest sample is {_seconds(age_ns)} old")
            return NumbersAt(self._samples[earlier], stamps[earlier])
        if later == len(stamps):
            return NumbersAt(None, why=f"no sample after it; the last is {_seconds(age_ns)} old")
        gap_ns = stamps[later] - stamps[earlier]
        if gap_ns > (self._longest_ns or math.inf):
            return NumbersAt(None, why=f"the samples around it are {_seconds(gap_ns)} apart")
        fraction = age_ns / gap_ns
        numbers = (1.0 - fraction) * self._samples[earlier] + fraction * self._samples[later]
        return NumbersAt(numbers, stamps[earlier])


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.3f} s"
