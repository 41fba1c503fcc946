"""What surrounds a TensorRT engine: what this machine is said to have, options, keys, and the
versions' differences.

The `tensorrt` wheels do not install everywhere; where its API differs, a small stand-in for a few
calls shows that the difference is met, beside the real builds of TensorRT-RTX (test_tensorrt.py)
that share the rest of the code.
"""

import re
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from test.log_lines import LogLines
from vit_perception.config.backends import ENGINE_FILE_BACKENDS
from vit_perception.engines.cache.store import digest_of
from vit_perception.engines.cuda import gpus
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import (
    api as tensorrt_api,
)
from vit_perception.engines.tensorrt import (
    engine as tensorrt_engine,
)
from vit_perception.engines.tensorrt.api import Gpu
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import engine_key, kernels_file
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.engines.tensorrt.load import EngineFileRefused, load_engine
from vit_perception.engines.verified import open_verified

ADA = BuildOptions("tensorrt_rtx", ("8.9",))
GPU = Gpu("NVIDIA Some", "8.9", 128, 24)
needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
no_gpu = pytest.mark.skipif(
    not tensorrt_api.driver_fault(), reason="this machine has an NVIDIA GPU"
)


def test_the_key_changes_with_all_that_the_engine_depends_on(source):
    def key(
        source=source,
        precision="float16",
        attention="half",
        options=BuildOptions("tensorrt"),
        version="10.3.0",
        gpu=GPU,
    ):
        return digest_of(engine_key(source, precision, attention, options, version, gpu))

    keys = [
        key(),
        key(precision="bfloat16"),
        key(attention="float32"),
        key(version="10.13.2"),
        key(gpu=replace(GPU, name="Orin")),
        key(gpu=replace(GPU, compute_capability="8.7")),
        key(gpu=replace(GPU, multiprocessors=16)),
        key(gpu=replace(GPU, l2_cache_kib=4096)),
        key(gpu=replace(GPU, integrated=True)),
        key(options=BuildOptions("tensorrt", workspace_bytes=1 << 20)),
        key(source=EngineSource(source.graph, 3)),
        key(options=BuildOptions("tensorrt_rtx", ("8.6",))),
        key(options=ADA),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == key(
        options=BuildOptions("tensorrt", timing_cache=source.folder / "t")
    )  # speed, not result
    assert key() == key(
        gpu=replace(GPU, memory_gib=8)
    )  # two modules of a Jetson family differ in it


def test_an_rtx_engine_is_found_by_every_gpu_of_its_compute_capability(source):
    """So that one built ahead, where there was no GPU, is found by the first start on one."""
    options = tensorrt_engine.options_for("tensorrt_rtx", "1.7.1", GPU, source)
    assert options == ADA
    keys = [
        engine_key(source, "float16", "half", ADA, "1.7.1", gpu)
        for gpu in (None, GPU, replace(GPU, name="Other"))
    ]
    assert keys[0] == keys[1] == keys[2]
    files = {
        kernels_file({"batch": 2}, gpu, source.folder) for gpu in (GPU, replace(GPU, name="Other"))
    }
    assert len(files) == 2  # but what is compiled at run time is each GPU's own


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BuildOptions("tensor"), "flavour is 'tensor'; accepted: tensorrt, tensorrt_rtx"),
        (lambda: BuildOptions("tensorrt_rtx"), "accepted: at least one compute capability"),
        (lambda: BuildOptions("tensorrt", ("8.9",)), "accepted: .*none for tensorrt"),
        (lambda: replace(ADA, batches=(1, 9, 8)), "batches are .* 1 <= least <= usual <= most"),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(EngineError, match=message):
        make()


@needs_rtx
@no_gpu
def test_status_without_a_gpu_says_so_and_what_can_be_built_here():
    status = TensorrtEngine("tensorrt_rtx").status()
    assert not status.found and status.version.startswith("1.") and status.name == "tensorrt_rtx"
    assert re.match(
        r"no CUDA device: .*engines for other machines can be built here, for .*8\.9",
        status.why_not,
    )


