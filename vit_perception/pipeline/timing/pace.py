"""When the next group of images is taken: as late as the engine allows, and not too often."""

from collections import deque
from statistics import median

# Of the latest frames: enough for a median, few enough to follow an engine that changes its speed.
FRAMES = 9


class Pace:
    """Tells how long to wait before the next group is taken from the images that wait.

    A group that is taken early grows old while the engine is busy, and a newer image cannot take
    its place any more. So it is taken when the run of the engine that is in progress is about to
    end: in time to be prepared by then, as the latest frames took.
    """

    def __init__(self) -> None:
        self._taken_s = float("-inf")
        self._runs_s: deque[float] = deque(maxlen=FRAMES)
        self._prepares_s: deque[float] = deque(maxlen=FRAMES)

    def taken(self, now_s: float) -> None:
        """Note that a group is taken; times are monotonic, in seconds."""
        self._taken_s = now_s

    def prepared(self, took_s: float) -> None:
        """Note how long a group took to be prepared."""
        self._prepares_s.append(took_s)

    def ran(self, took_s: float) -> None:
        """Note how long the engine was busy with a frame."""
        self._runs_s.append(took_s)

    def wait_s(self, now_s: float, most_hz: float, run_begun_s: float | None) -> float:
        """Seconds until the next group may be taken; 0 or less: now.

        ``most_hz`` bounds the groups taken in a second; 0 is no bound. ``run_begun_s`` is since
        when the engine is busy; None while it is not.
        """
        due_s = self._taken_s + 1.0 / most_hz if most_hz else float("-inf")
        if run_begun_s is not None and self._runs_s and self._prepares_s:
            # The longest of the prepares: to be ready too early costs freshness by the difference,
            # to be late costs the engine's time.
            due_s = max(due_s, run_begun_s + median(self._runs_s) - max(self._prepares_s))
        return due_s - now_s
