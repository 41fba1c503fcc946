"""The arithmetic of gpu_bench.py that needs no GPU: work of a model, floor, percentiles, names, the
table.
"""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vit_perception.model.vision_transformer import ViTConfig

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Work:
    """What one run has to do: ``flop`` in matrix products, ``weight_bytes`` to read,
    ``transfer_bytes`` host to GPU and back.
    """

    flop: int
    weight_bytes: int
    transfer_bytes: int


def work_of(
    config: "ViTConfig", size_px: tuple[int, int], batch: int, precision: str, parameters: int
) -> Work:
    """The work of a ``batch`` of ``size_px`` images: uint8 pixels in, float32 features out, every
    weight read once.

    A multiply-add is two FLOP. Norms, softmax and activations are left out, so the floor stays a
    floor.
    """
    rows, columns = config.grid_of(*size_px)
    patches = rows * columns
    tokens = 1 + config.register_tokens + patches
    linear_mlp = (3 if config.activation == "swiglu" else 2) * config.width * config.mlp_width
    block = 2 * tokens * (4 * config.width**2 + linear_mlp) + 2 * 2 * tokens**2 * config.width
    embedding = 2 * patches * 3 * config.patch_size_px**2 * config.width
    pixels = 3 * size_px[0] * size_px[1]
    features = 4 * ((1 + patches) * config.width + config.heads * patches)
    return Work(
        batch * (config.depth * block + embedding),
        parameters * ITEM_BYTES[precision],
        batch * (pixels + features),
    )


@dataclass(frozen=True)
class Rates:
    """What this machine was measured to do: FLOP a second in ``precision``, bytes a second on the
    device and over the bus between host and device.
    """

    flop_s: float
    device_bytes_s: float
    transfer_bytes_s: float


def floor_ms(work: Work, rates: Rates) -> dict[str, float]:
    """The least time that the run can take: the larger of arithmetic and reading the weights, and
    the transfers.
    """
    compute, weights = (
        1e3 * work.flop / rates.flop_s,
        1e3 * work.weight_bytes / rates.device_bytes_s,
    )
    transfers = 1e3 * work.transfer_bytes / rates.transfer_bytes_s
    return {
        "compute_ms": compute,
        "weights_ms": weights,
        "transfers_ms": transfers,
        "floor_ms": max(compute, weights) + transfers,
    }


def timing(times_ms: Sequence[float], batch: int) -> dict[str, float]:
    """p50, p99 and images a second of runs of ``batch`` images."""
    return {
        "p50_ms": statistics.median(times_ms),
        "p99_ms": float(np.percentile(times_ms, 99)),
        "images_per_s": 1e3 * batch * len(times_ms) / sum(times_ms),
    }


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end): how long the GPU did anything, whatever ran at once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def against_baselines(rows: list[dict], baseline: str) -> list[dict]:
    """``rows`` of one model and batch, each with how many times faster it is than the ``baseline``
    runtime's rows.
    """
    medians = {
        row["precision"]: row["p50_ms"]
        for row in rows
        if row["runtime"] == baseline and "p50_ms" in row
    }
    return [
        row
        | {
            f"times_eager_{precision}": p50_ms / row["p50_ms"]
            for precision, p50_ms in medians.items()
        }
        if "p50_ms" in row
        else row
        for row in rows
    ]


def rounded(value: object) -> object:
    """``value`` for a JSON file, its floats with five digits: more of them is noise. NaN and
    infinity become texts.
    """
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    return value


def result_name(device: str) -> str:
    """The file of a device's results: ``NVIDIA H200`` -> ``nvidia-h200.json``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def table(rows: list[dict]) -> str:
    """The figures as a Markdown table, for people."""
    columns = (
        "model",
        "batch",
        "runtime",
        "precision",
        "p50_ms",
        "p99_ms",
        "images_per_s",
        "floor_ms",
        "min_cosine",
        "memory_mb",
        "host_us",
        "why_not",
    )
    shown = [[_text(row.get(column)) for column in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