def test_status_without_the_package_says_which(monkeypatch):
    monkeypatch.setattr(tensorrt_api.util, "find_spec", lambda name: None)
    assert TensorrtEngine("tensorrt").status().why_not == "Python package tensorrt is not installed"
    assert (
        "tensorrt_rtx or tensorrt_rtx_bindings is not"
        in TensorrtEngine("tensorrt_rtx").status().why_not
    )


@needs_rtx
def test_a_gpu_that_rtx_does_not_build_for_is_named(monkeypatch):
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (Gpu("NVIDIA H200", "9.0", 132, 139), ""))
    status = TensorrtEngine("tensorrt_rtx").status()
    assert (
        not status.found
        and "compute capability 9.0 (NVIDIA H200) is not a target of tensorrt_rtx" in status.why_not
    )


def test_a_module_that_does_not_load_is_a_reason(monkeypatch):
    def broken(name):
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(tensorrt_api, "module_name", lambda flavour: "tensorrt")
    monkeypatch.setattr(tensorrt_api, "import_module", broken)
    assert "does not load: libcudart.so.13" in TensorrtEngine("tensorrt").status().why_not


@pytest.mark.parametrize(
    "compute_capability, expected",
    [
        ("7.5", ("float16", "float32")),
        ("8.7", ("float16", "bfloat16", "float32")),
        ("12.0", ("float16", "bfloat16", "float32")),
    ],
)
def test_precisions_by_compute_capability(compute_capability, expected):
    assert tensorrt_api.precisions_of(compute_capability) == expected


def test_a_version_without_the_flag_or_the_choice_of_targets_is_met():
    """A stand-in for the names of TensorRT 11 and 10.3, for their wheels are not to be had here."""
    eleven = SimpleNamespace(
        NetworkDefinitionCreationFlag=SimpleNamespace(), __name__="tensorrt", __version__="11.0"
    )
    assert tensorrt_api.strongly_typed(eleven) == 0 and tensorrt_api.targets_of(eleven) == {}
    assert (
        tensorrt_api.why_not_a_target("tensorrt", eleven, Gpu("NVIDIA H200", "9.0", 132, 139)) == ""
    )
    with pytest.raises(EngineError, match="accepted: none: it builds for the GPU of this machine"):
        tensorrt_api.set_targets(eleven, None, ("8.9",))


class TimingConfig:
    """The three calls of TensorRT 10's builder configuration about timings; RTX has them as empty
    shells.
    """

    def __init__(self, accepted):
        self.accepted, self.tried = accepted, []

    def create_timing_cache(self, content):
        return (
            content
            if content in (b"", *self.accepted)
            else (None if content == b"garbage" else content)
        )

    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        self.tried.append(cache)
        return cache in (b"", *self.accepted)


@pytest.mark.parametrize(
    "content, used", [(b"mine", b"mine"), (b"of another GPU", b""), (b"garbage", b""), (b"", b"")]
)
def test_timings_of_another_version_or_gpu_are_left_behind(content, used):
    config = TimingConfig([b"mine"])
    assert tensorrt_api.use_timing_cache(config, content) == used == config.tried[-1]


def test_one_logger_a_process_that_hands_over_each_error_once():
    api = SimpleNamespace(
        ILogger=type(
            "ILogger",
            (),
            {
                "Severity": SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3),
                "__init__": lambda self: None,
            },
        )
    )
    api = type("Api", (), {"ILogger": api.ILogger, "__version__": "10.3.0"})
    logger = tensorrt_api.logger_of(api)
    assert tensorrt_api.logger_of(api) is logger
    for severity, text in ((1, "first\n"), (3, "only information"), (0, "second"), (1, "first")):
        logger.log(severity, text)
    assert logger.take_errors() == "first; second"
    assert logger.take_errors() == "it gave no reason"
    lines = LogLines()
    for severity, text in ((2, "slow\n"), (3, "only information"), (2, "slow")):
        logger.log(severity, text)
    for _ in range(2):
        tensorrt_api.report_warnings(api, lines)
    assert lines.warnings == lines == ["Api 10.3.0: slow"]  # regression: warnings were dropped


