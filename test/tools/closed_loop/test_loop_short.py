"""The loop in its short form: real simulator, real node, real policies, over DDS. It checks the
plumbing and the accounts; policies of six demonstrations and few iterations need not succeed.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from test.conftest import ROOT
from test.waiting import HANG_S, status_of, wait_until
from tools.closed_loop.cell import Cell, run_cell
from tools.closed_loop.policies.baselines import PosePolicy
from tools.closed_loop.work import Work
from vit_perception.cli.processes import Child
from vit_perception.files.errors import OperationFailed

SIM_PYTHON = ROOT / ".venv-sim/bin/python"
SEEDS, DEMOS = 2, 6


@pytest.fixture(scope="module")
def short(tiny_checkpoint, tmp_path_factory):
    """Run it; return the folder, and a function that runs it again."""
    if not SIM_PYTHON.exists():
        pytest.skip("no .venv-sim: `make .venv-sim/.ready` sets the simulator up")
    folder = tmp_path_factory.mktemp("loop")
    arguments = ["--tasks", "lift", "--policies", "spatial", "pose only", "--conditions"]
    arguments += ["as demonstrated", "--seeds", str(SEEDS), "--demos", str(DEMOS)]
    arguments += ["--forms", "float16", "basis 32", "--troubles", "none", "--longest-steps", "12"]
    arguments += ["--iterations", "20", "--checkpoint", str(tiny_checkpoint)]
    arguments += ["-p", "engine.backend=torch", "-p", "engine.precision=float32"]
    arguments += ["--work", str(folder / "work"), "--out", str(folder / "table.json")]

    def run() -> Child:
        child = Child.module("tools.closed_loop", *arguments, log=folder / "loop.log")
        assert status_of(child) == 0, child.tail(60)
        return child

    run()
    return folder, run


def test_the_loops_accounts_close(short):
    folder, _ = short
    cells = json.loads((folder / "table.json").read_text())["cells"]
    assert [(cell["policy"], cell["form"], cell["trouble"]) for cell in cells] == [
        ("spatial", "float16", "none"),
        ("pose only", "float16", "none"),
        ("spatial", "basis 32", "none"),
    ]
    for cell in cells:
        assert cell["episodes"] == SEEDS and cell["observations"] > 0
        assert cell["observations"] == cell["applied"] + cell["missed"]
    accounts = sorted((folder / "work/episodes").rglob("*.accounts"))
    assert len(accounts) == 3
    for path in accounts:
        simulator = json.loads(path.read_text())
        policy = json.loads(path.with_suffix(".counts").read_text())
        assert policy["answered"] == simulator["chunks"]
        assert simulator["chunks"] >= simulator["applied"] > 0 and not simulator["refused"]
        # Simulated time stands still until the answer has come.
        assert policy["inference_delay"] == 0 and policy["delay_p99_s"] < 0.1


def test_the_same_command_does_nothing_again(short):
    folder, run = short
    table = json.loads((folder / "table.json").read_text())
    made = {
        path: path.stat().st_mtime_ns
        for pattern in ("demonstrations/*/*", "policies/*/*", "episodes/*/*/*.jsonl")
        for path in (folder / "work").glob(pattern)
    }
    run()
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert json.loads((folder / "table.json").read_text())["cells"] == table["cells"]


def test_a_policy_knows_the_layout_that_it_was_trained_on(short):
    folder, _ = short
    (path,) = (folder / "work/policies/lift").glob("spatial_*.safetensors")
    with safe_open(path, framework="np") as file:
        head = json.loads(file.metadata()["policy"])
    assert head["kind"] == "spatial" and len(head["layouts"]) == 1


def saved_policy(path: Path) -> None:
    """Write a pose-only policy with random weights."""
    from chunk_policy import save  # of examples/, which tools.closed_loop.policies has found

    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"body_count": 4, "steps": 8}
    save(PosePolicy(**arguments), path, "pose", arguments)


def test_a_simulator_that_dies_ends_the_cell_with_its_last_words(tmp_path):
    """A program that fails at once stands for it: nothing may wait for its answers."""
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nprint('no scene today')\nraise SystemExit(3)\n")
    python.chmod(0o755)
    work = Work(tmp_path / "work", python)
    policy = tmp_path / "pose.safetensors"
    saved_policy(policy)
    cell = Cell(task="lift", policy="pose only", demonstrations=1, training_seed=0, condition="dim")
    with pytest.raises(OperationFailed, match="simulator ended with 3:\nno scene today"):
        run_cell(work, cell, policy, (0, 1), None, lambda count: None)


def test_sigterm_ends_the_simulator_too(tmp_path):
    """A program that never ends stands for the simulator; it once outlived the loop."""
    pid = tmp_path / "pid"
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport os, pathlib, time\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()) + '.')\ntime.sleep(1000)\n"
    )
    python.chmod(0o755)
    saved_policy(Work(tmp_path / "work", python).policy("lift", "pose only", 0, 0))
    arguments = ["--tasks", "lift", "--policies", "pose only", "--demos", "0", "--seeds", "1"]
    arguments += ["--work", str(tmp_path / "work"), "--sim-python", str(python)]
    arguments += ["--out", str(tmp_path / "table.json")]
    loop = Child.module("tools.closed_loop", *arguments, log=tmp_path / "loop.log")
    try:
        wait_until(lambda: pid.exists() and pid.read_text().endswith("."), told=loop.tail)
        assert loop.stop(HANG_S, sent=signal.SIGTERM) == 130, loop.tail()
        assert "the same command resumes" in loop.tail()
    finally:
        loop.kill()
    number = int(pid.read_text().rstrip("."))
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_without_the_simulators_environment_it_says_what_to_do(tmp_path):
    with pytest.raises(OperationFailed, match=r"make \.venv-sim/\.ready"):
        Work(tmp_path / "work", tmp_path / "none/bin/python")
