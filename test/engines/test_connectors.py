"""Towers with each connector, exported: the ONNX file is valid and gives the tokens behind it, in
ONNX Runtime and in OpenVINO, and TensorRT-RTX builds an engine of it.
"""

from typing import NamedTuple

import numpy as np
import onnx
import pytest

from test.checkpoints.huggingface.models import randomised, saved
from test.checkpoints.language_models import test_internvl, test_qwen
from test.checkpoints.policies import test_evo1
from test.checkpoints.policies.policy_folders import write_openvla, write_pi0, write_smolvla
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.building.build import with_network_size
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.onnx_export import export_onnx
from vit_perception.engines.openvino.core import core
from vit_perception.engines.reference import graph_of, reference_outputs
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, build_engine
from vit_perception.files.log import SILENT
from vit_perception.wire.records import EncoderOutput

BATCH = 2
LIMIT = 1e-4


def qwen(case, size_px=(48, 80)):
    """At a grid that is not square, so that windows do not divide it."""

    def write(folder):
        saved(randomised(*test_qwen.CASES[case]), folder, preprocessor=test_qwen.PUBLISHED)
        return size_px

    return write


def internvl(folder):
    model = randomised(*test_internvl.CASES["whole"])
    saved(model, folder, preprocessor=test_internvl.PUBLISHED)


WRITERS = {
    "pi0": write_pi0,
    "smolvla": write_smolvla,
    "openvla": write_openvla,
    "evo1": test_evo1.write_policy,
    "internvl": internvl,
    "qwen2_5_vl": qwen("2.5"),
    "qwen3_vl": qwen("3"),
}


class Case(NamedTuple):
    """A graph with its float32 ONNX file, and what torch gives for ``images``."""

    graph: EncoderGraph
    onnx_path: str
    images: np.ndarray
    wanted: EncoderOutput


@pytest.fixture(scope="module", params=WRITERS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    given = WRITERS[request.param](folder)
    loaded = load_checkpoint(str(folder))
    if isinstance(given, tuple):
        loaded = with_network_size(loaded, given)
    graph = graph_of(loaded)
    path = folder / "model.onnx"
    export_onnx(graph, BATCH, path)
    shape = (BATCH, 3, *graph.network_size_px)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Case(graph, str(path), images, reference_outputs(graph, images))


def check(case, found):
    """``found`` are the arrays in the order of the graph's outputs."""
    spec = case.graph.connector.spec
    rows, columns = spec.grid_of(case.graph.grid)
    assert case.wanted.patch_tokens.shape == (BATCH, rows * columns, spec.width)
    assert case.wanted.patch_tokens.std(axis=1).mean() > 0.01
    for name, array in zip(case.graph.output_names, found, strict=True):
        assert np.abs(array - getattr(case.wanted, name)).max() <= LIMIT * spec.scale, name


def test_the_file_is_valid_and_onnxruntime_gives_the_tokens(case):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx.checker.check_model(case.onnx_path, full_check=True)
    session = onnxruntime.InferenceSession(case.onnx_path, providers=["CPUExecutionProvider"])
    check(case, session.run(None, {"images": case.images}))


def test_openvino_gives_the_tokens(case):
    pytest.importorskip("openvino", reason="openvino is not installed")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core().compile_model(case.onnx_path, "CPU", options)
    check(case, list(model(case.images).values()))


@pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
def test_tensorrt_rtx_builds_an_engine(case, tmp_path):
    """Built, not run: that needs a GPU."""
    export_onnx(case.graph, BATCH, tmp_path / "model.onnx", "float16")
    engine = build_engine(tmp_path / "model.onnx", BuildOptions("tensorrt_rtx", ("8.9",)), SILENT)
    assert len(bytes(engine)) > 10_000
