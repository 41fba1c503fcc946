"""`make bench` in its short form: every process and every figure of it, as shortly as it goes."""

import json
import statistics
import sys

import pytest

from test.conftest import ROOT
from test.waiting import run_program


def test_every_figure_is_measured(tmp_path):
    """Regression: it had stopped to run, when the pipeline lost a field that only it used."""
    out = tmp_path / "cpu.json"
    done = run_program(
        [
            sys.executable,
            ROOT / "benchmarks/cpu_bench.py",
            "--rounds",
            1,
            "--seconds",
            2,  # the warm-up, after which three frames are waited for in any case
            "--memory-frames",
            10,
            "--out",
            out,
        ]
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    committed = json.loads((ROOT / "benchmarks/results/cpu.json").read_text())
    assert (
        figures.keys() == committed.keys()
        and figures["rounds"].keys() == committed["rounds"].keys()
    )
    assert all(value > 0 for values in figures["rounds"].values() for value in values)
    assert figures["min_cosine"] > 0.999 and figures["engine_ms"] == pytest.approx(
        statistics.median(figures["rounds"]["engine_ms"]), abs=0.01
    )
    assert figures["node_hz_per_naive_hz"] == pytest.approx(
        figures["node_hz"] / figures["naive_hz"], rel=0.01
    )
    one_block = figures["one_block"]
    assert one_block.keys() == committed["one_block"].keys()
    assert all(value > 0 for values in one_block["rounds"].values() for value in values)
    assert figures["overlap_hz_ratio"] == pytest.approx(
        one_block["node_hz"] * one_block["engine_ms"] / 1e3, rel=0.01
    )
    assert figures["node_own_ms"] == pytest.approx(
        one_block["end_to_end_ms"] - one_block["engine_ms"], abs=0.01
    )
