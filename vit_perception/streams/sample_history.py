"""Recent samples of one stream by stamp, and those around a moment. What lies between two is the
caller's business.
"""

import math
from bisect import bisect_left
from typing import Any, Generic, NamedTuple, TypeVar

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, PoseStatus

# A bag that starts again jumps back by its length; a late sample is late by milliseconds.
JUMP_BACK_NS = NANOSECONDS_PER_SECOND
KEEP_S = 2.0
# However long an image is under way, no stream keeps more: memory stays bounded.
MOST_KEPT_S = 60.0
# Stamps may advance by a nanosecond a sample: a minute at 1000 Hz is 60,000 samples.
MOST_SAMPLES = 100_000
MOST_KEPT_NS = round(MOST_KEPT_S * NANOSECONDS_PER_SECOND)

Sample = TypeVar("Sample")


class Around(NamedTuple):
    """Samples around a stamp: ``fraction`` (0 to 1) of the way from ``before`` to ``after``.

    Both are one sample where it is exact or ``held``, and None where it is ``missing``, as
    ``skew_ns`` is. ``nearest_ns`` is then how far behind the stamp the nearest sample is (before
    it: below zero), None without any.
    """

    status: PoseStatus
    skew_ns: int | None
    # Of the history's own type: Python 3.10 has no NamedTuple that is generic.
    before: Any
    after: Any
    fraction: float
    nearest_ns: int | None = None


def how_far(nearest_ns: int | None) -> str:
    """``nearest_ns`` of a pose or state that is missing, as a text for the user."""
    if nearest_ns is None:
        return "there is no usable one at all"
    return (
        f"the nearest is {abs(nearest_ns) / 1e9:.3f} s {'after' if nearest_ns > 0 else 'before'} it"
    )


_MISSING = Around("missing", None, None, None, 0.0)


class SampleHistory(Generic[Sample]):
    """The samples of the last ``keep_s`` seconds before the newest one, or before an older stamp
    that may still be asked for, sorted by stamp.

    Not thread-safe: the caller holds one lock around every call.
    """

    def __init__(self, keep_s: float = KEEP_S):
        if not 0.0 < keep_s < math.inf:
            raise InvalidValue(f"keep_s is {keep_s!r}; accepted: a time above zero, in seconds")
        self._keep_ns = round(keep_s * NANOSECONDS_PER_SECOND)
        # Two lists, so that bisect compares plain integers.
        self._stamps_ns: list[int] = []
        self._samples: list[Sample] = []
        self.crowded_out = 0  # samples that were forgotten only because there were MOST_SAMPLES

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, stamp_ns: int, sample: Sample, needed_ns: int | None = None) -> None:
        """Insert ``sample`` by its stamp; one with the same stamp is replaced.

        A stamp more than 1 s before the newest means that time was set back (a bag looped):
        everything older is forgotten. A late sample that is already older than ``keep_s`` is not
        kept. ``needed_ns``: the oldest stamp that will be looked up; what is around it is kept, up
        to ``MOST_KEPT_S``.
        """
        stamps = self._stamps_ns
        if stamps and stamp_ns < stamps[-1] - JUMP_BACK_NS:
            self.clear()
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            self._samples[at] = sample
            return
        stamps.insert(at, stamp_ns)
        self._samples.insert(at, sample)
        newest_ns = stamps[-1]
        last_ns = (
            newest_ns
            if needed_ns is None
            else min(newest_ns, max(needed_ns, newest_ns - MOST_KEPT_NS))
        )
        old, crowded = bisect_left(stamps, last_ns - self._keep_ns), len(stamps) - MOST_SAMPLES
        self.crowded_out += max(0, crowded - old)
        expired = max(old, crowded)
        del stamps[:expired], self._samples[:expired]

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps_ns.clear()
        self._samples.clear()

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample; None where there is none."""
        return self._stamps_ns[-1] if self._stamps_ns else None

    def covers(self, stamp_ns: int) -> bool:
        """Whether a sample at or after ``stamp_ns`` is there, so that waiting longer brings nothing
        better.
        """
        return bool(self._stamps_ns) and self._stamps_ns[-1] >= stamp_ns

    def around(self, stamp_ns: int, max_skew_ns: int) -> Around:
        """The two samples around ``stamp_ns``.

        Outside the samples the nearest one is held; so it is between two that are more than twice
        ``max_skew_ns`` apart: interpolating across a gap in the stream would invent a motion that
        nobody measured. Nothing is given (``missing``) when the nearest sample is further than
        ``max_skew_ns`` away.
        """
        stamps, samples = self._stamps_ns, self._samples
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            return Around("interpolated", 0, samples[at], samples[at], 0.0)
        before, after = at - 1, at
        neighbours = [index for index in (before, after) if 0 <= index < len(stamps)]
        if not neighbours:
            return _MISSING
        nearest = min(neighbours, key=lambda index: abs(stamps[index] - stamp_ns))
        skew_ns = abs(stamps[nearest] - stamp_ns)
        if skew_ns > max_skew_ns:
            return _MISSING._replace(nearest_ns=stamps[nearest] - stamp_ns)
        gap_ns = stamps[after] - stamps[before] if len(neighbours) == 2 else math.inf
        if gap_ns <= 2 * max_skew_ns:
            return Around(
                "interpolated",
                skew_ns,
                samples[before],
                samples[after],
                (stamp_ns - stamps[before]) / gap_ns,
            )
        return Around("held", skew_ns, samples[nearest], samples[nearest], 0.0)
