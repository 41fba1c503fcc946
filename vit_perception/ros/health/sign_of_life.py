"""The sign of life in the log: the first frame, then one line every so often."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from vit_perception.pipeline.timing.latencies import StageLatencies
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_inputs import SampleInputs


class _Counts(NamedTuple):
    """The counters of one moment."""

    frames: int
    dropped: dict[str, Counter[str]]  # by camera, by reason
    statuses: dict[str, Counter[str]]  # by other source, how it was had at images


class SignOfLife:
    """Says when the first frame went out, and what went on since the last line."""

    def __init__(self, started_ns: int):
        self._started_ns = started_ns  # monotonic
        self._said_ns = started_ns
        self._said = _Counts(0, {}, {})
        self._has_begun = False

    def line(
        self,
        now_ns: int,
        period_s: float,
        *,
        sync: CameraSync,
        samples: SampleInputs,
        latencies: Mapping[str, StageLatencies],
    ) -> str:
        """Return the line that is due, or "". Call it with the lock held; ``period_s`` 0 is off.

        ``latencies`` are those of each camera.
        """
        counts = _Counts(
            frames=max((a.published for a in sync.accounts.values()), default=0),
            dropped={name: a.dropped.copy() for name, a in sync.accounts.items()},
            statuses={name: a.statuses.copy() for name, a in samples.accounts.items()},
        )
        age = _age(latencies)
        if not self._has_begun and counts.frames:
            self._has_begun = True
            self._said_ns, self._said = now_ns, counts
            line = f"first frame after {(now_ns - self._started_ns) / 1e9:.1f} s, {age}"
            return line if period_s > 0 else ""
        past_s = (now_ns - self._said_ns) / 1e9
        if period_s <= 0 or past_s < period_s:
            return ""
        before = self._said
        self._said_ns, self._said = now_ns, counts
        frames = counts.frames - before.frames
        parts = [f"in the last {past_s:.0f} s: {frames} frames, {frames / past_s:.1f} Hz, {age}"]
        for camera, dropped in counts.dropped.items():
            new = dropped - before.dropped.get(camera, Counter())
            parts.append(f"{camera}: {_listed(new) or 'none'} dropped")
        for name, statuses in counts.statuses.items():
            new = statuses - before.statuses.get(name, Counter())
            shown = {status: new[status] for status in ("interpolated", "held", "missing")}
            parts.append(f"{name}: {_listed(shown)}")
        return "; ".join(parts)


def _age(latencies: Mapping[str, StageLatencies]) -> str:
    """The oldest camera's median time from stamp to publication."""
    medians_ms = [
        float(summary["latency_ms.age"].split(" / ")[0])
        for summary in (each.summary() for each in latencies.values())
        if "latency_ms.age" in summary
    ]
    return f"age {max(medians_ms):.0f} ms" if medians_ms else "age unknown (another clock's stamps)"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
