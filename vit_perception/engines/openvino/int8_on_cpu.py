"""Whether int8 overflows on this CPU, and how fast it is, found by running OpenVINO's kernels.

Processors without VNNI instructions add two products of 8-bit values in 16 bits, which saturate.
Instruction sets are not looked up: what matters is the kernel that OpenVINO chooses, and that
differs between its versions.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from vit_perception.engines.openvino.core import DEVICE, core
from vit_perception.files import telemetry

# An error below this is not saturation: two saturated products of 255 x 127 lose half of their sum.
_EXACT = 0.01
# ViT-S: 16 x 16 patches and the CLS token, 384 wide, with an MLP four times as wide.
_TOKENS = 257
_WIDTH = 384
_BLOCKS = 4
_ROUNDS = 15


@cache
def kernels_saturate() -> bool:
    """Whether OpenVINO's int8 matrix product is too small for large activations and weights.

    It runs one product of 64 x 256 by 256 x 256 values, all at the upper end of their range. This
    takes milliseconds.
    """
    channels = 256
    linear = _linear_model(np.full((channels, channels), 127, np.float32), tokens=64)
    compiled = _compiled(linear, "f32")
    result = compiled({0: np.full((1, 64, channels), 255, np.float32)})[0]
    return bool(np.abs(result / (255 * 127 * channels) - 1).max() > _EXACT)


def linear_layer_speed(rounds: int = _ROUNDS) -> tuple[float, float]:
    """Return the median times in ms of int8 and of the CPU's fastest float type.

    What runs is the MLPs of four ViT-S blocks with random weights, on one image. It takes about a
    second, most of it for compiling.
    """
    rng = np.random.default_rng(0)
    models = [_compiled(_mlp_model(rng, int8), None) for int8 in (True, False)]
    picture = rng.standard_normal((1, _TOKENS, _WIDTH)).astype(np.float32)
    int8_ms, float_ms = interleaved_medians_ms(
        [lambda m=m: m({0: picture}) for m in models], rounds
    )
    return int8_ms, float_ms


def interleaved_medians_ms(runs: list[Callable[[], object]], rounds: int = _ROUNDS) -> list[float]:
    """Return the median time of each of ``runs`` in ms.

    They take turns, so that other load on the machine slows all of them equally.
    """
    times: list[list[float]] = [[] for _ in runs]
    for round_number in range(rounds + 1):
        for run, measured in zip(runs, times):
            started_s = time.perf_counter()
            run()
            if round_number:  # the first run brings the weights into the caches
                measured.append(1e3 * (time.perf_counter() - started_s))
    return [statistics.median(measured) for measured in times]


class Comparison(NamedTuple):
    """How fast int8 is here, as a sentence."""

    text: str
    slower: bool  # than the floating-point precision


def comparison(int8_ms: float, float_ms: float, float_name: str, what: str) -> Comparison:
    """Say which of the two median times of ``what``, in ms, is shorter, and by how much."""
    times = (
        f"{what} takes {int8_ms:.3g} ms in int8 and {float_ms:.3g} ms in {float_name} on this CPU"
    )
    if int8_ms > float_ms:
        text = (
            f"int8 is slower than {float_name} here: {times}; engine.precision 'auto' takes "
            f"{float_name}"
        )
        return Comparison(text, slower=True)
    return Comparison(
        f"{times}: int8 is {float_ms / int8_ms:.2f} times as fast",
        slower=False,
    )


def _linear_model(weights: np.ndarray, tokens: int) -> Any:
    """One int8 linear layer: ``weights`` (out, in) from -127 to 127, activations from 0 to 255."""
    ops = _openvino().opset13
    activations = ops.parameter([1, tokens, weights.shape[1]], np.float32)
    quantised = _fake_quantised(ops, activations, 0, 255, 256)
    product = ops.matmul(
        quantised, _fake_quantised(ops, ops.constant(weights), -127, 127, 255), False, True
    )
    return _openvino().Model([product], [activations])


def _mlp_model(rng: np.random.Generator, int8: bool) -> Any:
    """The MLPs of ``_BLOCKS`` ViT-S blocks: linear, GELU, linear, and the residual."""
    ops = _openvino().opset13
    tokens = first = ops.parameter([1, _TOKENS, _WIDTH], np.float32)
    for _ in range(_BLOCKS):
        inner = tokens
        for width_in, width_out in ((_WIDTH, 4 * _WIDTH), (4 * _WIDTH, _WIDTH)):
            weights = ops.constant(
                rng.standard_normal((width_out, width_in)).astype(np.float32) / width_in**0.5
            )
            if int8:
                inner = _fake_quantised(ops, inner, -8, 8 - 1 / 16, 256)
                weights = _fake_quantised(ops, weights, -0.25, 0.25, 255)
            inner = ops.matmul(inner, weights, False, True)
            inner = ops.gelu(inner, "ERF") if width_out > width_in else inner
        tokens = ops.add(tokens, inner)
    return _openvino().Model([tokens], [first])


def _fake_quantised(ops: Any, values: Any, low: float, high: float, levels: int) -> Any:
    low, high = (np.float32(limit) for limit in (low, high))
    return ops.fake_quantize(values, low, high, low, high, levels)


def _compiled(model: Any, precision: str | None) -> Any:
    # Without a precision hint OpenVINO takes the device's fastest.
    options = {"PERFORMANCE_HINT": "LATENCY"}
    if precision:
        options["INFERENCE_PRECISION_HINT"] = precision
    return core().compile_model(model, DEVICE, options)


def _openvino() -> Any:
    telemetry.off()
    import openvino
    import openvino.opset13  # an attribute of the package from here on

    return openvino
