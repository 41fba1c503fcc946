"""Recent samples of one source by stamp, and those around a stamp. The caller interpolates."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.records import (
    NANOSECONDS_PER_SECOND,
    Pose,
    Sample,
    SampleAtImage,
    SampleStatus,
)

# A bag that starts again jumps back by its length; a late sample is late by milliseconds.
JUMP_BACK_NS = NANOSECONDS_PER_SECOND
KEEP_S = 2.0
# No stream keeps more, however long an image takes: memory stays bounded.
MOST_KEPT_S = 60.0
# Stamps may advance by a nanosecond a sample: a minute at 1000 Hz is 60,000 samples.
MOST_SAMPLES = 100_000
MOST_KEPT_NS = round(MOST_KEPT_S * NANOSECONDS_PER_SECOND)

Kept = TypeVar("Kept")
Measured = TypeVar("Measured", Pose, Sample)


class Neighbours(NamedTuple):
    """The samples around a stamp."""

    status: SampleStatus
    # Distance to the nearer of the two; None if missing.
    skew_ns: int | None
    # The same sample twice if it is exact or held; None if missing. Of the history's own type:
    # Python 3.10 has no generic NamedTuple.
    earlier: Any
    later: Any
    # Where the stamp is between earlier (0) and later (1).
    fraction: float
    # If missing: how much later than the stamp the nearest sample is (earlier: below zero).
    nearest_ns: int | None = None


def how_far(nearest_ns: int | None) -> str:
    """Return ``nearest_ns`` of a missing sample in words."""
    if nearest_ns is None:
        return "there is no usable one at all"
    return (
        f"the nearest is {abs(nearest_ns) / 1e9:.3f} s {'after' if nearest_ns > 0 else 'before'} it"
    )


_MISSING = Neighbours(status="missing", skew_ns=None, earlier=None, later=None, fraction=0.0)


class SampleHistory(Generic[Kept]):
    """The samples of the last ``keep_s`` seconds, sorted by stamp.

    The time counts back from the newest sample, or from an older stamp that may still be asked for.
    Not thread-safe: the caller holds one lock around every call.

    Raises:
        InvalidValue: ``keep_s`` is not a time above zero.
    """

    def __init__(self, keep_s: float = KEEP_S):
        if not 0.0 < keep_s < math.inf:
            raise InvalidValue(f"keep_s is {keep_s!r}; accepted: a time above zero, in seconds")
        self._keep_ns = round(keep_s * NANOSECONDS_PER_SECOND)
        # Two lists, so that bisect compares plain integers.
        self._stamps_ns: list[int] = []
        self._samples: list[Kept] = []
        self.crowded_out = 0  # samples that were forgotten only because there were MOST_SAMPLES

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, stamp_ns: int, sample: Kept, needed_ns: int | None = None) -> None:
        """Insert ``sample`` by its stamp; one with the same stamp is replaced.

        A stamp more than 1 s earlier than the newest means that time was set back (a bag looped):
        all samples are forgotten. A late sample that is older than ``keep_s`` is not kept.
        ``needed_ns`` is the oldest stamp that will be looked up; samples around it are kept, up to
        ``MOST_KEPT_S``.
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
        last_ns = newest_ns
        if needed_ns is not None:
            last_ns = min(newest_ns, max(needed_ns, newest_ns - MOST_KEPT_NS))
        old = bisect_left(stamps, last_ns - self._keep_ns)
        crowded = len(stamps) - MOST_SAMPLES
        self.crowded_out += max(0, crowded - old)
        expired = max(old, crowded)
        del stamps[:expired]
        del self._samples[:expired]

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps_ns.clear()
        self._samples.clear()

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample; None if there is none."""
        return self._stamps_ns[-1] if self._stamps_ns else None

    def covers(self, stamp_ns: int) -> bool:
        """Whether there is a sample at or after ``stamp_ns``: waiting longer does not help."""
        return bool(self._stamps_ns) and self._stamps_ns[-1] >= stamp_ns

    def around(self, stamp_ns: int, max_skew_ns: int) -> Neighbours:
        """Return the two samples around ``stamp_ns``.

        The nearest sample is held if there is none on the other side, or if the two are more than
        twice ``max_skew_ns`` apart: interpolation across a gap in the stream would invent a motion
        that was not measured. The status is ``missing`` if the nearest sample is further than
        ``max_skew_ns`` away.
        """
        stamps = self._stamps_ns
        samples = self._samples
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            return _at(samples[at], "interpolated", skew_ns=0)
        earlier = at - 1
        later = at
        neighbours = [index for index in (earlier, later) if 0 <= index < len(stamps)]
        if not neighbours:
            return _MISSING
        nearest = min(neighbours, key=lambda index: abs(stamps[index] - stamp_ns))
        skew_ns = abs(stamps[nearest] - stamp_ns)
        if skew_ns > max_skew_ns:
            return _MISSING._replace(nearest_ns=stamps[nearest] - stamp_ns)
        gap_ns = stamps[later] - stamps[earlier] if len(neighbours) == 2 else math.inf
        if gap_ns <= 2 * max_skew_ns:
            return Neighbours(
                status="interpolated",
                skew_ns=skew_ns,
                earlier=samples[earlier],
                later=samples[later],
                fraction=(stamp_ns - stamps[earlier]) / gap_ns,
            )
        return _at(samples[nearest], "held", skew_ns=skew_ns)


def _at(sample: Any, status: SampleStatus, skew_ns: int) -> Neighbours:
    return Neighbours(status=status, skew_ns=skew_ns, earlier=sample, later=sample, fraction=0.0)


class ValueHistory(ABC, Generic[Measured]):
    """The measured values of the last ``keep_s`` seconds, with values between two samples.

    Not thread-safe, as :class:`SampleHistory`.
    """

    def __init__(self, keep_s: float = KEEP_S):
        self._samples: SampleHistory[Measured] = SampleHistory(keep_s)
        self.clear = self._samples.clear
        self.covers = self._samples.covers

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def newest_ns(self) -> int | None:
        """The stamp of the newest sample; None if there is none."""
        return self._samples.newest_ns

    @property
    def crowded_out(self) -> int:
        """The number of samples that were forgotten because there were too many."""
        return self._samples.crowded_out

    def add(self, sample: Measured, needed_ns: int | None = None) -> None:
        """Insert ``sample`` by its stamp, as :meth:`SampleHistory.add` says."""
        self._samples.add(sample.stamp_ns, sample, needed_ns)

    def lookup(self, stamp_ns: int, max_skew_ns: int) -> SampleAtImage[Measured]:
        """Return the value at ``stamp_ns``; its status is that of :meth:`SampleHistory.around`."""
        found = self._samples.around(stamp_ns, max_skew_ns)
        if found.earlier is None:
            return SampleAtImage(
                value=None, status=found.status, skew_ns=None, nearest_ns=found.nearest_ns
            )
        value = found.earlier
        if found.earlier is not found.later:
            value = self.between(found.earlier, found.later, found.fraction)
        return SampleAtImage(replace(value, stamp_ns=stamp_ns), found.status, found.skew_ns)

    @abstractmethod
    def between(self, earlier: Measured, later: Measured, fraction: float) -> Measured:
        """Return the value at ``fraction`` (0 to 1) of the way; its stamp does not matter."""


class LinearHistory(ValueHistory[Sample]):
    """Numbers that are linear between two samples."""

    def between(self, earlier: Sample, later: Sample, fraction: float) -> Sample:
        """Return the numbers at ``fraction`` (0 to 1) of the way."""
        step = later.numbers - earlier.numbers
        return replace(earlier, numbers=earlier.numbers + fraction * step)
