"""When the next group is taken, by hand."""

import pytest

from vit_perception.pipeline.timing.pace import Pace


def known(runs_s=(0.040,), prepares_s=(0.005,)):
    pace = Pace()
    for took_s in runs_s:
        pace.ran(took_s)
    for took_s in prepares_s:
        pace.prepared(took_s)
    return pace


def test_an_idle_engine_is_waited_for_by_nothing():
    assert known().wait_s(1.0, 0.0, None) <= 0


def test_a_group_is_taken_when_the_run_is_about_to_end():
    pace = known(runs_s=(0.040, 0.200, 0.050), prepares_s=(0.002, 0.005, 0.001))
    # The median of the runs, less the longest of the prepares.
    assert pace.wait_s(1.000, 0.0, 1.000) == pytest.approx(0.045)
    assert pace.wait_s(1.030, 0.0, 1.000) == pytest.approx(0.015)


def test_a_run_that_takes_longer_than_usual_is_not_waited_for():
    assert known().wait_s(1.5, 0.0, 1.0) <= 0


def test_before_anything_is_known_a_group_is_taken_at_once():
    assert Pace().wait_s(1.0, 0.0, 0.9) <= 0


def test_the_bound_of_the_rate_holds_whatever_the_engine_does():
    pace = known()
    pace.taken(1.0)
    assert pace.wait_s(1.01, 10.0, None) == pytest.approx(0.09)
    assert pace.wait_s(1.01, 10.0, 1.0) == pytest.approx(0.09)
    assert pace.wait_s(1.01, 100.0, 1.0) == pytest.approx(0.025)


def test_an_engine_that_has_become_faster_is_followed():
    pace = known(runs_s=[0.5] * 9 + [0.05] * 5)
    assert pace.wait_s(1.0, 0.0, 1.0) == pytest.approx(0.045)
