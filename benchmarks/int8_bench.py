"""Measure int8 on the CPU against OpenVINO's bf16 and float32, on the demo encoder calibrated on a
demo recording. The engines run in turn, round after round, so that ratios hold on a noisy machine.
Writes results/cpu_int8.json.

    make int8-bench        (about two minutes)
"""

import datetime
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from vit_perception.files import telemetry
from vit_perception.files.log import PrintedLog

telemetry.off()

from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.engine import Engine
from vit_perception.engines.openvino.core import core
from vit_perception.engines.openvino.engine import linear_layer_types
from vit_perception.engines.openvino.int8 import int8_model
from vit_perception.engines.parity_gate import parity_batch
from vit_perception.engines.reference import graph_of
from vit_perception.engines.select import OpenedEngine, open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import read_cpu
from vit_perception.image.calibration import calibration_images
from vit_perception.image.preprocess import Preprocessor

ROOT = Path(__file__).resolve().parent.parent
RECORDING = "data/demo/pick_place_train"
PRECISIONS = ("float32", "bfloat16", "int8")
ROUNDS, RUNS = 40, 5  # short rounds, so that what else runs hits all alike
PROFILED_RUNS = 50
CPU_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def median_ms(engine: Engine, images: np.ndarray) -> float:
    """Median time of one round, after a run that brings the weights back into the caches."""
    engine.infer(images)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        engine.infer(images)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def profile_ms(model: Path, images: np.ndarray) -> dict[str, float]:
    """Time of each kind of layer in the fastest of ``PROFILED_RUNS``, in ms, as OpenVINO's own
    counters tell it.
    """
    options = {
        "PERF_COUNT": True,
        "PERFORMANCE_HINT": "LATENCY",
    }  # the precision hint's default is the device's best
    request = core().compile_model(model, "CPU", options).create_infer_request()
    runs = []
    for _ in range(PROFILED_RUNS):
        request.infer({0: images})
        run = defaultdict(float)
        for layer in request.get_profiling_info():
            run[layer.node_type] += layer.real_time.total_seconds() * 1e3
        runs.append(run)
    fastest = min(runs, key=lambda run: sum(run.values()))
    return {
        kind: round(value, 2)
        for kind, value in sorted(fastest.items(), key=lambda i: -i[1])
        if value >= 0.05
    }


def summarise(
    opened: dict[str, OpenedEngine], rounds: dict[str, list[float]], profiles: dict
) -> dict:
    """Medians, the ratio in each round, and what they were measured on."""
    ratios = [slow / fast for slow, fast in zip(rounds["bfloat16"], rounds["int8"])]
    int8 = opened["int8"]
    layers = linear_layer_types(int8.engine._request.get_compiled_model())
    flags = read_cpu(Path("/proc/cpuinfo"))[1]
    return {
        "date": datetime.date.today().isoformat(),
        "command": "make int8-bench",
        "cores": os.cpu_count(),
        "processor": int8.engine.device,
        "instructions": [flag for flag in CPU_FLAGS if flag in flags],
        "python": platform.python_version(),
        "runtime": int8.engine.runtime,
        "calibration": RECORDING,
        "ms": {
            precision: round(statistics.median(values), 2) for precision, values in rounds.items()
        },
        "bf16_ms_per_int8_ms": round(statistics.median(ratios), 3),
        "rounds": ROUNDS,
        "ratio_quartiles": [round(quartile, 3) for quartile in statistics.quantiles(ratios, n=4)],
        "left_out": list(int8.spec.left_out),
        "refused_before": [label for label, _ in int8.tried],
        "linear_layers": dict(layers),
        "parity": {
            precision: {"min_cosine": round(one.report.min_cosine, 5), "text": str(one.report)}
            for precision, one in opened.items()
        },
        "layer_ms": profiles,
    }


def main() -> None:
    loaded = load_checkpoint("demo")
    preprocess = Preprocessor(loaded.card.rule)
    images = parity_batch(preprocess, 1)[:1]
    opened = {
        precision: open_engine(
            EngineSettings("openvino", precision, calibration=str(ROOT / RECORDING)),
            loaded,
            batch=1,
            log=PrintedLog(),
        )
        for precision in PRECISIONS
    }
    rounds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for round_number in range(ROUNDS):
        print(f"\rround {round_number + 1} of {ROUNDS}", end="", flush=True)
        for precision, one in opened.items():
            rounds[precision].append(median_ms(one.engine, images))
    calibration = partial(calibration_images, str(ROOT / RECORDING), preprocess)
    source = EngineSource(graph_of(loaded), 1, calibration=calibration)
    models = {
        "bfloat16": source.onnx_file().path,
        "int8": int8_model(source, opened["int8"].spec).path,
    }
    profiles = {precision: profile_ms(model, images) for precision, model in models.items()}
    report = summarise(opened, rounds, profiles)
    (ROOT / "benchmarks/results/cpu_int8.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
