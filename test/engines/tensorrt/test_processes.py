"""Builders as processes of their own: killed midway, and two at once. Real builds of
TensorRT-RTX.
"""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from test.conftest import ROOT
from test.engines.building.test_child import lives
from test.log_lines import LogLines
from test.waiting import PROGRAM_S, wait_until
from vit_perception.engines.engine import EngineError
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt import build as tensorrt_build
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import ENGINE_NAME, cached_engine
from vit_perception.files.log import SILENT, SilentLog

ADA = BuildOptions("tensorrt_rtx", ("8.9",))
needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    return (
        EngineSource(source.graph, 2, folder=tmp_path_factory.mktemp("engines"))
        .onnx_file("float16")
        .path
    )


# A builder as a process of its own: argv is the folder, and "stuck" or how long it pauses once it
# has built, in s.
BUILDER = """
import sys, time
from pathlib import Path
from test.engines.tensorrt.test_processes import stuck_build, tiny_source
from vit_perception.engines.tensorrt import build as tensorrt_build
from vit_perception.engines.tensorrt.cached import cached_engine
from vit_perception.files.log import PrintedLog
folder, how = Path(sys.argv[1]), sys.argv[2]
class Tell(PrintedLog):
    def info(self, text):
        super().info(text)
        if ": done in " in text:
            time.sleep(float(how))
if how == "stuck":
    tensorrt_build._build = stuck_build
print(cached_engine(tiny_source(folder, Tell()), "float16", "half",
                                   tensorrt_build.BuildOptions("tensorrt_rtx", ("8.9",)), None)[1], flush=True)
"""  # noqa: E501


def stuck_build(onnx_path, options, path, device, log):
    """In the child: half an engine is written, and nothing more comes."""
    path.write_bytes(b"half an engine")
    log.info(f"stuck {os.getpid()}")
    time.sleep(PROGRAM_S)


def tiny_source(folder, log):
    """The tiny model in another process, from the same seed: its ONNX file is found, not exported
    again.
    """
    import torch

    from vit_perception.engines.encoder_graph import EncoderGraph
    from vit_perception.model.variants import VARIANTS
    from vit_perception.model.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    graph = EncoderGraph(
        VisionTransformer(VARIANTS["test"]).eval(),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        (64, 64),
    )
    return EngineSource(graph, 2, log, folder)


def start_builder(folder, how):
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder), str(how)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def fresh(file, tmp_path):
    """A cache folder that holds the ONNX file and no engine."""
    entry = file.parent
    (tmp_path / entry.name).mkdir()
    for path in entry.iterdir():
        (tmp_path / entry.name / path.name).write_bytes(path.read_bytes())
    return tmp_path


def engines_in(folder):
    return [path for path in folder.glob("*/" + ENGINE_NAME) if path.parent.suffix != ".unfinished"]


@needs_rtx
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_builder_that_is_killed_leaves_no_entry_and_no_process_and_the_next_one_builds(
    fresh, sent
):
    process = start_builder(fresh, "stuck")
    while not (line := process.stdout.readline()).startswith("stuck ") and line:
        pass
    child = int(line.split()[1])
    os.kill(process.pid, sent)
    process.communicate(timeout=PROGRAM_S)
    assert engines_in(fresh) == []
    assert bool(list(fresh.glob("*.unfinished"))) == (
        sent == signal.SIGKILL
    )  # which the next one clears away
    wait_until(lambda: not lives(child), "the end of what it had started")
    assert cached_engine(tiny_source(fresh, SILENT), "float16", "half", ADA, None)[1] is False
    assert len(engines_in(fresh)) == 1 and not list(fresh.glob("*.unfinished"))


@needs_rtx
def test_a_build_that_linux_kills_is_told_and_leaves_no_entry_and_the_next_one_builds(
    fresh, monkeypatch
):
    """As where memory runs out: the child alone is killed, and this process goes on."""

    class Kill(SilentLog):
        def info(self, text):
            if text.startswith("stuck "):
                os.kill(int(text.split()[1]), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_build, "_build", stuck_build)
        with pytest.raises(
            EngineError,
            match="building the tensorrt_rtx engine was ended by SIGKILL, .* had taken up "
            r"to \d\.\d\d GiB .*engine.file",
        ):
            cached_engine(tiny_source(fresh, Kill()), "float16", "half", ADA, None)
    assert not list(fresh.glob("*.unfinished")) and engines_in(fresh) == []
    assert cached_engine(tiny_source(fresh, SILENT), "float16", "half", ADA, None)[1] is False


@needs_rtx
def test_two_builders_at_once_build_once(fresh):
    processes = [start_builder(fresh, 1.0) for _ in range(2)]
    outputs = [process.communicate(timeout=PROGRAM_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted(": done in " in output for output in outputs) == [False, True], outputs
    assert sorted(output.splitlines()[-1] for output in outputs) == ["False", "True"]
    assert len(engines_in(fresh)) == 1


@needs_rtx
def test_a_build_says_how_far_it_is_and_what_it_took_through_its_process(fresh):
    lines = LogLines()
    cached_engine(tiny_source(fresh, lines), "float16", "half", ADA, None)
    fractions = [fraction for _, fraction in lines.steps]
    assert len(fractions) > 3 and fractions == sorted(fractions) and fractions[-1] == 1.0
    assert {what for what, _ in lines.steps} == {lines[-2].partition(": done in ")[0]}
    assert re.fullmatch(
        r"building the tensorrt_rtx engine in float16: done, in up to 0\.\d\d GiB of memory",
        lines[-1],
    )
