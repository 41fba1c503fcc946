"""The GPU benchmark: its arithmetic, its structure run on the CPU, and on a GPU a short run of
it.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.gpu_figures import (
    Rates,
    Work,
    against_baselines,
    busy,
    floor_ms,
    result_name,
    rounded,
    table,
    timing,
    work_of,
)
from test.conftest import ROOT
from test.waiting import PROGRAM_S
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/gpu_bench.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("name", ["test", "B/16", "g/14"])
def test_the_work_is_what_torch_counts(name):
    """torch's own counter, run on shapes alone, counts the same matrix products, and the CLS row's
    besides.
    """
    from torch.utils.flop_counter import FlopCounterMode

    config = VARIANTS[name]
    size_px = (64, 64) if name == "test" else (224, 224)
    with torch.device("meta"):
        model, images = VisionTransformer(config), torch.zeros(2, 3, *size_px)
    from vit_perception.model.layers import explicit_attention

    with FlopCounterMode(display=False) as counter, explicit_attention(model):
        model(images)
    parameters = sum(p.numel() for p in model.parameters())
    work = work_of(config, size_px, 2, "float16", parameters)
    rows, columns = config.grid_of(*size_px)
    cls_row = 2 * 2 * (1 + config.register_tokens + rows * columns) * config.width
    assert counter.get_total_flops() == work.flop + cls_row
    assert work.weight_bytes == 2 * parameters


def test_the_transfers_are_pixels_up_and_float32_features_down():
    config = ViTConfig(
        width=10, depth=1, heads=2, mlp_width=20, patch_size_px=8, image_size_px=(16, 24)
    )
    assert work_of(config, (16, 24), 3, "float32", 7) == Work(
        work_of(config, (16, 24), 1, "float32", 7).flop * 3,
        28,
        3 * (3 * 16 * 24 + 4 * (7 * 10 + 2 * 6)),
    )


def test_the_floor_is_the_larger_of_arithmetic_and_weights_and_the_transfers():
    rates = Rates(flop_s=1e12, device_bytes_s=1e9, transfer_bytes_s=1e8)
    assert floor_ms(Work(4 * 10**9, 10**6, 10**5), rates) == pytest.approx(
        {"compute_ms": 4.0, "weights_ms": 1.0, "transfers_ms": 1.0, "floor_ms": 5.0}
    )
    assert floor_ms(Work(0, 10**7, 0), rates)["floor_ms"] == pytest.approx(10.0)


def test_timing_of_known_times():
    figures = timing([1.0] * 98 + [3.0, 5.0], batch=4)
    assert figures["p50_ms"] == 1.0 and 3.0 <= figures["p99_ms"] <= 5.0
    assert figures["images_per_s"] == pytest.approx(4 * 100 / 0.106)


@pytest.mark.parametrize(
    "intervals, length",
    [([], 0), ([(0, 2), (1, 3)], 3), ([(5, 6), (0, 1)], 2), ([(0, 10), (2, 3), (4, 12)], 12)],
)
def test_busy_is_the_union(intervals, length):
    assert busy(intervals) == length


def test_names_ratios_rounding_and_the_table():
    assert result_name("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia-geforce-rtx-4090-laptop.json"
    rows = [
        {"runtime": "a", "p50_ms": 2.0},
        {"runtime": "b", "why_not": "no"},
        {"runtime": "eager", "precision": "float16", "p50_ms": 9.0},
    ]
    fast, absent, eager = against_baselines(rows, "eager")
    assert (fast["times_eager_float16"], eager["times_eager_float16"]) == (
        4.5,
        1.0,
    ) and absent == rows[1]
    assert rounded({"a": [1.23456789, 3], "b": None}) == {"a": [1.2346, 3], "b": None}
    header, _, line, other, _ = table(
        [{"model": "B/16", "p50_ms": 1.23456}, {"why_not": "no driver"}, {}]
    ).splitlines()
    assert header.startswith("| model | batch |") and "| B/16 |" in line and "| 1.235 |" in line
    assert other.endswith("| no driver |")


def test_without_a_gpu_it_refuses_and_writes_nothing(tmp_path):
    done = run("--out", str(tmp_path / "a.json"), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and done.stderr.startswith("no CUDA device: "), done.stderr
    assert not list(tmp_path.iterdir())


def test_figures_of_a_cpu_never_reach_the_results():
    for arguments in ((), ("--out", str(ROOT / "benchmarks/results/cpu-smoke.json"))):
        done = run("--device", "cpu", *arguments)
        assert done.returncode == 2 and "outside of benchmarks/results" in done.stderr


def test_its_structure_runs_on_the_cpu_without_ros(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "rclpy.py").write_text("raise ImportError('blocked')")
    path = tmp_path / "cpu.json"
    done = run(
        "--device",
        "cpu",
        "--models",
        "test",
        "--batches",
        "2",
        "--runs",
        "3",
        "--out",
        str(path),
        XDG_CACHE_HOME=str(tmp_path),
        PYTHONPATH=str(blocked),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    check(report, {"model": "test", "batch": 2})
    assert {"torch on the CPU", "transformers eager"} <= {row["runtime"] for row in report["rows"]}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_short_run_on_the_gpu(tmp_path):
    path = tmp_path / "gpu.json"
    done = run(
        "--models",
        "test",
        "--batches",
        "1",
        "--runs",
        "20",
        "--out",
        str(path),
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    check(report, {"model": "test", "batch": 1})
    (ours,) = [row for row in report["rows"] if row["runtime"] == "torch on CUDA"]
    assert (
        ours["precision"] == "float16" and ours["host_us"] >= 0 and ours["times_eager_float16"] > 1
    ), ours
    assert set(report["rates"]) == {"float32", "float16", "bfloat16"}


def check(report, common):
    """What holds for every report: dated, complete rows, and an engine's cosine."""
    assert {"date", "command", "device", "torch", "runs", "rates"} <= set(report)
    assert report["rows"] and all(common.items() <= row.items() for row in report["rows"])
    for row in report["rows"]:
        if "why_not" in row:
            assert row["why_not"]
            continue
        assert (
            row["p99_ms"] >= row["p50_ms"] > 0 and row["images_per_s"] > 0 and row["floor_ms"] > 0
        )
        assert row["runtime"] == "transformers eager" or (
            row["min_cosine"] > 0.999 and row["version"]
        )
