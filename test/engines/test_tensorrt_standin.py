"""TensorRT's path from build to close, with a stand-in for NVIDIA's module (test/engines/standin_tensorrt).

On a CPU all but the CUDA graph is real: export, build, cache, load, buffers, runs on raw addresses, the parity gate and
the choice of the engine. On a GPU the same tests also capture and replay.
"""

import pytest

from test.engines import standin_tensorrt
from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.select import open_verified
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt_engine import TensorrtEngine

HALF = EngineSpec(2, (64, 64), "float16")


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def flavour(request):
    return request.param


@pytest.fixture
def standin(monkeypatch, flavour):
    return standin_tensorrt.install(monkeypatch, flavour)


@pytest.fixture
def fresh(source, tmp_path):
    """The tiny model with an empty cache; ``lines`` is its log."""
    lines = []
    made = EngineSource(source.graph, 2, lines.append, tmp_path)
    object.__setattr__(made, "lines", lines)
    return made


def test_an_engine_is_built_saved_loaded_run_and_passes_the_gate(standin, flavour, fresh, pictures):
    engine, report = open_verified(TensorrtEngine(flavour), fresh, HALF, pictures)
    assert report.finite and engine.precision == "float16" and engine.runtime == f"{flavour} 10.13.0+standin"
    assert engine.file.read_bytes().startswith(b"STAND-IN for TensorRT")
    engine.close()
