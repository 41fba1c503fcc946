"""The plan: every step that it names is there, and it is printed where nothing is installed."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from test.conftest import ROOT
from test.waiting import run_program
from tools.gpu_test import plan

STEPS = [step for steps in plan.PARTS.values() for step in steps]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_has_its_function_and_fits_its_part(step):
    module, _, function = step.function.partition(":")
    assert callable(getattr(import_module(module), function))
    assert 0 < step.least_s <= step.limit_s <= plan.BUDGET_S < 600


def test_names_of_steps_and_of_their_files_are_unique():
    names = [step.name.replace("/", "-") for step in STEPS]
    assert len(set(names)) == len(names)


def test_all_that_was_promised_is_planned():
    """The functions, each with what it is told apart by."""
    planned = {
        (part, step.function.rpartition(".")[2], step.argument)
        for part, steps in plan.PARTS.items()
        for step in steps
    }
    assert planned == {
        *(
            ("tests", f"{name}:run", "")
            for name in ("graph", "outputs", "threads", "cycles", "weights", "connector", "marked")
        ),
        *(("faults", "faults:sticky", case) for case in ("assert", "address", "trap", "auto")),
        *(
            ("faults", "capture:run", case)
            for case in ("synchronize", "error", "synchronize tensorrt")
        ),
        ("faults", "memory:run", ""),
        ("bench", "neighbour:run", "B/16"),
        *(
            ("bench", f"speeds:{what}", name)
            for what in ("run", "compiled")
            for name in ("S/14", "B/16", "L/16")
        ),
    }


def test_make_prints_the_plan_and_does_nothing_else():
    # As from a shell, though `make test` runs this: a make inside of another says which folder it
    # enters.
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = run_program(
        ["make", "-n", "gpu-test", "PART=tests faults", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=outside,
    )
    assert done.returncode == 0, done.stderr
    for part in ("tests", "faults"):
        assert plan.text((part,)) in done.stdout
    assert "# bench" not in done.stdout and done.stdout.rstrip().endswith(
        "-m tools.gpu_test tests faults"
    )


def test_the_plan_needs_no_package():
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            "from tools.gpu_test.__main__ import main; sys.exit(main(['--plan']))",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.rstrip() == plan.text(tuple(plan.PARTS)), (
        done.stderr
    )
