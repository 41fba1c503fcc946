"""Progress of a build: one number from nested phases, told seldom, whatever the listener does."""

from test.log_lines import LogLines
from vit_perception.engines.building.progress import BuildProgress
from vit_perception.files.log import SilentLog


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def make(log=None):
    clock, lines = Clock(), LogLines()
    return BuildProgress("building", log or lines, period_s=2.0, clock=clock), clock, lines


def test_nested_phases_are_one_fraction():
    progress, _, _ = make()
    progress.start("outer", None, 4)
    assert progress.fraction == 0
    progress.step("outer", 0)
    progress.start("inner", "outer", 2)
    progress.start("innermost", "inner", 2)
    progress.step("innermost", 0)
    assert progress.fraction == (1 + (0 + 0.5) / 2) / 4
    progress.finish("innermost")
    progress.step("inner", 0)
    assert progress.fraction == (1 + 0.5) / 4


def test_it_never_falls_and_ends_at_one():
    progress, _, _ = make()
    progress.start("outer", None, 2)
    progress.start("inner", "outer", 2)
    progress.step("inner", 0)
    reached = progress.fraction
    progress.finish("inner")  # before the outer step is reported
    assert progress.fraction == reached == 0.25
    progress.finish("outer")
    assert progress.fraction == 1


def test_it_tells_at_most_once_a_period_with_percent_time_and_phase():
    progress, clock, lines = make()
    progress.start("Timing tactics", None, 10)
    for step in range(10):
        clock.now_s += 0.5
        progress.step("Timing tactics", step)
    assert lines == [
        "building: 40% after 2 s (Timing tactics)",
        "building: 80% after 4 s (Timing tactics)",
    ]


def test_the_log_hears_each_percent_once_and_the_end():
    progress, _, lines = make()
    progress.start("outer", None, 1000)
    for step in range(995):
        progress.step("outer", step)
    progress.finish("outer")
    assert {what for what, _ in lines.steps} == {"building"}
    assert [int(100 * fraction) for _, fraction in lines.steps] == list(range(101))


def test_odd_reports_do_no_harm():
    progress, _, _ = make()
    progress.step("never started", 3)
    progress.finish("never started")
    progress.start("no steps", None, 0)
    progress.step("no steps", 7)
    assert progress.fraction == 1


def test_a_listener_that_raises_does_not_reach_the_builder_and_stops_it():
    class Closed(SilentLog):
        def progress(self, what, fraction, text=""):
            raise ValueError("closed")

    progress, clock, _ = make(Closed())
    clock.now_s = 3.0
    progress.start("outer", None, 1)
    assert str(progress.stopped_by) == "closed"
