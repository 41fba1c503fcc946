"""GELUs that OpenVINO does not fuse to the layer before: which, with what result, in which engine.

A layer with a fused GELU ran in another kernel than a bare one, and OpenVLA's connector took 8 %
longer than its products for that.
"""

import platform

import numpy as np
import pytest

from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.openvino.core import core
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.openvino.gelu import separate_gelus
from vit_perception.engines.parity_gate import run_batches

openvino = pytest.importorskip("openvino", reason="openvino is not installed")
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")
ON_X86 = platform.machine() in ("x86_64", "AMD64")


def last_nodes(model) -> set[str]:
    """The names of the nodes that end a GELU: three after its erf."""
    ends = set()
    for node in model.get_ops():
        if node.get_type_name() == "Erf":
            for _ in range(3):
                (taken,) = node.output(0).get_target_inputs()
                node = taken.get_node()
            ends.add(node.get_friendly_name())
    return ends


def fused_gelus(engine: OpenvinoEngine, names: set[str]) -> int:
    """How many linear layers of an open engine have one of ``names`` fused to them."""
    running = engine._request.get_compiled_model().get_runtime_model()
    layers = [operation.get_rt_info() for operation in running.get_ops()]
    return sum(
        bool(names & set(info["originalLayersNames"].astype(str).split(",")))
        for info in layers
        if info["layerType"].astype(str) == "FullyConnected"
    )


@pytest.fixture
def opened(source):
    engine = OpenvinoEngine()
    engine.open(source, SPEC)
    yield engine
    engine.close()


@pytest.mark.skipif(not ON_X86, reason="the change is for x86")
def test_an_engine_in_float32_has_no_fused_gelu(opened, source, monkeypatch):
    names = last_nodes(core().read_model(source.onnx_file().path))
    assert len(names) == source.graph.model.config.depth
    assert fused_gelus(opened, names) == 0
    # Without the change they are fused, so the figure above says something.
    monkeypatch.setattr("vit_perception.engines.openvino.engine.separate_gelus", lambda model: 0)
    fused = OpenvinoEngine()
    fused.open(source, SPEC)
    assert fused_gelus(fused, names) == len(names)
    fused.close()


def test_each_gelu_is_changed_once_and_gives_the_same(opened, source, pictures):
    wanted = source.reference(pictures)
    found = run_batches(opened.infer, pictures, 2)
    np.testing.assert_allclose(found.patch_tokens, wanted.patch_tokens, rtol=0, atol=1e-5)
    model = core().read_model(source.onnx_file().path)
    assert separate_gelus(model) == source.graph.model.config.depth
    assert separate_gelus(model) == 0


def gelu_like(inner="erf", added=1.0, shared=False):
    """A model with x · (½ · (inner(x) + added)); ``shared``: the inner function is given, too."""
    from openvino import opset8 as operations

    x = operations.parameter([2, 5], np.float32)
    function = getattr(operations, inner)(x)
    half = operations.multiply(operations.add(function, np.float32(added)), np.float32(0.5))
    outputs = [operations.multiply(x, half)] + ([function] if shared else [])
    return openvino.Model(outputs, [x])


@pytest.mark.parametrize(
    "fields, changed",
    [({}, 1), ({"inner": "tanh"}, 0), ({"added": 2.0}, 0), ({"shared": True}, 0)],
    ids=["exact", "tanh", "another constant", "erf is taken elsewhere"],
)
def test_only_an_exact_gelu_is_changed(fields, changed):
    x = np.linspace(-4, 4, 10, dtype=np.float32).reshape(2, 5)

    def result(model):
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        return core().compile_model(model, "CPU", options)(x)[0]

    model = gelu_like(**fields)
    wanted = result(model)
    assert separate_gelus(model) == changed
    np.testing.assert_allclose(result(model), wanted, rtol=0, atol=1e-6)
