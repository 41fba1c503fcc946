"""Builders as processes of their own: killed midway, and two at once. Real builds of TensorRT-RTX."""

import os
import signal
import subprocess
import sys

import pytest

from test.conftest import ROOT
from test.waiting import PROGRAM_S
from vit_perception.engines import tensorrt_api, tensorrt_build
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt_build import BuildOptions, cached_engine

ADA = BuildOptions("tensorrt_rtx", ("8.9",))
needs_rtx = pytest.mark.skipif(not tensorrt_api.module_name("tensorrt_rtx"),
                               reason="tensorrt-rtx-cu13-libs and -bindings are not installed")


def ignore(text):
    pass


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    return EngineSource(source.graph, 2, folder=tmp_path_factory.mktemp("engines")).onnx_file("float16")


BUILDER = """
import sys, time
from pathlib import Path
from test.engines.test_tensorrt_processes import tiny_source
from vit_perception.engines import tensorrt_build
folder, pause_s = Path(sys.argv[1]), float(sys.argv[2])
source = tiny_source(folder, lambda text: print(text, flush=True))
build = tensorrt_build.build_engine
def slowly(*arguments):
    content = build(*arguments)
    print("built", flush=True)
    time.sleep(pause_s)
    return content
tensorrt_build.build_engine = slowly
print(tensorrt_build.cached_engine(source, "float16", "half", tensorrt_build.BuildOptions("tensorrt_rtx", ("8.9",)),
                                   None)[1], flush=True)
"""


def tiny_source(folder, log):
    """The tiny model in another process, from the same seed: its ONNX file is found, not exported again."""
    import torch

    from vit_perception.model.encoder_graph import EncoderGraph
    from vit_perception.model.variants import VARIANTS
    from vit_perception.model.vision_transformer import VisionTransformer
    torch.manual_seed(0)
    graph = EncoderGraph(VisionTransformer(VARIANTS["test"]).eval(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
                         (64, 64))
    return EngineSource(graph, 2, log, folder)


def start_builder(folder, pause_s):
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(folder), str(pause_s)], stdout=subprocess.PIPE,
                            text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture
def fresh(file, tmp_path):
    """A cache folder that holds the ONNX file and no engine."""
    entry = file.parent
    (tmp_path / entry.name).mkdir()
    for path in entry.iterdir():
        (tmp_path / entry.name / path.name).write_bytes(path.read_bytes())
    return tmp_path


def engines_in(folder):
    return [path for path in folder.glob("*/" + tensorrt_build.ENGINE_NAME) if path.parent.suffix != ".unfinished"]


@needs_rtx
def test_a_builder_that_is_killed_leaves_no_entry_and_the_next_one_builds(fresh):
    process = start_builder(fresh, 60)
    while process.stdout.readline() not in ("built\n", ""):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PROGRAM_S)
    assert engines_in(fresh) == []
    assert cached_engine(tiny_source(fresh, ignore), "float16", "half", ADA, None)[1] is False
    assert len(engines_in(fresh)) == 1


@needs_rtx
def test_two_builders_at_once_build_once(fresh):
    processes = [start_builder(fresh, 1.0) for _ in range(2)]
    outputs = [process.communicate(timeout=PROGRAM_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted("built" in output.splitlines() for output in outputs) == [False, True], outputs
    assert sorted(output.splitlines()[-1] for output in outputs) == ["False", "True"]
    assert len(engines_in(fresh)) == 1
