"""How long each stage took and how often frames went out, of late."""

import threading
import time
from collections import deque
from collections.abc import Iterable

import numpy as np

WINDOW_S = 5.0


class StageLatencies:
    """The last few hundred values of each stage in ms, and the times of publication for the rate.

    The worker adds, the executor's thread reads.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._stages: dict[str, deque[float]] = {}
        self._published_ns: deque[int] = deque(maxlen=1500)

    def add(self, stage_ms: dict[str, float]) -> None:
        """Note one published frame."""
        with self._lock:
            self._published_ns.append(time.monotonic_ns())
            for stage, value in stage_ms.items():
                self._stages.setdefault(stage, deque(maxlen=300)).append(value)

    def rate_hz(self) -> float:
        """Publications a second over the last 5 s."""
        with self._lock:
            return rate_hz(self._published_ns, time.monotonic_ns())

    def summary(self) -> dict[str, str]:
        """``latency_ms.<stage>`` as "p50 / p99" for people; ``latency_p50_ms.<stage>`` and
        ``latency_p99_ms.<stage>`` are the same as one number each, for tools that plot.
        """
        with self._lock:
            stages = {stage: list(values) for stage, values in self._stages.items()}
        both, p50s, p99s = {}, {}, {}
        for stage, values in stages.items():
            p50, p99 = (f"{value:.2f}" for value in np.percentile(values, (50, 99)))
            both[f"latency_ms.{stage}"] = f"{p50} / {p99}"
            p50s[f"latency_p50_ms.{stage}"] = p50
            p99s[f"latency_p99_ms.{stage}"] = p99
        return {**both, **p50s, **p99s}


def rate_hz(times_ns: Iterable[int], now_ns: int) -> float:
    """Events a second over the last 5 s, of monotonic times."""
    return sum(1 for t in times_ns if now_ns - t <= WINDOW_S * 1e9) / WINDOW_S
