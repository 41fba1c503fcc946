"""Which action is due, and how many are over before a chunk is ready: values computed by hand."""

import threading

import numpy as np
import pytest

from vit_perception.files.errors import OperationFailed
from vit_perception.policy.timing import ActionTiming, ChunkTooShort, MixedClocks

MS = 1_000_000
START_NS = 1_764_000_000_000_000_000


def at(ms: float) -> int:
    return START_NS + round(ms * MS)


def inference(timing, stamp_ms, age_ms, running_ms, offset_ms=0.0):
    """One inference on a clock that is ``offset_ms`` ahead of that of the stamps."""
    timing.begin(at(stamp_ms), at(stamp_ms + age_ms + offset_ms))
    return timing.end(at(stamp_ms + age_ms + running_ms + offset_ms))


@pytest.mark.parametrize(
    "now_ms, index",
    [(0, 0), (49.999, 0), (50, 1), (99.9, 1), (100, 2), (399.999, 7), (400, None), (5000, None)],
)
def test_an_action_is_due_from_its_time_until_that_of_the_next(now_ms, index):
    timing = ActionTiming(period_s=0.05, length=8)
    assert timing.due(at(0), at(now_ms)) == index


@pytest.mark.parametrize(
    "age_ms, running_ms, delay_s, steps",
    [
        (40, 60, 0.1, 2),  # ready exactly when action 2 is due
        (40, 60.001, 0.100001, 3),  # a moment later: action 2 is that of the chunk before
        (0, 1, 0.001, 1),
        (0, 0, 0.0, 0),  # a simulation that waits for the action
        (80, 65, 0.145, 3),
    ],
)
def test_the_delay_is_from_the_stamp_until_the_chunk_is_ready(age_ms, running_ms, delay_s, steps):
    timing = ActionTiming(period_s=0.05, length=8)
    assert inference(timing, 1000, age_ms, running_ms) == pytest.approx(delay_s, abs=1e-12)
    assert timing.inference_delay() == steps
    # The first action that is taken of the new chunk, at the next step of the robot.
    ready_ms = 1000 + age_ms + running_ms
    next_step_ms = 1000 + 50 * -(-(ready_ms - 1000) // 50)
    assert timing.due(at(1000), at(next_step_ms)) == steps


def test_percentiles_are_delays_that_were_measured():
    timing = ActionTiming(period_s=0.05, length=16)
    for k, running_ms in enumerate([60, 100, 80, 260]):
        inference(timing, 1000 * k, 40, running_ms)
    delays = timing.delays
    # 100, 120, 140 and 300 ms: of four the second is the median, the last the 99th of 100.
    assert (delays.p50_s, delays.p99_s, delays.count) == (0.12, 0.3, 4)
    assert (timing.inference_delay(0.5), timing.inference_delay()) == (3, 6)
    assert timing.inference_delay(0.75) == 3 and timing.inference_delay(0.76) == 6


def test_only_the_window_counts_and_it_can_begin_anew():
    timing = ActionTiming(period_s=0.05, length=100, window=3)
    inference(timing, 0, 0, 3000)  # the first one compiles
    assert timing.inference_delay() == 60
    for k in range(1, 4):
        inference(timing, 5000 * k, 0, 90)
    assert timing.inference_delay() == 2 and timing.delays.count == 3
    inference(timing, 30_000, 0, 3000)
    timing.forget()
    assert timing.delays is None
    inference(timing, 40_000, 0, 90)
    assert timing.inference_delay() == 2


def test_an_offset_of_either_sign_is_removed_with_the_least_age():
    """Ages of 30, 50 and 40 ms on a clock that is 200 ms behind, right, and 400 ms ahead."""
    for offset_ms in (-200.0, 0.0, 400.0):
        timing = ActionTiming(period_s=0.05, length=16, least_age_s=0.03)
        for k, age_ms in enumerate([30, 50, 40]):
            inference(timing, 1000 * k, age_ms, 60, offset_ms)
        delays = timing.delays
        # 90, 110 and 100 ms.
        assert (delays.p50_s, delays.p99_s) == (0.1, 0.11)
        assert delays.offset_s == pytest.approx(-offset_ms / 1e3, abs=1e-12)
        assert timing.inference_delay() == 3
        assert timing.due(at(2000), at(2120 + offset_ms)) == 2


def test_without_it_only_stamps_from_the_future_are_put_right():
    timing = ActionTiming(period_s=0.05, length=16)
    for k, age_ms in enumerate([30, 50, 40]):
        inference(timing, 1000 * k, age_ms, 60, offset_ms=-200.0)
    # The youngest observation, 170 ms in the future, counts as 0 ms old: 60, 80 and 70 ms.
    assert (timing.delays.p50_s, timing.delays.p99_s) == (0.07, 0.08)
    assert timing.delays.offset_s == 0.17
    # A clock that is ahead looks like a slow camera: the delay is too long, never too short.
    timing.forget()
    inference(timing, 9000, 30, 60, offset_ms=100.0)
    assert timing.delays.p99_s == 0.19 and timing.delays.offset_s == 0.0


def test_any_offset_gives_the_same_steps():
    random = np.random.default_rng(5)
    ages_ms = random.uniform(20, 90, 40).round(3)
    running_ms = random.uniform(5, 300, 40).round(3)
    least_age_s = ages_ms.min() / 1e3
    found = set()
    for offset_ms in (-900.0, -33.3, 0.0, 12.5, 5000.0):
        timing = ActionTiming(period_s=1 / 30, length=50, least_age_s=least_age_s)
        for k, (age_ms, ran_ms) in enumerate(zip(ages_ms, running_ms)):
            inference(timing, 1000 * k, age_ms, ran_ms, offset_ms)
        found.add((timing.inference_delay(0.5), timing.inference_delay()))
    longest_s = np.sort(ages_ms + running_ms) / 1e3
    assert found == {tuple(int(np.ceil(longest_s[k] * 30 - 1e-6)) for k in (19, 39))}


SIMULATED_NS = 12_300 * MS


@pytest.mark.parametrize(
    "stamp_ns, now_ns, said",
    [
        (SIMULATED_NS, START_NS, "1763999987.700 s later; accepted: at most 3600 s: both in sim"),
        (START_NS, SIMULATED_NS, "1763999987.700 s earlier; accepted: at most 3600 s: both in sim"),
        (at(0), at(-1500), "1.500 s earlier; accepted: at most 1 s in the future: synchronise"),
        (SIMULATED_NS, 0, "the clock is 0; accepted: a time above 0. With use_sim_time"),
        (0, START_NS, "the observation's stamp is 0; accepted"),
    ],
)
def test_times_of_two_clocks_are_refused(stamp_ns, now_ns, said):
    timing = ActionTiming(period_s=0.05, length=8)
    for call in (timing.begin, timing.due):
        with pytest.raises(MixedClocks) as caught:
            call(stamp_ns, now_ns)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert timing.delays is None


def test_an_end_of_another_clock_is_refused_and_leaves_no_delay():
    timing = ActionTiming(period_s=0.05, length=8)
    timing.begin(SIMULATED_NS, SIMULATED_NS + 10 * MS)
    with pytest.raises(MixedClocks, match="both in simulated time"):
        timing.end(START_NS)
    assert timing.delays is None
    assert timing.end(SIMULATED_NS + 30 * MS) == 0.03


def test_a_simulation_that_begins_anew_begins_a_new_window():
    timing = ActionTiming(period_s=0.05, length=8)
    timing.begin(SIMULATED_NS, SIMULATED_NS + 10 * MS)
    timing.end(SIMULATED_NS + 200 * MS)
    assert timing.begin(2_000 * MS, 2_010 * MS)
    assert timing.delays is None, "delays of the first run are gone"
    timing.end(2_090 * MS)
    assert (timing.inference_delay(), timing.delays.count) == (2, 1)
    # What is left of the first run is no mistake of the user: it is over.
    assert timing.due(SIMULATED_NS, 2_100 * MS) is None
    assert not timing.begin(SIMULATED_NS, 2_100 * MS) and timing.delays.count == 1


@pytest.mark.parametrize("back_ms", [5, 2_500])
def test_a_clock_that_goes_back_while_the_policy_runs_gives_no_delay(back_ms):
    timing = ActionTiming(period_s=0.05, length=8)
    timing.begin(3_000 * MS, 3_010 * MS)
    assert timing.end((3_010 - back_ms) * MS) is None and timing.delays is None


def test_an_encoder_that_fell_silent_is_no_mixture_of_clocks():
    timing = ActionTiming(period_s=0.05, length=8)
    timing.begin(at(0), at(40))
    timing.end(at(100))
    assert timing.due(at(0), at(600_000)) is None


def test_two_threads_share_one_timing():
    """Fault of a draft: the smallest age was looked for while the other thread added one."""
    timing = ActionTiming(period_s=0.05, length=16, window=5000)
    failed = []

    def asks():
        try:
            for k in range(3000):
                assert timing.due(at(0), at(120 + k % 2)) == 2
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=asks)
    thread.start()
    for _ in range(3000):
        inference(timing, 0, 40, 60)
    thread.join()
    assert not failed and timing.delays.count == 3000


