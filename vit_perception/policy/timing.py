"""Which action of a chunk is due now, and how many are over before a chunk is ready.

    timing = ActionTiming(period_s=0.05, length=16)
    timing.begin(observation.stamp_ns, now_ns())       # the policy begins with an observation
    chunk = policy(observation)                        # (16, A)
    timing.end(now_ns())                               # its chunk is there
    index = timing.due(observation.stamp_ns, now_ns()) # asked at each step of the robot

Action i of a chunk is meant for ``i * period_s`` after the stamp of its observation, as the chunks
of :class:`vit_perception.policy.dataset.FeatureDataset` are. All times are of one clock, that of
the stamps: the node's, so simulated time with ``use_sim_time``. It needs numpy alone, and no ROS.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue, OperationFailed, shown
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

SHORTEST_PERIOD_S = 0.0001
LONGEST_PERIOD_S = 60.0
MOST_ACTIONS = 10_000
MOST_KEPT = 100_000
# Stamp and clock that differ by more are of two clocks. An encoder that fell silent is no reason.
MOST_APART_S = 3600.0
# Clocks of two machines may differ so much that a stamp is in the future.
MOST_AHEAD_S = 1.0
# A clock that is set back goes back by more; two threads that ask it may call in another order.
JUMP_BACK_NS = NANOSECONDS_PER_SECOND


class MixedClocks(InvalidValue):
    """A stamp and a time are not of one clock, for example of simulated and of system time."""


class ChunkTooShort(OperationFailed):
    """Every action of a chunk is over before the chunk is ready."""


@dataclass(frozen=True)
class Delays:
    """How long after its observation's stamp a chunk was ready, in the last inferences."""

    p50_s: float
    p99_s: float
    # What was added to the differences of clock and stamp, because the two clocks differ.
    offset_s: float
    # The number of inferences.
    count: int


