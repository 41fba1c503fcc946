"""The runtimes that run on a CPU, on the tiny model: what the base class promises, and that they
compute the model.
"""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.onnxruntime_engine import OnnxruntimeEngine
from vit_perception.engines.openvino_engine import OpenvinoEngine
from vit_perception.engines.parity_gate import ParityLimits, measure, run_batches
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import TorchEngine, read_cpu

SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")
needs_openvino, needs_onnxruntime, needs_nncf = (
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("openvino", "onnxruntime", "nncf")
)
ENGINES = [
    pytest.param(lambda: TorchEngine("cpu"), id="torch"),
    pytest.param(OpenvinoEngine, id="openvino", marks=[needs_openvino, needs_nncf]),
    pytest.param(OnnxruntimeEngine, id="onnxruntime", marks=needs_onnxruntime),
]


@pytest.fixture(params=ENGINES)
def make(request):
    return request.param


@pytest.fixture
def engine(make, source):
    engine = make()
    engine.open(source, SPEC)
    yield engine
    engine.close()


def test_it_computes_the_reference_model(engine, source, pictures):
    report = measure(run_batches(engine.infer, pictures, 2), source.reference(pictures))
    assert report.tokens_l2 < 1e-4 and report.attention_l2 < 1e-4 and report.finite, report
    assert (
        engine.precision == "float32" and engine.device and engine.runtime.split()[0] == engine.name
    )


def test_each_native_precision_passes_the_gate_and_is_what_is_reported(make, source, pictures):
    for precision in make().status().precisions:
        engine = make()
        engine.open(source, replace(SPEC, precision=precision))
        report = measure(run_batches(engine.infer, pictures, 2), source.reference(pictures))
        assert engine.precision == precision
        assert report.failures(ParityLimits.for_precision(precision)) == []
        engine.close()


def test_shapes_and_dtypes_of_the_outputs(engine, pictures):
    output = engine.infer(pictures[:2])
    assert output.cls_token.shape == (2, 32)
    assert output.patch_tokens.shape == (2, 64, 32)
    assert output.cls_attention.shape == (2, 4, 64)
    assert output.logits is None
    assert {a.dtype for a in (output.cls_token, output.patch_tokens, output.cls_attention)} == {
        np.dtype("float32")
    }


def test_the_input_may_be_overwritten_and_an_earlier_result_repeats(engine, pictures):
    images = pictures[:2].copy()
    first = engine.infer(images).cls_token.copy()
    images[:] = 0
    other = engine.infer(images).cls_token.copy()
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(engine.infer(pictures[:2]).cls_token, first)


@pytest.mark.parametrize(
    "images, message",
    [
        (
            np.zeros((1, 3, 64, 64), np.uint8),
            r"uint8 \(1, 3, 64, 64\); accepted: uint8 \(2, 3, 64, 64\)",
        ),
        (np.zeros((2, 3, 64, 64), np.float32), "images are float32"),
        (np.zeros((2, 64, 64, 3), np.uint8).transpose(0, 3, 1, 2), "C-contiguous"),
    ],
)
def test_a_wrong_input_is_refused(engine, images, message):
    with pytest.raises(EngineError, match=message):
        engine.infer(images)


def test_close_twice_then_infer_is_an_error_and_outputs_outlive_it(engine, pictures):
    output = engine.infer(pictures[:2])
    kept = output.patch_tokens.copy()
    engine.close()
    engine.close()
    np.testing.assert_array_equal(output.patch_tokens, kept)
    with pytest.raises(EngineError, match="not open"):
        engine.infer(pictures[:2])


def test_it_can_be_opened_again_after_close_but_not_while_open(engine, source, pictures):
    with pytest.raises(EngineError, match="open already"):
        engine.open(source, SPEC)
    engine.close()
    engine.open(source, SPEC)
    assert np.isfinite(engine.infer(pictures[:2]).cls_token).all()


def test_a_precision_that_the_device_lacks_is_refused_with_what_it_has(make, source):
    engine = make()
    missing = next(
        p for p in ("float16", "bfloat16", "int4") if p not in engine.status().precisions
    )
    with pytest.raises(EngineError, match=f"does not run '{missing}' on .*; accepted: .*float32"):
        engine.open(source, replace(SPEC, precision=missing))


def test_an_engine_that_fails_half_way_is_closed_and_says_why(make, pictures):
    class Broken:
        @property
        def graph(self):
            raise ValueError("weights are gone")

        def onnx_file(self, precision="float32"):
            raise ValueError("weights are gone")

    engine = make()
    with pytest.raises(EngineError, match="ValueError: weights are gone"):
        engine.open(Broken(), SPEC)
    with pytest.raises(EngineError, match="not open"):
        engine.infer(pictures[:2])


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
