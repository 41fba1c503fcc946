"""The bench of policies' towers in its short form: every process and every figure of it."""

import importlib.util
import json
import sys
from copy import deepcopy

import pytest

from test.conftest import ROOT
from test.waiting import run_program

SCRIPT = ROOT / "benchmarks/policy_tower_bench.py"
COMMITTED = json.loads((ROOT / "benchmarks/results/policy_tower.json").read_text())
MEASURED = ("cpu_s", "call_cpu_s", "wall_s", "disk_wall_s")


def test_every_figure_is_measured(tmp_path):
    out = tmp_path / "policy_tower.json"
    short = ("--blocks", 1, "--hole-gb", 1, "--runs", 1, "--turns", 1)
    done = run_program([sys.executable, SCRIPT, *short, "--out", out])
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(out.read_text())
    assert report.keys() == COMMITTED.keys()
    assert report["connectors"].keys() == COMMITTED["connectors"].keys()
    assert report["loads"].keys() == COMMITTED["loads"].keys() == {"float32", "bfloat16"}
    for name, row in report["connectors"].items():
        assert row.keys() == COMMITTED["connectors"][name].keys()
        assert all(value > 0 for value in row.values())
    for dtype, row in report["loads"].items():
        assert row.keys() == COMMITTED["loads"][dtype].keys()
        assert all(value > 0 for value in row.values())
        size_mb = row["tower_mb"]
        assert row["tower_in_float32_mb"] == pytest.approx(
            size_mb * (1 if dtype == "float32" else 2), abs=0.2
        )
        assert row["policy_mb"] == pytest.approx(size_mb + (1 << 30) / 1e6, rel=0.01)
        assert row["read_per_tower"] == pytest.approx(row["read_mb"] / size_mb, rel=0.01)
        for name in MEASURED:
            policy_s, alone_s = row[f"policy_{name}"], row[f"alone_{name}"]
            # All three are rounded to 0.001, which is much of a short time.
            rounded = 0.001 * (1 + (1 + policy_s / alone_s) / alone_s)
            assert row[f"{name}_ratio"] == pytest.approx(policy_s / alone_s, abs=rounded)
    assert (done.returncode == 0) == ("all within bounds" in done.stdout)


def test_the_committed_result_is_of_the_whole_tower_and_a_policy_of_8_gb():
    for row in COMMITTED["loads"].values():
        assert row["policy_mb"] > 8000 and row["tower_in_float32_mb"] > 1600
    assert "27 blocks" in COMMITTED["tower"]


def test_what_is_out_of_bounds_is_named():
    spec = importlib.util.spec_from_file_location("policy_tower_bench", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    report = deepcopy(COMMITTED)
    for row in [*report["loads"].values(), *report["connectors"].values()]:
        row |= {key: 1.0 for key in row if "ratio" in key or key.endswith("per_tower")}
    assert bench.faults(report) == []
    report["loads"]["bfloat16"]["resident_per_tower"] = float("nan")
    report["loads"]["float32"] |= {"read_per_tower": 1.3, "call_cpu_s_ratio": 1.6}
    report["connectors"]["pi0, torch"]["ratio"] = 1.06
    assert bench.faults(report) == [
        "float32: read_per_tower 1.3 > 1.2",
        "float32: call_cpu_s_ratio 1.6 > 1.5",
        "bfloat16: resident_per_tower nan > 1.2",
        "connector of pi0, torch: 1.06 > 1.05",
    ]
