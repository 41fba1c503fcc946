"""What the README says is so: its snippet runs, its files exist, its parameters are the node's."""

import itertools
import json
import re
import signal
import sys
import time

from test.conftest import ROOT
from test.ros.conftest import image_message
from test.waiting import wait_until
from tools import parameter_docs
from vit_perception.cli.main import SUBCOMMANDS
from vit_perception.cli.processes import Child

README = (ROOT / "README.md").read_text()


def test_the_policy_snippet_prints_tokens(rig, tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "policy.py").write_text(snippet)
    robot = rig()
    robot.activate()
    policy = Child([sys.executable, str(tmp_path / "policy.py")], tmp_path / "log")
    stamps_ns = itertools.count(5_000_000_000, 100_000_000)

    def show():
        robot.publish("/wrist/image", image_message(stamp_ns := next(stamps_ns)))
        robot.frame(stamp_ns)
        time.sleep(0.1)  # as a camera: as fast as it goes, the node leaves the policy no core

    wait_until(
        lambda: "wrist/patch" in policy.tail() or policy.returncode is not None,
        "tokens",
        policy.tail,
        show,
    )
    said = policy.tail()
    policy.stop(sent=signal.SIGKILL)
    assert " {'wrist/cls': (1, 64), 'wrist/patch': (16, 64)} 17 valid" in said, said


def test_the_benchmark_table_is_the_committed_result():
    figures = json.loads((ROOT / "benchmarks/results/cpu.json").read_text())
    rows = re.findall(r"\| `(\w+)` \| (-?[\d.]+)", README)
    assert len(rows) == 12
    for key, shown in rows:
        digits = len(shown.partition(".")[2])
        assert round(figures[key], digits) == float(shown), key


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) >= 4 and all((ROOT / t).exists() for t in targets)


def test_the_parameter_table_is_generated_from_the_declarations():
    assert parameter_docs.updated(README) == README, "run python -m tools.parameter_docs"
    assert README.count("| `") > 40


def test_every_subcommand_is_shown():
    assert all(f"vit-perception {name}" in README for name in SUBCOMMANDS)
