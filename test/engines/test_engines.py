"""What only one runtime does, on a CPU. What every engine promises is in test_every_engine.py."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import TorchEngine, read_cpu

SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def test_torch_uses_the_threads_of_the_spec_and_gives_them_back(source, pictures):
    import torch

    before = torch.get_num_threads()
    engine = TorchEngine("cpu")
    engine.open(source, replace(SPEC, threads=before + 1))
    engine.infer(pictures[:2])
    assert torch.get_num_threads() == before + 1
    engine.close()
    assert torch.get_num_threads() == before


def test_half_precision_leaves_the_reference_graph_alone(source):
    import torch

    engine = TorchEngine("cpu")
    if "bfloat16" not in engine.status().precisions:
        pytest.skip("this CPU has no bfloat16 instructions")
    engine.open(source, replace(SPEC, precision="bfloat16"))
    assert {p.dtype for p in source.graph.parameters()} == {torch.float32}


@needs_openvino
@pytest.mark.parametrize("precision, layer_type", [("float32", "f32"), ("bfloat16", "bf16")])
def test_openvino_runs_its_matrix_products_in_the_precision_that_is_reported(
    source, precision, layer_type
):
    """Regression: an option that lies. The compiled model's layers are asked, not the option that
    was set.
    """
    engine = OpenvinoEngine()
    if precision not in engine.status().precisions:
        pytest.skip(f"openvino has no {precision} on this CPU")
    engine.open(source, replace(SPEC, precision=precision))
    layers = engine._request.get_compiled_model().get_runtime_model().get_ops()
    products = [
        op.get_rt_info()
        for op in layers
        if op.get_rt_info()["layerType"].astype(str) == "FullyConnected"
    ]
    assert products
    assert {info["runtimePrecision"].astype(str) for info in products} == {layer_type}
    engine.close()


@needs_openvino
def test_openvino_fuses_attention(source):
    """Of 3 blocks' softmaxes only the CLS row's stays a layer of its own."""
    engine = OpenvinoEngine()
    engine.open(source, SPEC)
    layers = engine._request.get_compiled_model().get_runtime_model().get_ops()
    kinds = [op.get_rt_info()["layerType"].astype(str) for op in layers]
    assert kinds.count("Softmax") <= 1, kinds
    engine.close()


def test_read_cpu_of_x86_arm_and_nothing(tmp_path):
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx512_bf16\n\nmodel name\t: "
        "Other\n"
    )
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert read_cpu(x86) == ("Some CPU", frozenset({"fpu", "avx512_bf16"}))
    assert read_cpu(arm)[1] == frozenset({"fp", "asimd", "bf16"})
    assert read_cpu(Path(os.devnull))[1] == frozenset()


def test_a_gpu_that_was_lost_does_not_hide_why(loaded, monkeypatch):
    """Regression: after a fault every CUDA call fails, the one in close() too, and its error
    replaced the cause.

    The fault is simulated: no test can lose a GPU.
    """

    class Faulty(TorchEngine):
        def _open(self, source, spec):
            super()._open(source, spec)
            self._torch_device = torch.device("cuda")
            raise RuntimeError("an illegal memory access was encountered")

    def fail():
        raise RuntimeError("CUDA error in empty_cache")

    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    with pytest.raises(EngineError, match="illegal memory access"):
        Faulty("cpu").open(EngineSource(graph_of(loaded), 1), EngineSpec(1, (64, 64), "float32"))
