"""Numbers at a stamp: held from the past, or on the line between two, and bounded."""

import numpy as np
import pytest

from vit_perception.streams.number_history import NumberHistory

S = 1_000_000_000


def history(linear=False, longest_s=0.0, most=1000, stamps_s=(1.0, 2.0, 4.0)):
    made = NumberHistory(linear=linear, longest_ns=round(longest_s * S), most_samples=most)
    for stamp_s in stamps_s:
        made.add(round(stamp_s * S), np.array([10 * stamp_s, -stamp_s]))
    return made


@pytest.mark.parametrize(
    "at_s, value, stamp_s", [(1.0, 10, 1), (1.9, 10, 1), (2.0, 20, 2), (3.9, 20, 2), (99, 40, 4)]
)
def test_hold_takes_the_latest_that_is_not_later(at_s, value, stamp_s):
    found = history().at(round(at_s * S))
    assert found.numbers.tolist() == [value, -value / 10] and found.stamp_ns == stamp_s * S


@pytest.mark.parametrize("at_s, value, stamp_s", [(1.25, 12.5, 1), (2.0, 20, 2), (3.5, 35, 2)])
def test_linear_is_between_the_two_around(at_s, value, stamp_s):
    found = history(linear=True).at(round(at_s * S))
    np.testing.assert_allclose(found.numbers, [value, -value / 10], rtol=1e-15)
    assert found.stamp_ns == stamp_s * S


@pytest.mark.parametrize(
    "linear, longest_s, at_s, why",
    [
        (False, 0, 0.5, "no sample at or before it; the first is 0.500 s after it"),
        (False, 1.5, 3.75, "the latest sample is 1.750 s old"),
        (True, 0, 4.5, "no sample after it; the last is 0.500 s old"),
        (True, 1.0, 3.0, "the samples around it are 2.000 s apart"),
        (True, 0, 0.5, "no sample at or before it; the first is 0.500 s after it"),
    ],
)
def test_without_a_value_there_is_a_reason(linear, longest_s, at_s, why):
    found = history(linear, longest_s).at(round(at_s * S))
    assert found.numbers is None and found.why == why
    assert history(linear, longest_s).at(2 * S).numbers.tolist() == [20, -2]
    assert history(stamps_s=()).at(S).why == "no sample at or before it"


def test_order_does_not_matter_and_time_that_is_set_back_forgets():
    mixed = history(stamps_s=(4.0, 3.1, 3.5, 3.5))
    assert len(mixed) == 3 and mixed.at(round(3.3 * S)).stamp_ns == round(3.1 * S)
    mixed.add(1 * S, np.array([1.0, 2.0]))
    assert len(mixed) == 1 and mixed.covers(S) and not mixed.covers(2 * S)


def test_memory_is_bounded_and_a_rare_sample_still_holds():
    long = history(stamps_s=np.arange(1, 200, 0.5))
    assert len(long) == 121  # the last 60 s, both ends
    assert history(most=5, stamps_s=np.arange(1, 2, 0.01)).at(2 * S).stamp_ns == round(1.99 * S)
    assert len(history(most=5, stamps_s=np.arange(1, 2, 0.01))) == 5
    assert history(stamps_s=(1.0, 500.0)).at(499 * S).stamp_ns == S
