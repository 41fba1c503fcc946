"""Measure every runtime that opens on this machine's GPU, against eager transformers and against
the floor. Writes benchmarks/results/<gpu-name>.json. Needs torch with CUDA and no ROS; transformers
for the baseline.

    make gpu-test PART=bench                                            (this, and more)
    python benchmarks/gpu_bench.py                                      (this alone)
    python benchmarks/gpu_bench.py --device cpu --models test --runs 3  (structure only)

With ``--device cpu`` it runs the CPU's runtimes in the same way, to show that the program works;
such figures are never written into results/. What runs on a GPU has not been run yet: no GPU was at
hand.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks.gpu_figures import (
    Rates,
    against_baselines,
    busy,
    floor_ms,
    result_name,
    rounded,
    table,
    timing,
    work_of,
)
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.backends import BACKENDS
from vit_perception.engines.available import make_engine
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.engines.engine import Engine, EngineError, EngineSpec, ParityError
from vit_perception.engines.parity_gate import parity_batch
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.engines.verified import open_verified
from vit_perception.files.atomic import write_whole
from vit_perception.files.log import PrintedLog
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.model.model_card import ModelCard
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

RESULTS = ROOT / "benchmarks/results"
MODELS, BATCHES, RUNS, WARM_UP_RUNS = ("test", "S/14", "B/16", "L/16"), (1, 3, 8), 300, 20
BASELINE = "transformers eager"
BASELINES = {"cuda": ("float32", "float16"), "cpu": ("float32",)}


def main() -> int:
    options = parse(sys.argv[1:])
    if options.device == "cuda" and not torch.cuda.is_available():
        built = (
            "this torch is built without CUDA"
            if torch.version.cuda is None
            else "torch finds no GPU or driver"
        )
        print(
            f"no CUDA device: {built} (torch {torch.__version__}). This benchmark needs an NVIDIA "
            "GPU and a torch "
            "with CUDA; --device cpu --out FILE runs its structure on the CPU",
            file=sys.stderr,
        )
        return 2
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    path = options.out or RESULTS / result_name(device)
    # Before anything's memory is measured: this loads cuBLAS, which nobody should be charged for.
    native = TorchEngine(options.device).status().precisions
    rates = {precision: measured_rates(options.device, precision) for precision in native}
    report = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "device": device,
        **versions(),
        "runs": options.runs,
        "rates": {key: vars(value) for key, value in rates.items()},
        "rows": [],
    }
    for name in options.models:
        for batch in options.batches:
            report["rows"] += measure_model(name, batch, options, rates)
            # After each, so that what was measured is there whatever happens next.
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(
                path, lambda file: file.write_text(json.dumps(rounded(report), indent=1) + "\n")
            )
    print(table(report["rows"]), f"\nwritten to {path}", sep="\n")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", choices=tuple(VARIANTS), default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--runs", type=int, default=RUNS, help="timed runs of each engine")
    parser.add_argument(
        "--precisions", nargs="+", help="default: each runtime's fastest on this GPU"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<gpu-name>.json")
    options = parser.parse_args(arguments)
    inside = options.out and RESULTS in options.out.resolve().parents
    if options.device == "cpu" and (not options.out or inside):
        parser.error(
            "--device cpu shows the structure only: give --out FILE outside of benchmarks/results"
        )
    return options


def measure_model(
    name: str, batch: int, options: argparse.Namespace, rates: dict[str, Rates]
) -> list[dict]:
    """A row for each runtime and precision, and for each baseline, of one model and batch."""
    loaded = random_model(name)
    size_px = loaded.card.rule.network_size_px
    source = EngineSource(graph_of(loaded), batch, PrintedLog())
    pictures = parity_batch(Preprocessor(loaded.card.rule), batch)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    rows = []
    for backend in BACKENDS:
        if (backend.device == "cpu") != (options.device == "cpu"):
            continue
        engine = make_engine(backend)
        status = engine.status()
        if not status.found:
            rows.append(
                {
                    "model": name,
                    "batch": batch,
                    "runtime": backend.label,
                    "why_not": status.why_not,
                }
            )
        for precision in (options.precisions or status.precisions[:1]) if status.found else ():
            spec = EngineSpec(batch, size_px, precision)
            rows.append(
                {
                    "model": name,
                    "batch": batch,
                    "runtime": backend.label,
                    "precision": precision,
                    **measure_engine(engine, source, spec, pictures, options),
                }
            )
    for precision in BASELINES[options.device]:
        rows.append(
            {
                "model": name,
                "batch": batch,
                "runtime": BASELINE,
                "precision": precision,
                **measure_baseline(loaded.model.config, size_px, batch, precision, options),
            }
        )
    for row in rows:
        if "p50_ms" in row and row["precision"] in rates:
            row |= floor_ms(
                work_of(loaded.model.config, size_px, batch, row["precision"], parameters),
                rates[row["precision"]],
            )
    rows = against_baselines(rows, BASELINE)
    for row in rows:
        print(json.dumps(rounded(row)), flush=True)
    return rows


def random_model(name: str) -> LoadedModel:
    """The variant with seeded random weights, at 224 px; ``test`` at its own 64 px. Speed does not
    see the weights.
    """
    config = VARIANTS[name]
    size_px = config.image_size_px if name == "test" else (224, 224)
    torch.manual_seed(0)
    card = ModelCard(
        name,
        "random",
        "",
        "random weights",
        ResizeRule(size_px, fit="crop"),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    return LoadedModel(VisionTransformer(config).eval(), card)


def measure_engine(
    engine: Engine,
    source: EngineSource,
    spec: EngineSpec,
    pictures: np.ndarray,
    options: argparse.Namespace,
) -> dict:
    """Figures of one engine behind the parity gate; ``why_not`` where it does not open or pass."""
    before, why_not = memory_mb(options.device), ""
    for attempt in engine.attempts(spec):
        try:
            report = open_verified(engine, source, attempt, pictures).report
        except EngineError as error:
            why_not = str(error)
            if isinstance(error, ParityError):
                continue
            break
        try:
            images = pictures[: spec.batch].copy()
            times_ms = timed(lambda: engine.infer(images), options.runs)
            figures = timing(times_ms, spec.batch)
            host_us = host_work_us(lambda: engine.infer(images), figures["p50_ms"], options)
            return {
                "version": engine.runtime,
                **figures,
                "host_us": host_us,
                "min_cosine": report.min_cosine,
                "worst_patch_cosine": report.worst_patch_cosine,
                "memory_mb": memory_mb(options.device) - before,
            }
        finally:
            engine.close()
    return {"why_not": why_not}


def measure_baseline(
    config: ViTConfig,
    size_px: tuple[int, int],
    batch: int,
    precision: str,
    options: argparse.Namespace,
) -> dict:
    """transformers' model of the same size as people run it: upload of float32 pixels, eager
    forward, download.

    Its preprocessing is left out, and its attention is the library's default, so it is the faster
    kind of baseline.
    """
    before = memory_mb(options.device)
    try:
        model = baseline_model(config).eval().to(options.device, getattr(torch, precision))
    except ImportError as error:
        return {"why_not": f"transformers is not installed: {error}"}
    except RuntimeError as error:  # the GPU's memory is full
        if cuda_fault.lost(error):
            raise
        return {"why_not": f"transformers cannot run: {error}"}
    pixels = torch.rand(batch, 3, *size_px)

    def run() -> np.ndarray:
        with torch.inference_mode():
            tokens = model(pixels.to(options.device, model.dtype)).last_hidden_state  # noqa: F821
            return tokens.float().cpu().numpy()

    try:
        figures = timing(timed(run, options.runs), batch)
    except RuntimeError as error:
        if cuda_fault.lost(error):
            raise
        return {"why_not": f"transformers cannot run: {error}"}
    figures["memory_mb"] = memory_mb(options.device) - before
    figures["attention"] = model.config._attn_implementation
    del model  # its memory is free before the next candidate
    gc.collect()
    return figures


def baseline_model(config: ViTConfig) -> torch.nn.Module:
    """Dinov2Model for models with LayerScale, else ViTModel; without register tokens and
    pooling.
    """
    import transformers

    sizes = {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": config.image_size_px[0],
        "patch_size": config.patch_size_px,
    }
    if config.layer_scale:
        mlp_ratio = config.mlp_width // config.width
        return transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=mlp_ratio))
    return transformers.ViTModel(
        transformers.ViTConfig(**sizes, intermediate_size=config.mlp_width), add_pooling_layer=False
    )


def timed(run: Callable[[], object], runs: int) -> list[float]:
    """Wall time of each of ``runs`` calls in ms, after a warm-up; each call ends with its results
    on the host.
    """
    for _ in range(min(WARM_UP_RUNS, runs)):
        run()
    times_ms = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - started))
    return times_ms


def host_work_us(
    run: Callable[[], object], p50_ms: float, options: argparse.Namespace, runs: int = 50
) -> float | None:
    """Wall time of a call less the time in which the GPU computes or copies: what the host and its
    waits add.

    An upper bound of the host's work: gaps between kernels count too, and so does the copy into
    pinned memory. The profiler tells when the GPU was busy; the wall time is that without it. None
    without a GPU.
    """
    if options.device != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(runs):
            run()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return max(0.0, 1e3 * p50_ms - busy(spans) / runs)


def measured_rates(device: str, precision: str) -> Rates:
    """The rates of square matrix products (float32 without TF32), of copies on the device and from
    pinned memory.
    """
    on_gpu = device == "cuda"
    side, copied_bytes = (8192, 1 << 28) if on_gpu else (512, 1 << 24)
    left, right = (
        torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2)
    )
    source = torch.zeros(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    pinned = torch.zeros(copied_bytes // 4, dtype=torch.uint8, pin_memory=on_gpu)
    # A copy on the device reads and writes each byte.
    return Rates(
        2 * side**3 / best_s(lambda: torch.mm(left, right), on_gpu),
        2 * copied_bytes / best_s(lambda: target.copy_(source), on_gpu),
        pinned.numel()
        / best_s(lambda: target[: pinned.numel()].copy_(pinned, non_blocking=True), on_gpu),
    )


def best_s(run: Callable[[], object], on_gpu: bool, runs: int = 20) -> float:
    """The shortest time of ``runs`` calls in seconds, to the end of what they started: rates are a
    machine's best.
    """
    times_s = []
    for _ in range(runs):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - started)
    return min(times_s)


def memory_mb(device: str) -> float:
    """Memory in use: of the whole GPU, whichever library took it, or resident memory of this
    process.
    """
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 1e6
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def versions() -> dict[str, str]:
    """Of everything that the figures depend on besides the runtimes, which say their own."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
    }
    driver = Path("/proc/driver/nvidia/version")
    if driver.exists():
        found["driver"] = driver.read_text().splitlines()[0]
    if torch.cuda.is_available():
        found["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    return found


if __name__ == "__main__":
    sys.exit(cuda_fault.run_program(main, "gpu_bench"))
