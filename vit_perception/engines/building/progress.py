"""How far a build is: TensorRT's nested phases as one percentage."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vit_perception.files.log import Log


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Turn what TensorRT's progress monitor reports into progress of ``what`` for ``log``.

    ``log`` gets each percent, and a sentence at most once in ``period_s``.

    A phase is a number of steps, and a step may contain phases. The percentage is that of the
    outermost phase; it counts unfinished phases inside it, and never falls. The class is
    thread-safe, because the builder calls it from its own threads. ``stopped_by`` is what ``log``
    raised: an exception may not pass through the builder, which is C++, but the build should stop.
    """

    def __init__(
        self,
        what: str,
        log: Log,
        period_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._what = what
        self._log = log
        self._percent = -1
        self.stopped_by: Exception | None = None
        self._period_s = period_s
        self._clock = clock
        self._started_s = clock()
        self._sentence_s = self._started_s
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._lock = threading.Lock()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """``phase`` begins, inside ``parent`` if it has one, and will take ``steps`` steps."""
        with self._lock:
            self._phases[phase] = _Phase(parent, max(steps, 1))
        self._report(phase)

    def step(self, phase: str, step: int) -> None:
        """Step number ``step``, counted from 0, of ``phase`` is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase].done = min(step + 1, self._phases[phase].steps)
        self._report(phase)

    def finish(self, phase: str) -> None:
        """``phase`` is over, whether all its steps were reported or not."""
        with self._lock:
            ended = self._phases.pop(phase, None)
            if ended is not None and ended.parent is None:
                self._fraction = 1.0
        self._report()

    @property
    def fraction(self) -> float:
        """The part of the build that is done, 0 to 1."""
        with self._lock:
            roots = [
                self._share(name) for name, phase in self._phases.items() if phase.parent is None
            ]
            self._fraction = max([self._fraction, *roots])
            return self._fraction

    def _share(self, name: str) -> float:
        """The part of phase ``name`` that is done."""
        phase = self._phases[name]
        inner = max(
            (self._share(child) for child, other in self._phases.items() if other.parent == name),
            default=0.0,
        )
        return min((phase.done + inner) / phase.steps, 1.0)

    def _report(self, phase: str = "") -> None:
        """Tell ``log`` of a new percent; in a sentence if the last one is a period old."""
        fraction = self.fraction
        now_s = self._clock()
        with self._lock:
            moved = int(100 * fraction) != self._percent
            due = bool(phase) and now_s - self._sentence_s >= self._period_s
            if self.stopped_by is not None or not (moved or due):
                return
            self._percent = int(100 * fraction)
            if due:
                self._sentence_s = now_s
        elapsed_s = now_s - self._started_s
        text = f"{self._what}: {fraction:.0%} after {elapsed_s:.0f} s ({phase})" if due else ""
        try:
            self._log.progress(self._what, fraction, text)
        except Exception as error:
            self.stopped_by = error
