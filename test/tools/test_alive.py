"""The set-up is never silent for long, hides no error, and keeps the exit status."""

import re
import signal
import subprocess
import sys

import pytest

from test.conftest import ROOT
from test.waiting import PROGRAM_S
from tools.alive import Alive, PipStep, name_of, run

PROGRAM = ROOT / "tools/alive.py"


def test_a_silent_command_is_said_to_be_alive_and_its_own_words_are_kept(capfd):
    code = "import sys; sys.stdin.readline(); print('words'); sys.exit('the error')"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tools.alive import run; "
            f"sys.exit(run(['making it', sys.executable, '-c', {code!r}], period_s=0.05))",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = [process.stdout.readline() for _ in range(3)]  # it ends after that, not before
    rest, error = process.communicate("\n", timeout=PROGRAM_S)
    assert all(re.fullmatch(r"  making it; \d+ s so far\n", line) for line in said), said
    assert "words" in rest and error == "the error\n" and process.returncode == 1


@pytest.mark.parametrize("words", [["pip"], ["a command", sys.executable, "-m", "pip"]])
def test_errors_of_pip_and_its_exit_status_pass(words):
    done = subprocess.run(
        [
            *(sys.executable, PROGRAM, *words, "install", "--no-index"),
            *("--target", "/nonexistent", "no-such-package-of-ours==9"),
        ],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert done.returncode == 1
    assert "ERROR: No matching distribution found for no-such-package-of-ours==9" in done.stderr


def test_a_command_that_a_signal_ends_has_the_status_of_a_shell():
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    assert run(["a command", sys.executable, "-c", code]) == 128 + signal.SIGKILL


def test_the_steps_of_pip(tmp_path):
    step = PipStep(tmp_path)
    assert step.text() == "starting"
    for line, said in (
        ("Looking in links: /opt/wheels", "starting"),
        ("Collecting torch==2.11.0 (from -r requirements/torch.lock (line 3))", "package 1, torch"),
        (
            "  Downloading torch-2.11.0-cp311-cp311-linux_x86_64.whl (900.1 MB)",
            "package 1, downloading torch (900.1 MB)",
        ),
        ("     ---- 900.1/900.1 MB 80 MB/s", "package 1, downloading torch (900.1 MB)"),
        ("Collecting pillow", "package 2, pillow"),
        (
            "  Using cached pillow-13.0.0-cp311-cp311-manylinux_2_28_x86_64.whl (7.1 MB)",
            "package 2, from the cache: pillow (7.1 MB)",
        ),
        ("Processing /opt/wheels/ros_rclpy-9.1.2-cp311.whl", "package 3, ros_rclpy"),
        (
            "  Building wheel for vit_perception (pyproject.toml): started",
            "building vit_perception",
        ),
        ("  Building editable for tiny (pyproject.toml): started", "building tiny"),
        ("Installing collected packages: pillow, torch, ros_rclpy", "installing, 0 of 3 packages"),
    ):
        step.read(f"{line}\n")
        assert step.text() == said
    (tmp_path / "pillow-13.0.0.dist-info").mkdir()
    assert step.text() == "installing, 1 of 3 packages"
    for k in range(5):  # what others install at the same time does not make it more than all
        (tmp_path / f"other_{k}-1.dist-info").mkdir()
    assert step.text() == "installing, 3 of 3 packages"


@pytest.mark.parametrize(
    "requirement, name",
    [
        ("torch==2.11.0", "torch"),
        ("ros-kilted-rclpy>=9", "ros-kilted-rclpy"),
        ("numpy<2", "numpy"),
        ("rerun-sdk[all]", "rerun-sdk"),
        ("file:///opt/pypi/simple/cycler/cycler-0.12.1-py3-none-any.whl", "cycler"),
        ("scikit_learn-1.9.0.tar.gz", "scikit_learn"),
    ],
)
def test_names_of_requirements(requirement, name):
    assert name_of(requirement) == name


def test_what_is_over_says_nothing_more(capsys):
    with Alive("a step", period_s=100.0):
        pass
    assert capsys.readouterr().out == ""


def test_the_makefile_runs_no_pip_that_is_silent():
    text = (ROOT / "Makefile").read_text()
    assert "--quiet" not in text and "-m pip" not in text
    for line in text.splitlines():
        if "-m venv" in line or "build_vision_msgs.py" in line.partition("\t")[2]:
            assert "$(ALIVE)" in line, line