def test_the_rest_of_the_chunk_before_begins_at_the_new_observation():
    timing = ActionTiming(period_s=0.05, length=8)
    cases = {0: 0, 24.9: 0, 25: 1, 50: 1, 100: 2, 124.9: 2, 399: 8, 9000: 8}
    assert {ms: timing.shift(at(0), at(ms)) for ms in cases} == cases
    with pytest.raises(ValueError, match=r"^stamp_ns is 0.010 s before that of the earlier chunk"):
        timing.shift(at(10), at(0))


def test_a_chunk_that_is_over_before_it_is_ready_is_said():
    timing = ActionTiming(period_s=0.05, length=8)
    inference(timing, 0, 40, 310)
    assert timing.inference_delay() == 7
    inference(timing, 1000, 40, 311)
    with pytest.raises(
        ChunkTooShort, match="ready 0.351 s after its observation, and its 8 actions take 0.4 s"
    ):
        timing.inference_delay()


def test_what_was_not_measured_is_no_delay():
    timing = ActionTiming(period_s=0.05, length=8)
    with pytest.raises(OperationFailed, match="accepted: after the first chunk"):
        timing.inference_delay()
    with pytest.raises(OperationFailed, match="accepted: end after begin"):
        timing.end(START_NS)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"period_s": 0.0}, "period_s is 0.0; accepted: 0.0001 to 60 s"),
        ({"period_s": -0.1}, "period_s is -0.1"),
        ({"period_s": float("nan")}, "period_s is nan"),
        ({"length": 0}, "length is 0; accepted: 1 to 10000"),
        ({"window": 0}, "window is 0"),
        ({"least_age_s": float("nan")}, "least_age_s is nan"),
        ({"least_age_s": -0.1}, "least_age_s is -0.1; accepted: 0 to 3600 s"),
    ],
)
def test_numbers_that_are_no_timing_are_refused(arguments, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        ActionTiming(**({"period_s": 0.05, "length": 8} | arguments))


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_is_above_0_and_up_to_1(share):
    timing = ActionTiming(period_s=0.05, length=8)
    inference(timing, 0, 10, 10)
    with pytest.raises(ValueError, match="^share is .*; accepted: above 0, up to 1"):
        timing.inference_delay(share)