@pytest.mark.parametrize(
    "error, expected",
    [
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "is not installed"),
        (
            ModuleNotFoundError("No module named 'sympy'", name="sympy"),
            "does not load: No module named 'sympy'",
        ),
        (
            ImportError("libcudss.so.0: cannot open shared object file"),
            "does not load: libcudss.so.0: cannot open",
        ),
    ],
)
def test_torch_that_does_not_load_is_not_called_missing(monkeypatch, error, expected):
    """Regression: whatever torch lacked, it was said that torch is not installed."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise error

    monkeypatch.setattr(gpus, "driver_fault", lambda: "")
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    gpu, why_not = gpus.find_gpu()
    assert (
        gpu is None
        and why_not.startswith("torch, which holds the buffers on the GPU, ")
        and expected in why_not
    )


@pytest.mark.parametrize(
    "said, refused",
    [
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
            "stdVersionRead == "
            "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, "
            "Serialized Engine Version: "
            "236)",
            True,
        ),
        (
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this "
            "version of TensorRT, expecting "
            "library version 10.3.0.26 got 10.13.3.9, please rebuild.)",
            True,
        ),
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.7 "
            "got compute 8.9, please "
            "rebuild.",
            True,
        ),
        (
            "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG "
            "failed.Magic tag does not match)",
            True,
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory (Requested size was "
            "176160768 bytes.)",
            False,
        ),
        ("Error Code 1: Cuda Runtime (an illegal memory access was encountered)", False),
        ("CUDA initialization failure with error: 35", False),
        ("", False),
    ],
)
def test_only_what_is_said_of_the_file_is_the_files_fault(said, refused):
    """Texts of TensorRT 10 and RTX 1.7: an engine is built again for those of the first kind
    alone.
    """

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, content):
            if said:
                self.logger.log(1, said)

    severities = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
    logger_type = type("ILogger", (), {"Severity": severities, "__init__": lambda self: None})
    api = type("Api", (), {"ILogger": logger_type, "Runtime": Runtime, "__version__": "10.3.0"})
    with pytest.raises(EngineError, match="cannot load the engine: ") as caught:
        load_engine(api, b"plan")
    assert isinstance(caught.value, EngineFileRefused) == refused


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("flavour", ENGINE_FILE_BACKENDS)
def test_on_a_gpu_it_passes_the_gate_from_any_thread_and_again_from_the_cache(
    source, pictures, flavour, precision
):
    status = TensorrtEngine(flavour).status()
    if not status.found or precision not in status.precisions:
        pytest.skip(f"{flavour} {precision}: {status.why_not or 'not on ' + status.device}")
    spec = EngineSpec(2, (64, 64), precision)
    outputs = []
    for _ in range(2):
        engine, report, _ = open_verified(TensorrtEngine(flavour), source, spec, pictures)
        assert engine.precision == precision and report.finite
        first = engine.infer(pictures[:2]).cls_token.copy()
        other = engine.infer(pictures[2:]).cls_token.copy()
        assert not np.allclose(first, other)
        thread = threading.Thread(
            target=lambda: outputs.append(engine.infer(pictures[:2]).cls_token.copy())
        )
        thread.start()
        thread.join(30)
        np.testing.assert_array_equal(outputs[-1], first)
        engine.close()
    np.testing.assert_array_equal(outputs[0], outputs[1])
    kept = list(engine.file.parent.parent.glob(f"{engine.file.parent.name}.*.kernels"))
    assert len(kept) == (flavour == "tensorrt_rtx")
