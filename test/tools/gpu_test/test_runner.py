"""A part is run step by step: each in its own process, its result on the disk, and the part what
they came to.
"""

import json
import os

import pytest

from test.tools.gpu_test import samples
from test.waiting import wait_until
from tools.gpu_test import runner
from tools.gpu_test.note import LeftOut, Note
from tools.gpu_test.plan import BUDGET_S, Step
from tools.gpu_test.report import Report
from tools.gpu_test.runner import Settings, run_part
from vit_perception.engines.cuda.fault import GpuLost


def step(function, limit_s=120, **more):
    return Step(
        function,
        f"what {function} shows",
        f"test.tools.gpu_test.samples:{function}",
        limit_s,
        **more,
    )


class Part:
    """One part of sample steps; ``seen`` is what the file held each time that a line was
    printed.
    """

    def __init__(self, folder):
        self.path, self.settings, self.seen, self.lines = (
            folder / "out/part.json",
            Settings("cpu", folder),
            [],
            [],
        )

    def run(self, *steps, budget_s=500.0, **more):
        return run_part(
            steps,
            budget_s,
            self.settings,
            Report(self.path, "part", {"device": "x"}),
            self.say,
            **more,
        )

    def say(self, line):
        self.lines.append(line)
        self.seen.append([step["name"] for step in json.loads(self.path.read_text())["steps"]])

    def steps(self):
        return {step["name"]: step for step in json.loads(self.path.read_text())["steps"]}


@pytest.fixture
def part(tmp_path):
    return Part(tmp_path)


def test_a_step_that_fails_in_any_way_does_not_stop_the_next_and_fails_the_part(part):
    """Each is a process that imports torch, which takes some seconds."""
    assert not part.run(step("misses"), step("dies"), step("passes", argument="given"))
    steps = part.steps()
    assert {name: found["status"] for name, found in steps.items()} == {
        "misses": "failed",
        "dies": "failed",
        "passes": "passed",
    }
    assert steps["misses"]["why"] == "1 of 2 checks" and "what was seen" in part.lines[0]
    assert steps["dies"]["why"] == "its process ended with 9" and steps["dies"]["figures"] == {
        "seen before": 7
    }
    assert steps["passes"]["checks"] == [{"what": "it is well", "ok": True, "seen": "given"}]
    # The file was whole after every step.
    assert part.seen == [["misses"], ["misses", "dies"], ["misses", "dies", "passes"]]
    assert json.loads(part.path.read_text())["summary"] == {"passed": 1, "failed": 2, "skipped": 0}


@pytest.mark.parametrize(
    "function, status, why",
    [
        (samples.passes, "passed", ""),
        (samples.misses, "failed", "1 of 2 checks"),
        (samples.raises, "failed", "ZeroDivisionError: of a step"),
        (samples.nothing, "failed", "it has checked and measured nothing"),
        (samples.left_out, "skipped", "it is not for this machine"),
    ],
)
def test_what_a_step_comes_to(function, status, why, tmp_path):
    note = Note(tmp_path / "step.json", "a step")
    assert note.end(lambda: function(None, note))
    result = json.loads((tmp_path / "step.json").read_text())
    assert (result["status"], result["why"]) == (status, why)
    assert ("Traceback" in result.get("traceback", "")) == (function is samples.raises)


def test_a_lost_gpu_ends_all_attempts_of_a_step(tmp_path):
    def run():
        note.attempt(
            "breaks", lambda: (_ for _ in ()).throw(GpuLost("the GPU is lost to this process"))
        )
        pytest.fail("another attempt was made")

    note = Note(tmp_path / "step.json", "a step")
    assert not note.end(run)
    assert note.result["why"] == "GpuLost: the GPU is lost to this process"


def test_a_step_that_hangs_is_ended_with_its_children_and_keeps_what_it_saw(part):
    """It takes the ten seconds of its limit, in which even a busy machine gets a process to
    start.
    """
    assert not part.run(step("hangs", 10))
    hung = part.steps()["hangs"]
    assert hung["status"] == "failed" and hung["why"] == "stopped after 10 s"
    if "child" in hung["figures"]:
        wait_until(lambda: not alive(hung["figures"]["child"]), "the end of the step's child")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # a zombie waits for a parent that has gone
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_the_budget_leaves_out_later_steps_and_says_so(part):
    times_s = iter([0.0, 485.0, 501.0])
    assert not part.run(step("misses", least_s=20), step("passes"), now=lambda: next(times_s))
    skipped, later = part.steps()["misses"], part.steps()["passes"]
    assert skipped["status"] == later["status"] == "skipped"
    assert skipped["why"] == "15 s of the part's 500 s were left, and it needs 20 s"
    assert later["why"].startswith("0 s of the part's 500 s")
    assert part.lines[0].startswith("skipped  misses") and "15 s of the part's" in part.lines[0]


@pytest.mark.parametrize(
    "budget_s, expected_s", [(60.0, 60.0), (BUDGET_S, 120), (10.0 * BUDGET_S, 1200)]
)
def test_a_larger_budget_gives_each_step_as_much_more_time(part, monkeypatch, budget_s, expected_s):
    limits_s = []
    monkeypatch.setattr(
        runner,
        "run_step",
        lambda step, limit_s, settings: (
            limits_s.append(limit_s) or {"name": step.name, "status": "passed", "seconds": 0.0}
        ),
    )
    assert part.run(step("passes", 120), budget_s=budget_s, now=lambda: 0.0)
    assert limits_s == [expected_s]


def test_a_part_in_which_nothing_ran_has_failed(part):
    assert not part.run(step("passes", needs=("no_such_package",)))
    assert [found["why"] for found in part.steps().values()] == [
        "Python package no_such_package is not installed"
    ]
    assert json.loads(part.path.read_text())["summary"] == {"passed": 0, "failed": 0, "skipped": 1}


def test_the_file_of_a_step_is_there_from_its_first_moment_and_says_failed_until_its_end(tmp_path):
    path = tmp_path / "step.json"

    def read():
        return json.loads(path.read_text())

    note = Note(path, "a step")
    assert read()["status"] == "failed" and read()["why"] == "it did not come to its end"

    def run():
        note.check(True, "first", "é")
        assert read()["checks"] == [{"what": "first", "ok": True, "seen": "é"}]
        note.figure("nan", float("nan"))
        note.row({"p50_ms": 1.23456789})
        assert read()["figures"] == {"nan": "nan"} and read()["rows"] == [{"p50_ms": 1.2346}]
        assert read()["status"] == "failed"

    note.end(run)
    assert read()["status"] == "passed"


def test_one_attempt_that_raises_leaves_the_others_their_turn(tmp_path):
    note = Note(tmp_path / "step.json", "a step")
    note.attempt("breaks", lambda: 1 / 0)
    note.attempt("works", lambda: note.check(True, "works"))
    assert [check["ok"] for check in note.result["checks"]] == [False, True]
    assert "ZeroDivisionError" in note.result["checks"][0]["seen"]
    with pytest.raises(LeftOut):
        note.attempt("is not for this machine", lambda: (_ for _ in ()).throw(LeftOut("no")))


def test_a_step_knows_when_its_time_is_up(tmp_path):
    assert Note(tmp_path / "a", "a step").time_left(1e9)
    assert not Note(tmp_path / "a", "a step", deadline_s=0.0).time_left()
