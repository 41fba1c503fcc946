"""How far a build is: TensorRT's nested phases as one percentage, for a progress bar and for the
log.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Takes what TensorRT's progress monitor reports; calls ``log`` at most once in ``period_s``,
    ``bar`` each percent.

    ``bar`` gets ``what`` and the fraction that is done, 0 to 1.

    A phase is a number of steps, and a step may be phases of its own; the percentage is that of the
    outermost phase, counts the unfinished ones inside it, and never falls. Thread-safe: the builder
    calls from threads of its own. ``stopped_by`` is what the listener raised: the builder, which is
    C++, may not see it, but should stop.
    """

    def __init__(
        self,
        what: str,
        log: Callable[[str], None],
        period_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        bar: Callable[[str, float], None] = lambda what, fraction: None,
    ):
        self._what = what
        self._log = log
        self._bar = bar
        self._percent = -1
        self.stopped_by: Exception | None = None
        self._period_s = period_s
        self._clock = clock
        self._started_s = self._told_s = clock()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self._lock = threading.Lock()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """``phase`` begins, inside ``parent`` where it has one; it will take ``steps`` steps."""
        with self._lock:
            self._phases[phase] = _Phase(parent, max(steps, 1))
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        """Step number ``step``, counted from 0, of ``phase`` is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase].done = min(step + 1, self._phases[phase].steps)
        self._tell(phase)

    def finish(self, phase: str) -> None:
        """``phase`` is over, whether all its steps were reported or not."""
        with self._lock:
            ended = self._phases.pop(phase, None)
            if ended is not None and ended.parent is None:
                self._fraction = 1.0
        self._move_bar()

    @property
    def fraction(self) -> float:
        """0 to 1."""
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

    def _move_bar(self) -> None:
        fraction = self.fraction
        with self._lock:
            if int(100 * fraction) == self._percent:
                return
            self._percent = int(100 * fraction)
        self._safely(self._bar, self._what, fraction)

    def _tell(self, phase: str) -> None:
        self._move_bar()
        now_s = self._clock()
        with self._lock:
            if now_s - self._told_s < self._period_s:
                return
            self._told_s = now_s
        self._safely(
            self._log,
            f"{self._what}: {self.fraction:.0%} after {now_s - self._started_s:.0f} s ({phase})",
        )

    def _safely(self, tell: Callable[..., None], *arguments) -> None:
        try:
            if self.stopped_by is None:
                tell(*arguments)
        except Exception as error:  # an exception may not pass through the builder, which is C++
            self.stopped_by = error
