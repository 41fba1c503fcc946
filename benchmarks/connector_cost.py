"""What connectors cost beside their matrix products: policy_tower_bench.py runs this.

Each policy's connector in its real shapes for one picture, float32, one thread:

``connector_ms``  the connector: norm, pixel shuffle, layers with bias and GELU, scale
``products_ms``   its bare matrix products, on arrays that lie ready
``beside_ms``     what stands behind it for our own topics: the mean of the tokens, and the tower's
                  attention on their grid; no policy has these
``ratio``         of the first two, ``beside`` of the third to the second: medians over the turns,
                  since other work on the machine slows all of a turn

They run in turn in OpenVINO, which ``backend: auto`` takes on a CPU, from ONNX and as our engine
compiles it, and in torch. Times are processor time.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vit_perception.engines.onnx_export import OPSET, quiet_exporter
from vit_perception.engines.openvino.core import core
from vit_perception.engines.openvino.engine import compile_model, suit_float32
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


class _Connector(nn.Module):
    def __init__(self, connector: Connector, side: int):
        super().__init__()
        self.connector = connector
        self.side = side

    def forward(self, patches: Tensor) -> Tensor:
        return self.connector(patches, (self.side, self.side))


class _Products(nn.Module):
    def __init__(self, connector: Connector):
        super().__init__()
        self.layers = connector.layers

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            nn.functional.linear(tokens, layer.weight) for tokens, layer in zip(inputs, self.layers)
        )


class _Beside(nn.Module):
    def __init__(self, connector: Connector, side: int):
        super().__init__()
        self.connector = connector
        self.side = side

    def forward(self, tokens: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        return tokens.mean(dim=1), self.connector.attention(attention, (self.side, self.side))


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
    parts = {
        "connector": (_Connector(connector, case.side), (torch.randn(1, count, case.width),)),
        "products": (
            _Products(connector),
            tuple(torch.randn(1, tokens, width) for width in case.spec.widths[:-1]),
        ),
        "beside": (
            _Beside(connector, case.side),
            (torch.randn(1, tokens, case.spec.width), torch.rand(1, case.heads, count)),
        ),
    }
    return {
        "openvino": _in_turn({name: _openvino(*part) for name, part in parts.items()}, turns),
        "torch": _in_turn({name: _torch(*part) for name, part in parts.items()}, turns),
    }


def _torch(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    return lambda: module(*inputs)


def _openvino(module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # The exporter prints what it does, and standard output is for the figures.
        silent = contextlib.redirect_stdout(io.StringIO())
        with torch.inference_mode(False), quiet_exporter(), silent:
            torch.onnx.export(
                module.eval(),
                tuple(tensor.clone() for tensor in inputs),
                path,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                external_data=True,
            )
        model = core().read_model(path)
        suit_float32(model)
        request = compile_model(model, "float32", 1).create_infer_request()
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, openvino.Tensor(tensor.numpy()))
    return request.infer


def _in_turn(parts: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    rounds = [{name: _cpu_s(run) for name, run in parts.items()} for _ in range(turns + 2)][2:]

    def median(figure: Callable[[dict[str, float]], float]) -> float:
        return round(statistics.median(figure(times_s) for times_s in rounds), 3)

    return {
        "connector_ms": median(lambda times_s: times_s["connector"] * 1e3),
        "products_ms": median(lambda times_s: times_s["products"] * 1e3),
        "beside_ms": median(lambda times_s: times_s["beside"] * 1e3),
        "ratio": median(lambda times_s: times_s["connector"] / times_s["products"]),
        "beside": median(lambda times_s: times_s["beside"] / times_s["products"]),
    }


def _cpu_s(run: Callable[[], object]) -> float:
    started_s = time.process_time()
    run()
    return time.process_time() - started_s
