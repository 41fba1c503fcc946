"""ONNX Runtime: what is its own. What every engine promises is in test_every_engine.py."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from test.conftest import ROOT
from test.waiting import PROGRAM_S
from vit_perception.config.backends import BACKENDS
from vit_perception.config.settings import EngineSettings
from vit_perception.engines import onnxruntime_engine
from vit_perception.engines.available import available_backends
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.onnxruntime_engine import OnnxruntimeEngine
from vit_perception.engines.select import open_engine

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")


def test_it_reports_the_provider_that_runs(source):
    engine = OnnxruntimeEngine()
    engine.open(source, SPEC)
    assert engine.runtime == f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider"
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    engine.close()


def test_threads_are_those_of_the_spec(source):
    engine = OnnxruntimeEngine()
    engine.open(source, replace(SPEC, threads=1))
    assert engine._session.get_session_options().intra_op_num_threads == 1
    engine.close()


@pytest.mark.parametrize(
    "provider, name", [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_this_build_lacks_is_an_error_that_says_what_it_has(loaded, provider, name):
    if name in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {name}")
    with pytest.raises(
        EngineError, match=f"no {name}, only .*CPUExecutionProvider; the package onnxruntime-gpu"
    ):
        open_engine(EngineSettings("onnxruntime", provider=provider), loaded, batch=1)


def test_a_fallback_to_the_cpu_is_refused(source, monkeypatch):
    """A provider that is built in and takes no layer of this model: ONNX Runtime itself would run
    it on the CPU.
    """
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider that is built in and cannot run the model")
    monkeypatch.setitem(onnxruntime_engine._PROVIDERS, "cuda", ("AzureExecutionProvider",))
    engine = OnnxruntimeEngine("cuda")
    with pytest.raises(
        EngineError, match="onnxruntime float32: .*fallback to CPU EP has been explicitly disabled"
    ):
        engine.open(source, SPEC)
    with pytest.raises(EngineError, match="not open"):
        engine.infer(np.zeros((2, 3, 64, 64), np.uint8))


def test_a_session_that_ends_up_on_another_provider_is_refused(source, monkeypatch):
    """ONNX Runtime's own fallback, when a GPU provider's libraries do not load, is a CPU session
    and a warning.
    """

    class FallsBack(onnxruntime.InferenceSession):
        def __init__(self, path, options, providers):
            super().__init__(path, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallsBack)
    with pytest.raises(
        EngineError, match="fell back to CPUExecutionProvider: CUDAExecutionProvider does not start"
    ):
        OnnxruntimeEngine("cuda").open(source, SPEC)


def test_auto_and_the_cpu_setting_never_try_the_gpu_providers():
    for settings in (EngineSettings(), EngineSettings("onnxruntime")):
        labels = [b.label for b in BACKENDS if b.allowed_by(settings.backend, settings.provider)]
        assert [label for label in labels if label.startswith("onnxruntime")] == ["onnxruntime"]
    named = [b.label for b in BACKENDS if b.allowed_by("onnxruntime", "cuda")]
    assert named == ["onnxruntime on CUDA"]
    order = [b.label for b in BACKENDS]
    assert order.index("openvino") < order.index("onnxruntime") < order.index("torch on the CPU")


def test_doctor_hears_why_a_provider_is_missing():
    status = {b.name: b for b in available_backends()}
    assert status["onnxruntime"].found and status["onnxruntime"].precisions == ("float32",)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "no CUDAExecutionProvider" in status["onnxruntime on CUDA"].why_not


def test_without_the_package_it_says_so():
    script = """
import sys
sys.modules["onnxruntime"] = None
from vit_perception.engines.onnxruntime_engine import OnnxruntimeEngine
status = OnnxruntimeEngine().status()
assert status.why_not == "Python package onnxruntime is not installed", status
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
