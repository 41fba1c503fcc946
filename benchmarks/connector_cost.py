"""What connectors cost beside their matrix products: policy_tower_bench.py runs this.

Each policy's connector in its real shapes for one picture, float32, one thread. ``whole_ms`` is all
that stands behind the tower: norm, pixel shuffle, layers, scale, and the mean of the tokens and the
attention on their grid. ``products_ms`` are the bare matrix products, on arrays that lie ready.
Both run in OpenVINO, which ``backend: auto`` takes on a CPU, and in torch; processor time, in turn.
``ratio`` is the median over the turns: other work on the machine slows both of a turn.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vit_perception.engines.openvino.core import DEVICE, core
from vit_perception.heads.connectors import Connector, ConnectorSpec

MOST_RATIO = 1.05


class Case(NamedTuple):
    """A connector behind a tower."""

    spec: ConnectorSpec
    # Patches of the tower in each direction, its channels and heads.
    side: int
    width: int
    heads: int


CASES = {
    "smolvla": Case(
        ConnectorSpec(widths=(16 * 768, 960), shuffle=4, bias=False, scale=960**0.5), 32, 768, 12
    ),
    "pi0": Case(ConnectorSpec(widths=(1152, 2048)), 16, 1152, 16),
    "openvla": Case(ConnectorSpec(widths=(2176, 8704, 4096, 4096)), 16, 2176, 16),
    "evo1": Case(
        ConnectorSpec(
            widths=(4096, 896, 896), shuffle=2, norm="layer", norm_place="square", norm_eps=1e-5
        ),
        32,
        1024,
        16,
    ),
}


class _Whole(nn.Module):
    def __init__(self, connector: Connector, side: int):
        super().__init__()
        self.connector = connector
        self.side = side

    def forward(self, patches: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.connector.connect(patches, attention, (self.side, self.side)))


class _Products(nn.Module):
    def __init__(self, connector: Connector):
        super().__init__()
        self.layers = connector.layers

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            nn.functional.linear(tokens, layer.weight) for tokens, layer in zip(inputs, self.layers)
        )


def costs(turns: int) -> dict:
    """Measure each connector in each engine."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return {
        f"{name}, {engine}": row
        for name, case in CASES.items()
        for engine, row in _rows(case, turns).items()
    }


@torch.inference_mode()
def _rows(case: Case, turns: int) -> dict:
    connector = Connector(case.spec).eval().requires_grad_(False)
    count = case.side**2
    tokens = count // case.spec.shuffle**2
    given = (torch.randn(1, count, case.width), torch.rand(1, case.heads, count))
    ready = tuple(torch.randn(1, tokens, width) for width in case.spec.widths[:-1])
    whole, products = _Whole(connector, case.side).eval(), _Products(connector).eval()
    return {
        "openvino": _paired(_openvino(whole, given), _openvino(products, ready), turns),
        "torch": _paired(lambda: whole(*given), lambda: products(*ready), turns),
    }


def _openvino(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    import openvino

    with torch.inference_mode(False):
        model = openvino.convert_model(module, example_input=tuple(i.clone() for i in inputs))
    model.reshape({port: list(i.shape) for port, i in zip(model.inputs, inputs)})
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core().compile_model(model, DEVICE, options).create_infer_request()
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, openvino.Tensor(tensor.numpy()))
    return request.infer


def _paired(
    whole: Callable[[], object], products: Callable[[], object], turns: int
) -> dict[str, float]:
    pairs = [(_cpu_s(whole), _cpu_s(products)) for _ in range(turns + 2)][2:]
    whole_s, products_s = (statistics.median(times_s) for times_s in zip(*pairs))
    return {
        "whole_ms": round(whole_s * 1e3, 3),
        "products_ms": round(products_s * 1e3, 3),
        "ratio": round(statistics.median(ours / bare for ours, bare in pairs), 3),
    }


def _cpu_s(run: Callable[[], object]) -> float:
    started_s = time.process_time()
    run()
    return time.process_time() - started_s
