"""Measure what the node itself costs, with an encoder so small that it shows: one block of ViT-S
width with random weights. Part of ``make bench``; alone it renews only its own figures in
benchmarks/results/cpu.json.

The engine leaves one core to the camera's process, the node and the listener. With an engine on
all cores, as many as this computer has would be measured, and not whether the steps overlap.

    python benchmarks/one_block_bench.py      (about a minute)
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks.listening import HERE, WARM_S, Listener, Topics, engine_ms, median_age_ms, rate_of
from vit_perception.cli.processes import Child, use_large_data_profile
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.files.atomic import write_whole
from vit_perception.pipeline.pipeline import Pipeline

TOPICS = Topics("/one_block/image", "/one_block/tokens")
ECHO = Topics("/echo/image", "/echo/tokens")
SIZE_PX = 224
OVERLOAD = 1.25  # images offered, in the engine's own rate
CALM = 0.33  # the same, where no image waits for another
RUNS = 100  # of the bare engine, each time
THREADS = max(1, len(os.sched_getaffinity(0)) - 1)


def write_checkpoint(folder: Path) -> None:
    """One DINOv2 block of ViT-S width, random weights, as transformers saves it."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=1,
        num_attention_heads=6,
        image_size=SIZE_PX,
        patch_size=14,
    )
    Dinov2Model(config).save_pretrained(folder)
    preprocessing = {
        "do_resize": True,
        "size": {"shortest_edge": SIZE_PX},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))


def measure(
    listener: Listener, *, rounds: int, seconds: float, folder: Path, threads: int = THREADS
) -> dict:
    """``overlap_hz_ratio`` and ``node_own_ms``, and in ``one_block`` what they are made of.

    Beside them stands what no node of rclpy can save. ``echo_ms`` is the age of the answers of a
    node that computes nothing, so how much of ``node_own_ms`` the two messages take.
    ``engine_beside_echo_hz`` is the rate of the engine while that node gets the images offered to
    ours and answers them, so how much of the engine's rate the messages leave on these cores.

    The engine's figures are this process's own, taken while the node stands idle.
    """
    write_checkpoint(folder / "checkpoint")
    model = ModelSettings(str(folder / "checkpoint"))
    camera = CameraSettings("camera", TOPICS.images)
    engine = EngineSettings(threads=threads)
    pipeline = Pipeline.open(EncoderSettings((camera,), model=model, engine=engine))
    parameters = {
        "autostart": "true",
        "camera_names": "[camera]",
        "cameras.camera.topic": TOPICS.images,
        "model.checkpoint": folder / "checkpoint",
        "engine.threads": threads,
    }
    arguments = [a for name, value in parameters.items() for a in ("-p", f"{name}:={value}")]
    node = Child.module(
        "vit_perception.ros.start",
        *("--ros-args", "-r", "__node:=one_block", *arguments),
        log=folder / "one_block.log",
    )
    layout = pipeline.layout()
    size_bytes = 4 * layout.token_count * layout.width  # float32
    echo = Child(
        [sys.executable, str(HERE / "echo_node.py"), ECHO.images, ECHO.tokens, str(size_bytes)],
        folder / "echo.log",
    )
    runs: dict[str, list[float]] = {
        "engine_ms": [],
        "echo_ms": [],
        "end_to_end_ms": [],
        "node_hz": [],
        "engine_beside_echo_hz": [],
    }
    for topics in (TOPICS, ECHO):
        listener.offer(topics, 5.0, bool)  # no import is running any more
    runs["engine_ms"].append(engine_ms(pipeline, RUNS))
    for _ in range(rounds):
        engine_hz = 1e3 / runs["engine_ms"][-1]
        calm = listener.steady(TOPICS, CALM * engine_hz, seconds)
        runs["end_to_end_ms"].append(median_age_ms(calm))
        echoes = listener.steady(ECHO, CALM * engine_hz, seconds)
        runs["echo_ms"].append(median_age_ms(echoes))
        runs["engine_ms"].append(engine_ms(pipeline, RUNS))
        runs["node_hz"].append(rate_of(listener.steady(TOPICS, OVERLOAD * engine_hz, seconds)))
        runs["engine_ms"].append(engine_ms(pipeline, RUNS))
        with running(pipeline) as begun_s:
            listener.steady(ECHO, OVERLOAD * engine_hz, seconds)
        runs["engine_beside_echo_hz"].append(rate_of_runs(begun_s))
        runs["engine_ms"].append(engine_ms(pipeline, RUNS))
    node.stop()
    echo.stop()
    pipeline.close()
    medians = {key: statistics.median(values) for key, values in runs.items()}
    engine_hz = 1e3 / medians["engine_ms"]
    return {
        "overlap_hz_ratio": round(medians["node_hz"] / engine_hz, 3),
        "node_own_ms": round(medians["end_to_end_ms"] - medians["engine_ms"], 3),
        "one_block": {
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "engine_threads": threads,
            "network_size_px": SIZE_PX,
            "runtime": pipeline.engine.runtime,
            "precision": pipeline.engine.precision,
            "offered_per_engine_hz": OVERLOAD,
            "calm_per_engine_hz": CALM,
            **{key: round(value, 3) for key, value in medians.items()},
            "rounds": {key: [round(v, 2) for v in values] for key, values in runs.items()},
        },
    }


@contextmanager
def running(pipeline: Pipeline) -> Iterator[list[float]]:
    """Run the engine on a thread without a pause; gives when each run began, monotonic, s."""
    size_px = pipeline.card.rule.network_size_px
    batch = np.zeros((1, 3, *size_px), np.uint8)
    begun_s: list[float] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            begun_s.append(time.monotonic())
            pipeline.engine.infer(batch)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield begun_s
    finally:
        enough.set()
        thread.join()


def rate_of_runs(begun_s: list[float]) -> float:
    """Runs a second, without those of the warm-up."""
    warm = [at_s for at_s in begun_s if at_s >= begun_s[0] + WARM_S]
    return (len(warm) - 1) / (warm[-1] - warm[0])


def processor() -> str:
    """Its name, as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=THREADS, help="of the engine, 0: all (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks/results/cpu.json",
        help="where its figures are renewed (default: %(default)s)",
    )
    args = parser.parse_args()
    use_large_data_profile()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    with tempfile.TemporaryDirectory(prefix="vit_perception_bench_") as folder:
        listener = Listener([TOPICS, ECHO], Path(folder))
        figures = measure(
            listener,
            rounds=args.rounds,
            seconds=args.seconds,
            folder=Path(folder),
            threads=args.threads,
        )
    rclpy.try_shutdown()
    report = (json.loads(args.out.read_text()) if args.out.exists() else {}) | figures
    write_whole(args.out, lambda file: file.write_text(json.dumps(report, indent=1) + "\n"))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