class ActionTiming:
    """Measures the delay of a policy, and says which action of a chunk is due.

    ``period_s`` is the time from one action to the next, ``length`` the number of actions of a
    chunk, ``window`` the number of inferences that are looked at.

    **Clocks that differ.** The policy's own running time is a difference on one clock. The age of
    an observation is not, if camera and policy run on two machines. ``least_age_s`` is the age of
    the youngest observations, from the stamp to their arrival, as measured on the camera's machine:
    with it the smallest age of the window is taken as that, so that an offset of either sign is
    removed. Without it only an offset that puts stamps into the future is seen, and is removed.

    A clock that goes back by more than 1 s (a simulation that begins anew) begins a new window.

    Two threads may share it: one that runs the policy, and one that sends actions.

    Raises:
        InvalidValue: a number is not accepted.
    """

    def __init__(
        self,
        period_s: float,
        length: int,
        *,
        window: int = 100,
        least_age_s: float | None = None,
    ):
        # NaN fails the comparisons, so it is refused too.
        _check("period_s", period_s, SHORTEST_PERIOD_S, LONGEST_PERIOD_S, " s")
        _check("length", length, 1, MOST_ACTIONS)
        _check("window", window, 1, MOST_KEPT)
        if least_age_s is not None:
            _check("least_age_s", least_age_s, 0.0, MOST_APART_S, " s")
        self.period_s = period_s
        self.length = length
        self._period_ns = round(period_s * NANOSECONDS_PER_SECOND)
        self._least_age_ns = (
            None if least_age_s is None else round(least_age_s * NANOSECONDS_PER_SECOND)
        )
        # Of each inference, by the two clocks as they are: from the stamp to its begin and its end.
        self._ages_ns: deque[int] = deque(maxlen=window)
        self._delays_ns: deque[int] = deque(maxlen=window)
        self._begun: tuple[int, int] | None = None  # stamp and time of what runs now
        self._newest_ns = 0
        self._before_ns = 0  # the latest time before the clock went back
        self._lock = threading.RLock()

    def forget(self) -> None:
        """Begin a new window, for example after the first inference, which takes longer."""
        with self._lock:
            self._ages_ns.clear()
            self._delays_ns.clear()
            self._begun = None

    def begin(self, stamp_ns: int, now_ns: int) -> bool:
        """Note that the policy begins with the observation of ``stamp_ns``.

        Returns False, and notes nothing, for an observation from before the clock went back.

        Raises:
            MixedClocks: the two times are not of one clock.
        """
        with self._lock:
            self._advance(now_ns)
            if self._is_of_before(stamp_ns, now_ns):
                return False
            check_clocks(stamp_ns, now_ns)
            self._ages_ns.append(now_ns - stamp_ns)
            self._begun = (stamp_ns, now_ns)
            return True

    def end(self, now_ns: int) -> float | None:
        """Note that the chunk is ready, and return its delay in s; None if the clock went back.

        Raises:
            MixedClocks: ``now_ns`` is of another clock than :meth:`begin` was told.
            OperationFailed: nothing was begun.
        """
        with self._lock:
            if self._begun is None:
                raise OperationFailed("no inference was begun; accepted: end after begin")
            stamp_ns, begun_ns = self._begun
            self._advance(now_ns)
            if now_ns <= 0 or now_ns > begun_ns:
                check_clocks(stamp_ns, now_ns)
            self._begun = None
            if now_ns < begun_ns:
                return None
            self._delays_ns.append(now_ns - stamp_ns)
            return (now_ns - stamp_ns + self.offset_ns) / NANOSECONDS_PER_SECOND

    @property
    def offset_ns(self) -> int:
        """What is added to the differences of clock and stamp, in ns."""
        with self._lock:
            if not self._ages_ns:
                return 0
            youngest_ns = min(self._ages_ns)
        if self._least_age_ns is None:
            return max(0, -youngest_ns)
        return self._least_age_ns - youngest_ns

    @property
    def delays(self) -> Delays | None:
        """The delays of the window; None before the first inference has ended."""
        with self._lock:
            if not self._delays_ns:
                return None
            return Delays(
                p50_s=self._delay_ns(0.5) / NANOSECONDS_PER_SECOND,
                p99_s=self._delay_ns(0.99) / NANOSECONDS_PER_SECOND,
                offset_s=self.offset_ns / NANOSECONDS_PER_SECOND,
                count=len(self._delays_ns),
            )

    def _delay_ns(self, share: float) -> int:
        # A delay that was measured, not one between two: that of the nearest rank.
        delays_ns = np.array(self._delays_ns)
        return int(np.quantile(delays_ns, share, method="inverted_cdf")) + self.offset_ns

    def inference_delay(self, share: float = 0.99) -> int:
        """Return how many actions are over before a chunk is ready, in ``share`` of the window.

        That is what real-time chunking asks for as ``inference_delay``: so many actions of the
        chunk before are carried out in the meantime, whatever the new chunk says. They are counted
        from the stamp of the observation, not from the begin of the inference.

        Raises:
            OperationFailed: no inference has ended yet. The first chunk has none before it.
            ChunkTooShort: no action of the chunk is left then.
        """
        if not 0.0 < share <= 1.0:
            raise InvalidValue(f" is {shown(share)}; accepted: above 0, up to 1", argument="share")
        with self._lock:
            if not self._delays_ns:
                raise OperationFailed("no inference has ended yet; accepted: after the first chunk")
            delay_ns = max(0, self._delay_ns(share))
        steps = -(-delay_ns // self._period_ns)
        if steps >= self.length:
            raise ChunkTooShort(
                f"a chunk is ready {delay_ns / 1e9:.3f} s after its observation, and its "
                f"{self.length} actions take {self.length * self.period_s:g} s; accepted: a longer "
                "chunk, or a faster policy"
            )
        return steps

    def due(self, stamp_ns: int, now_ns: int) -> int | None:
        """Return the index of the action that is due in the chunk of the observation ``stamp_ns``.

        It is due until the next one is. None if the last one is over, or the clock went back since.

        Raises:
            MixedClocks: the two times are not of one clock.
        """
        with self._lock:
            self._advance(now_ns)
            if self._is_of_before(stamp_ns, now_ns):
                return None
            check_clocks(stamp_ns, now_ns)
            index = max(0, now_ns - stamp_ns + self.offset_ns) // self._period_ns
        return int(index) if index < self.length else None

    def shift(self, earlier_stamp_ns: int, stamp_ns: int) -> int:
        """Return which action of an earlier chunk is at the same time as action 0 of a new one.

        ``earlier_chunk[shift:]`` is what real-time chunking asks for as the rest of the chunk
        before. It is ``length`` at most: nothing is left then.

        Raises:
            InvalidValue: ``stamp_ns`` is the earlier one.
        """
        if stamp_ns < earlier_stamp_ns:
            raise InvalidValue(
                f" is {(earlier_stamp_ns - stamp_ns) / 1e9:.3f} s before that of the earlier "
                "chunk; accepted: one at or after it",
                argument="stamp_ns",
            )
        steps = (2 * (stamp_ns - earlier_stamp_ns) + self._period_ns) // (2 * self._period_ns)
        return int(min(steps, self.length))

    def _advance(self, now_ns: int) -> None:
        """Begin a new window if the clock went back."""
        if 0 < now_ns < self._newest_ns - JUMP_BACK_NS:
            self.forget()
            self._before_ns = self._newest_ns
            self._newest_ns = now_ns
        self._newest_ns = max(self._newest_ns, now_ns)

    def _is_of_before(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether a stamp is from before the clock went back."""
        return now_ns + MOST_AHEAD_S * NANOSECONDS_PER_SECOND < stamp_ns <= self._before_ns


def check_clocks(stamp_ns: int, now_ns: int) -> None:
    """Check that a stamp and the time now can be of one clock.

    Raises:
        MixedClocks: they cannot.
    """
    if now_ns <= 0 or stamp_ns <= 0:
        what = "the clock" if now_ns <= 0 else "the observation's stamp"
        raise MixedClocks(
            f"{what} is 0; accepted: a time above 0. With use_sim_time the clock is 0 until /clock "
            "has come"
        )
    apart_s = (now_ns - stamp_ns) / NANOSECONDS_PER_SECOND
    if -MOST_AHEAD_S <= apart_s <= MOST_APART_S:
        return
    accepted = f"at most {MOST_AHEAD_S:g} s in the future: synchronise the machines"
    if abs(apart_s) > MOST_APART_S:
        accepted = f"at most {MOST_APART_S:g} s: both in simulated time (use_sim_time), or neither"
    raise MixedClocks(
        f"the observation's stamp is {stamp_ns / 1e9:.3f} s, and the clock says {now_ns / 1e9:.3f} "
        f"s, {abs(apart_s):.3f} s {'later' if apart_s > 0 else 'earlier'}; accepted: {accepted}"
    )


def _check(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    if not low <= value <= high:
        raise InvalidValue(
            f" is {shown(value)}; accepted: {low:g} to {high:g}{unit}", argument=name
        )
