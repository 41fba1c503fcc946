"""Measure the node on this machine's CPU against the bare engine, the naive node, and the floor.
Writes benchmarks/results/cpu.json. Everything in one run, in turn and repeatedly, so that ratios
hold on a noisy machine.

    make bench        (about six minutes)
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import rclpy
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks import one_block_bench
from benchmarks.listening import (
    Listener,
    Topics,
    engine_ms,
    median_age_ms,
    p99_age_ms,
    rate_of,
)
from vit_perception.checkpoints.demo.weights import demo_weights_folder
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.processes import Child, use_large_data_profile
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.files.atomic import write_whole
from vit_perception.pipeline.pipeline import Pipeline

HERE = ROOT / "benchmarks"
LOW_HZ, HIGH_HZ = 5.0, 30.0
PARAMETERS = [
    "-p",
    "autostart:=true",
    "-p",
    "camera_names:=[camera]",
    "-p",
    "cameras.camera.topic:=/bench/image",
]
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def matrix_products_ms(config, grid: tuple[int, int], precision: str, runs: int = 30) -> float:
    """Median time of the model's matrix products alone at ``precision`` (torch, all cores): the
    floor.
    """
    dtype = TORCH_DTYPES[precision]
    tokens = 1 + grid[0] * grid[1]
    width, heads, mlp = config.width, config.heads, config.mlp_width
    shapes = [
        (tokens, width, 3 * width),
        (tokens, width, width),
        (tokens, width, mlp),
        (tokens, mlp, width),
    ]
    linear = [
        (torch.randn(t, i, dtype=dtype), torch.randn(i, o, dtype=dtype)) for t, i, o in shapes
    ]
    query = torch.randn(heads, tokens, width // heads, dtype=dtype)
    weights = torch.randn(heads, tokens, tokens, dtype=dtype)
    patches = (
        torch.randn(tokens - 1, 3 * config.patch_size_px**2, dtype=dtype),
        torch.randn(3 * config.patch_size_px**2, width, dtype=dtype),
    )
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        torch.mm(*patches)
        for _ in range(config.depth):
            for left, right in linear:
                torch.mm(left, right)
            torch.bmm(query, query.transpose(1, 2))
            torch.bmm(weights, query)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def memory_growth_percent(listener: Listener, pid: int, count: int) -> float:
    """Growth of the node's resident memory over ``count`` published frames, after a tenth as many
    to warm up.
    """
    warm, before_kib = count // 10, 0

    def enough(frames) -> bool:
        nonlocal before_kib
        if not before_kib and len(frames) >= warm:
            before_kib = rss_kib(pid)
        return len(frames) >= count + warm

    listener.offer(OURS, HIGH_HZ, enough)
    return 100 * (rss_kib(pid) / before_kib - 1)


OURS = Topics("/bench/image", "/vit_encoder/tokens")
NAIVE = Topics("/naive/image", "/naive/tokens")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument("--memory-frames", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "results/cpu.json",
        help="the figures (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse()
    use_large_data_profile()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vit_perception_bench_") as logs:
        report = measure(args, Path(logs))
    write_whole(args.out, lambda file: file.write_text(json.dumps(report, indent=1) + "\n"))
    print(json.dumps(report, indent=1))


def measure(args: argparse.Namespace, logs: Path) -> dict:
    """All of it, with the processes' output in ``logs``."""
    pipeline = Pipeline.open(EncoderSettings((CameraSettings("camera", "/bench/image"),)))
    config = load_checkpoint("demo").model.config
    node = Child.module(
        "vit_perception.ros.start", "--ros-args", *PARAMETERS, log=logs / "node.log"
    )
    naive = Child(
        [sys.executable, str(HERE / "naive_node.py"), str(demo_weights_folder())],
        logs / "naive.log",
    )
    rclpy.init()
    listener = Listener([OURS, NAIVE, one_block_bench.TOPICS, one_block_bench.ECHO], logs)
    runs: dict[str, list[float]] = {
        key: []
        for key in (
            "engine_ms",
            "floor_ms",
            "end_to_end_ms",
            "end_to_end_p99_ms",
            "node_hz",
            "naive_hz",
            "naive_end_to_end_ms",
            "overload_age_ms",
            "overload_age_p99_ms",
            "naive_overload_age_ms",
        )
    }

    for topics in (OURS, NAIVE):  # both warm, and no import still running
        listener.offer(topics, LOW_HZ, bool)
    for round_number in range(args.rounds):
        print(f"round {round_number + 1} of {args.rounds}", flush=True)
        runs["engine_ms"].append(engine_ms(pipeline))
        runs["floor_ms"].append(
            matrix_products_ms(config, pipeline.grid, pipeline.engine.precision)
        )
        heard = listener.steady(OURS, LOW_HZ, args.seconds)
        runs["end_to_end_ms"].append(median_age_ms(heard))
        runs["end_to_end_p99_ms"].append(p99_age_ms(heard))
        runs["engine_ms"].append(engine_ms(pipeline))
        heard = listener.steady(OURS, HIGH_HZ, args.seconds)
        runs["node_hz"].append(rate_of(heard))
        runs["overload_age_ms"].append(median_age_ms(heard))
        runs["overload_age_p99_ms"].append(p99_age_ms(heard))
        runs["engine_ms"].append(engine_ms(pipeline))
        heard = listener.steady(NAIVE, LOW_HZ, args.seconds)
        runs["naive_end_to_end_ms"].append(median_age_ms(heard))
        heard = listener.steady(NAIVE, HIGH_HZ, args.seconds)
        runs["naive_hz"].append(rate_of(heard))
        runs["naive_overload_age_ms"].append(median_age_ms(heard[-10:]))
    print(f"memory over {args.memory_frames} frames", flush=True)
    growth = memory_growth_percent(listener, node.pid, args.memory_frames)
    report = summarise(runs, pipeline, growth)
    node.stop()
    naive.stop()
    print("one block", flush=True)
    report |= one_block_bench.measure(
        listener, rounds=args.rounds, seconds=args.seconds, folder=logs
    )
    rclpy.try_shutdown()
    return report


def summarise(runs: dict[str, list[float]], pipeline: Pipeline, growth: float) -> dict:
    """Medians over the rounds, ratios, and what they were measured on."""
    medians = {key: statistics.median(values) for key, values in runs.items()}
    engine_hz = 1e3 / medians["engine_ms"]
    figures = {
        **medians,
        "engine_hz": engine_hz,
        "min_cosine": pipeline.opened.report.min_cosine,
        "rss_growth_percent": growth,
        "end_to_end_minus_engine_ms": medians["end_to_end_ms"] - medians["engine_ms"],
        "node_hz_per_engine_hz": medians["node_hz"] / engine_hz,
        "node_hz_per_naive_hz": medians["node_hz"] / medians["naive_hz"],
        "engine_ms_per_floor_ms": medians["engine_ms"] / medians["floor_ms"],
        "overload_age_in_engine_runs": medians["overload_age_ms"] / medians["engine_ms"],
    }
    return {
        "date": datetime.date.today().isoformat(),
        "command": "make bench",
        "cores": os.cpu_count(),
        "processor": one_block_bench.processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "model": pipeline.card.name,
        "runtime": pipeline.engine.runtime,
        "precision": pipeline.engine.precision,
        **{key: round(value, 4 if "cosine" in key else 3) for key, value in figures.items()},
        "rounds": {key: [round(v, 2) for v in values] for key, values in runs.items()},
    }


if __name__ == "__main__":
    main()
