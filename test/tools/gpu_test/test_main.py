"""The command refuses where it cannot say anything of a GPU, and runs its steps as processes where
it is told to.
"""

import json
import sys

import pytest

from test.conftest import ROOT
from test.waiting import run_program
from tools.gpu_test import plan
from tools.gpu_test.__main__ import main


def gpu_test(*arguments):
    return run_program([sys.executable, "-m", "tools.gpu_test", *arguments], cwd=ROOT)


def test_without_a_gpu_it_refuses_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = gpu_test("--out", tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpu-test cannot run here: ") and ("CUDA" in line or "GPU" in line)


def test_without_torch_it_names_what_is_missing(tmp_path):
    done = run_program(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            "from tools.gpu_test.__main__ import main; sys.exit(main([]))",
        ]
    )
    assert done.returncode == 2
    assert done.stderr == (
        "gpu-test cannot run here: Python package torch, numpy, opencv-python-headless, "
        "safetensors "
        "is not installed\n"
    )


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("--device", "cpu"), "outside of benchmarks/results"),
        (
            ("--device", "cpu", "--out", ROOT / "benchmarks/results/cpu"),
            "outside of benchmarks/results",
        ),
        (("speed",), "PART is speed; accepted: tests, faults, bench"),
    ],
)
def test_what_it_does_not_take(arguments, text):
    done = gpu_test(*arguments)
    assert done.returncode == 2 and text in done.stderr


def test_a_run_on_the_cpu_goes_through_all_processes(tmp_path):
    """Four of them, some seconds: facts, the step, and the one that has lost its GPU, as the engine
    there says.
    """
    done = gpu_test(
        "tests", "faults", "--device", "cpu", "--out", tmp_path, "--steps", "sticky-auto"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    (step,) = report["steps"]
    assert report["part"] == "faults" and report["summary"] == {
        "passed": 1,
        "failed": 0,
        "skipped": 0,
    }
    assert (
        len(step["checks"]) == 3
        and "GPU is lost to this process (CUDA error 700" in step["figures"]["said"]
    )
    assert {"device", "python", "torch", "begun", "cores"} <= report.keys()


def test_one_step_that_fails_makes_the_status_1(monkeypatch, tmp_path, capsys):
    """Three processes, some seconds."""
    monkeypatch.setitem(
        plan.PARTS,
        "tests",
        tuple(
            plan.Step(name, "a sample", f"test.tools.gpu_test.samples:{name}", 120)
            for name in ("passes", "misses")
        ),
    )
    assert main(["tests", "--device", "cpu", "--out", str(tmp_path)]) == 1
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["summary"] == {"passed": 1, "failed": 1, "skipped": 0}
    assert "== tests: FAILED" in capsys.readouterr().out


def test_steps_that_there_are_not_are_nothing_that_ran(tmp_path):
    assert gpu_test("--device", "cpu", "--out", tmp_path, "--steps", "no such step").returncode == 1


def test_without_packages_for_bags_and_ros_an_engine_opens():
    """Regression: open_engine imported what reads calibration images, and with it lz4, wanted or
    not.
    """
    hidden = (
        "lz4",
        "rosbags",
        "apsw",
        "simplejpeg",
        "yaml",
        "PIL",
        "rclpy",
        "openvino",
        "transformers",
    )
    done = run_program(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules.update(dict.fromkeys({hidden}));"
            "from benchmarks.gpu_bench import random_model;"
            "from vit_perception.engines.select import open_engine;"
            "from vit_perception.config.settings import EngineSettings;"
            "print(open_engine(EngineSettings('torch'), random_model('test'), 1).engine)",
        ],
        cwd=ROOT,
    )
    assert done.returncode == 0 and done.stdout.startswith("torch "), done.stderr
