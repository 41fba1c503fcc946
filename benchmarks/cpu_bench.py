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

import numpy as np
import rclpy
import torch
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from vit_perception.checkpoints.demo.weights import demo_weights_folder
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.processes import Child, use_large_data_profile
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.files.atomic import write_whole
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.stamps import stamp_ns_of

HERE = Path(__file__).resolve().parent
LOW_HZ, HIGH_HZ = 5.0, 30.0
WARM_S, SILENT_S, LEAST_FRAMES = 2.0, 120.0, 3
PARAMETERS = [
    "-p",
    "autostart:=true",
    "-p",
    "camera_names:=[camera]",
    "-p",
    "cameras.camera.topic:=/bench/image",
]
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Ears(Node):
    """Notes when each token message came and how old its image was."""

    def __init__(self):
        super().__init__("benchmark_ears")
        self.heard: dict[str, list[tuple[float, float]]] = {
            "/vit_encoder/tokens": [],
            "/naive/tokens": [],
        }
        for topic in self.heard:
            self.create_subscription(
                Image, topic, lambda m, t=topic: self._hear(t, m), QoSProfile(depth=10)
            )

    def _hear(self, topic: str, message: Image) -> None:
        age_ms = (time.time_ns() - stamp_ns_of(message.header)) / 1e6
        self.heard[topic].append((time.monotonic(), age_ms))


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


def engine_ms(pipeline: Pipeline, runs: int = 40) -> float:
    """Median time of the engine alone on a ready batch."""
    batch = np.random.default_rng(0).integers(
        0, 256, (1, 3, *pipeline.card.rule.network_size_px), np.uint8
    )
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        pipeline.engine.infer(batch)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def offer(
    executor, ears: Ears, names: tuple[str, str], rate_hz: float, enough, logs: Path
) -> list[tuple[float, float]]:
    """Show images until ``enough`` of what was heard; all that was: (time s, age ms). ``names``:
    images, tokens.

    Raises RuntimeError where nothing comes for two minutes.
    """
    image_topic, token_topic = names
    heard = ears.heard[token_topic]
    heard.clear()
    camera = Child(
        [sys.executable, str(HERE / "camera.py"), image_topic, str(rate_hz)], logs / "camera.log"
    )
    try:
        news_s, count = time.monotonic(), 0
        while not enough(heard):
            executor.spin_once(timeout_sec=0.1)
            if len(heard) > count:
                news_s, count = time.monotonic(), len(heard)
            if camera.returncode is not None or time.monotonic() > news_s + SILENT_S:
                raise RuntimeError(
                    f"nothing came on {token_topic} in {SILENT_S:g} s; the camera said:\n"
                    f"{camera.tail()}"
                )
    finally:
        camera.stop()
    return list(heard)


def steady(heard: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the first ``WARM_S``."""
    return [h for h in heard if h[0] >= heard[0][0] + WARM_S]


def lasted(heard: list[tuple[float, float]], seconds: float) -> bool:
    """Whether ``seconds`` and the warm-up have passed, and a slow machine has given some frames in
    that time too.
    """
    return (
        bool(heard) and heard[-1][0] >= heard[0][0] + seconds and len(steady(heard)) >= LEAST_FRAMES
    )


def rate_of(heard: list[tuple[float, float]]) -> float:
    """Messages a second."""
    return (len(heard) - 1) / (heard[-1][0] - heard[0][0])


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def memory_growth_percent(executor, ears: Ears, pid: int, count: int, logs: Path) -> float:
    """Growth of the node's resident memory over ``count`` published frames, after a tenth as many
    to warm up.
    """
    warm, before_kib = count // 10, 0

    def enough(frames) -> bool:
        nonlocal before_kib
        if not before_kib and len(frames) >= warm:
            before_kib = rss_kib(pid)
        return len(frames) >= count + warm

    offer(executor, ears, OURS, HIGH_HZ, enough, logs)
    return 100 * (rss_kib(pid) / before_kib - 1)


OURS, NAIVE = ("/bench/image", "/vit_encoder/tokens"), ("/naive/image", "/naive/tokens")


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
    ears = Ears()
    executor = SingleThreadedExecutor()
    executor.add_node(ears)
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

    def ages_at(names: tuple[str, str], rate_hz: float) -> list[tuple[float, float]]:
        return steady(
            offer(executor, ears, names, rate_hz, lambda heard: lasted(heard, args.seconds), logs)
        )

    for names in (OURS, NAIVE):  # both warm, and no import still running
        offer(executor, ears, names, LOW_HZ, bool, logs)
    for round_number in range(args.rounds):
        print(f"round {round_number + 1} of {args.rounds}", flush=True)
        runs["engine_ms"].append(engine_ms(pipeline))
        runs["floor_ms"].append(
            matrix_products_ms(config, pipeline.grid, pipeline.engine.precision)
        )
        ages = [age for _, age in ages_at(OURS, LOW_HZ)]
        runs["end_to_end_ms"].append(statistics.median(ages))
        runs["end_to_end_p99_ms"].append(float(np.percentile(ages, 99)))
        runs["engine_ms"].append(engine_ms(pipeline))
        heard = ages_at(OURS, HIGH_HZ)
        runs["node_hz"].append(rate_of(heard))
        runs["overload_age_ms"].append(statistics.median(age for _, age in heard))
        runs["overload_age_p99_ms"].append(float(np.percentile([age for _, age in heard], 99)))
        runs["engine_ms"].append(engine_ms(pipeline))
        runs["naive_end_to_end_ms"].append(
            statistics.median(age for _, age in ages_at(NAIVE, LOW_HZ))
        )
        heard = ages_at(NAIVE, HIGH_HZ)
        runs["naive_hz"].append(rate_of(heard))
        runs["naive_overload_age_ms"].append(statistics.median(age for _, age in heard[-10:]))
    print(f"memory over {args.memory_frames} frames", flush=True)
    growth = memory_growth_percent(executor, ears, node.pid, args.memory_frames, logs)
    report = summarise(runs, pipeline, growth)
    node.stop()
    naive.stop()
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
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "model": pipeline.card.name,
        "runtime": pipeline.engine.runtime,
        "precision": pipeline.engine.precision,
        **{key: round(value, 4 if "cosine" in key else 3) for key, value in figures.items()},
        "rounds": {key: [round(v, 2) for v in values] for key, values in runs.items()},
    }


def processor() -> str:
    """Its name, as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


if __name__ == "__main__":
    main()
