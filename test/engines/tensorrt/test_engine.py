"""TensorRT-RTX for real, as far as a machine without a GPU goes: parsing, building, the cache, and
what is refused.
"""

import re
import threading
from dataclasses import replace

import onnx
import pytest

from test.log_lines import LogLines
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import (
    api as tensorrt_api,
)
from vit_perception.engines.tensorrt import (
    build as tensorrt_build,
)
from vit_perception.engines.tensorrt import (
    engine as tensorrt_engine,
)
from vit_perception.engines.tensorrt.api import Gpu
from vit_perception.engines.tensorrt.buffers import TensorFacts, buffer_table
from vit_perception.engines.tensorrt.build import BuildOptions, build_engine
from vit_perception.engines.tensorrt.cached import cached_engine
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.engines.tensorrt.load import load_engine
from vit_perception.files.log import SILENT

ADA = BuildOptions("tensorrt_rtx", ("8.9",))
GPU = Gpu("NVIDIA Some", "8.9", 128, 24)
needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
# A GPU would make these other tests: of what runs.
no_gpu = pytest.mark.skipif(
    not tensorrt_api.driver_fault(), reason="this machine has an NVIDIA GPU"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def rtx_source(source, folder):
    """The tiny model, its ONNX files and engines in a folder of this module; ``lines`` is its
    log.
    """
    lines = LogLines()
    made = EngineSource(source.graph, 2, lines, folder)
    object.__setattr__(made, "lines", lines)
    return made


@pytest.fixture(scope="module")
def file(rtx_source):
    return rtx_source.onnx_file("float16").path


@needs_rtx
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("target", ["8.6", "8.9"])
def test_an_engine_is_built_for_a_gpu_that_is_not_here(rtx_source, precision, target):
    lines = LogLines()
    content = build_engine(
        rtx_source.onnx_file(precision).path, BuildOptions("tensorrt_rtx", (target,)), lines
    )
    assert len(content) > 100_000  # the weights alone are that much
    assert re.search(rf"compute capability {target}: done in [\d.]+ s, [\d.]+ MB", lines[-1])


@needs_rtx
def test_the_forms_of_attention_are_those_of_the_exporter():
    from vit_perception.model.layers import ATTENTION_FORMS

    assert tensorrt_engine.ATTENTION_FORMS == ATTENTION_FORMS
    engine, spec = TensorrtEngine("tensorrt_rtx"), EngineSpec(2, (64, 64), "float16")
    assert [attempt.attention for attempt in engine.attempts(spec)] == list(ATTENTION_FORMS)
    assert [str(attempt) for attempt in engine.attempts(spec)][:2] == [
        "float16",
        "float16 with attention float32_softmax",
    ]
    assert engine.attempts(replace(spec, precision="float32")) == (
        replace(spec, precision="float32"),
    )


@needs_rtx
def test_a_second_call_hits_the_cache_and_another_key_does_not(rtx_source):
    first, was_cached = cached_engine(rtx_source, "float16", "half", ADA, None)
    assert not was_cached and first.stat().st_size > 100_000
    told = len(rtx_source.lines)
    assert cached_engine(rtx_source, "float16", "half", ADA, None) == (first, True)
    assert len(rtx_source.lines) == told
    other, was_cached = cached_engine(
        rtx_source, "float16", "half", BuildOptions("tensorrt_rtx", ("8.6",)), None
    )
    assert other != first and not was_cached


@needs_rtx
@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-100],
        lambda content: b"x" + content[1:],
        lambda content: content[:5000] + bytes([content[5000] ^ 4]) + content[5001:],
    ],
    ids=["truncated", "first byte", "one bit"],
)
def test_a_damaged_engine_is_built_again_with_a_warning(rtx_source, harm):
    path, _ = cached_engine(rtx_source, "float16", "half", ADA, None)
    size = path.stat().st_size
    path.write_bytes(harm(path.read_bytes()))
    told = len(rtx_source.lines)
    again, was_cached = cached_engine(rtx_source, "float16", "half", ADA, None)
    assert again == path and not was_cached and path.stat().st_size == size
    assert (
        "damaged (model.engine does not have its checksum); building it again"
        in rtx_source.lines[told]
    )


def unknown_operator(file, folder):
    model = onnx.load(file)
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.domain, node.name = "Sofdmax", "somewhere", "blocks.1.softmax"
    model.opset_import.append(onnx.helper.make_opsetid("somewhere", 1))
    path = folder / "unknown.onnx"
    onnx.save(model, path)
    return path


@needs_rtx
def test_a_file_that_does_not_parse_names_the_node(file, tmp_path):
    path = unknown_operator(file, tmp_path)
    with pytest.raises(
        EngineError, match=r"cannot parse .*unknown.onnx: node blocks.1.softmax \(Sofdmax\): .+"
    ):
        build_engine(path, ADA, SILENT)


@needs_rtx
@pytest.mark.parametrize("content", [b"", b"this is no protobuf"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(EngineError, match="tensorrt_rtx 1.* finds no model in .*model.onnx: .+"):
        build_engine(tmp_path / "model.onnx", ADA, SILENT)


@needs_rtx
def test_a_file_without_its_weights_is_refused(file, tmp_path):
    (tmp_path / "model.onnx").write_bytes(file.read_bytes())
    with pytest.raises(EngineError, match="cannot parse .*model.onnx"):
        build_engine(tmp_path / "model.onnx", ADA, SILENT)


@needs_rtx
def test_a_target_that_rtx_lacks_is_refused_with_what_it_has(file):
    with pytest.raises(
        EngineError,
        match=r"compute capability 9.0 is not a target of .*accepted: 7.5, 8.0, 8.6, 8.9",
    ):
        build_engine(file, BuildOptions("tensorrt_rtx", ("9.0",)), SILENT)


@needs_rtx
def test_a_target_that_cannot_run_the_precision_fails_with_the_compilers_words(rtx_source):
    with pytest.raises(EngineError, match="compute capability 7.5 fails: .*sm75"):
        build_engine(
            rtx_source.onnx_file("bfloat16").path, BuildOptions("tensorrt_rtx", ("7.5",)), SILENT
        )


@needs_rtx
def test_an_open_batch_builds_with_a_profile_and_only_with_one(source, file, folder):
    dynamic = EngineSource(source.graph, None, folder=folder).onnx_file("float16").path
    assert len(build_engine(dynamic, replace(ADA, batches=(1, 3, 8)), SILENT)) > 100_000
    with pytest.raises(EngineError, match=r"input is \(-1, 3, 64, 64\) and batches are None"):
        build_engine(dynamic, ADA, SILENT)
    with pytest.raises(EngineError, match=r"input is \(2, 3, 64, 64\) and batches are \(1, 3, 8\)"):
        build_engine(file, replace(ADA, batches=(1, 3, 8)), SILENT)


@needs_rtx
def test_the_real_progress_monitor_reports_the_build(file, monkeypatch):
    reports, real = LogLines(), tensorrt_build.BuildProgress
    monkeypatch.setattr(
        tensorrt_build,
        "BuildProgress",
        lambda what, log: real(what, log, period_s=0.0),
    )
    build_engine(file, ADA, reports)
    bars = [fraction for _, fraction in reports.steps]
    percents = [
        int(match[1]) for match in (re.search(r": (\d+)% after", line) for line in reports) if match
    ]
    assert len(percents) > 3 and percents == sorted(percents)
    assert len({re.search(r"\((.+)\)", line)[1] for line in reports[:-1]}) > 2  # names of phases
    assert len(bars) > 3 and bars == sorted(bars) and bars[-1] == 1.0


@needs_rtx
def test_a_listener_that_raises_ends_the_build(file):
    """Regression: a node that was shut down built to the end, for minutes."""

    class Stop(LogLines):
        def progress(self, what, fraction, text=""):
            if fraction > 0.1:
                raise RuntimeError("the node was shut down")

    lines = Stop()
    with pytest.raises(RuntimeError, match="the node was shut down"):
        build_engine(file, ADA, lines)
    assert not any("done in" in line for line in lines)


@needs_rtx
def test_the_buffers_of_a_parsed_network(file):
    """A network has the same names, types and shapes as the engine made of it, and can be asked
    without a GPU.
    """
    api = tensorrt_api.load_api("tensorrt_rtx")
    logger = tensorrt_api.logger_of(api)
    builder = api.Builder(logger)
    network = builder.create_network(tensorrt_api.strongly_typed(api))
    assert api.OnnxParser(network, logger).parse_from_file(str(file))
    ends = [(network.get_input(0), True)] + [
        (network.get_output(i), False) for i in range(network.num_outputs)
    ]
    facts = [TensorFacts(t.name, is_input, t.dtype.name, tuple(t.shape)) for t, is_input in ends]
    table = buffer_table(facts, EngineSpec(2, (64, 64), "float16"))
    assert {slot.name: slot.shape for slot in table.outputs} == {
        "cls_token": (2, 32),
        "patch_tokens": (2, 64, 32),
        "cls_attention": (2, 4, 64),
    }
    assert api.TensorIOMode.INPUT.name == "INPUT"


@needs_rtx
@no_gpu
def test_without_a_gpu_an_engine_does_not_load_and_the_runtime_says_why(rtx_source):
    path, _ = cached_engine(rtx_source, "float16", "half", ADA, None)
    with pytest.raises(EngineError, match="cannot load the engine: .*cudaError"):
        load_engine(tensorrt_api.load_api("tensorrt_rtx"), path.read_bytes())


@needs_rtx
@no_gpu
def test_an_engine_stays_where_the_runtime_fails_for_another_reason(rtx_source, monkeypatch):
    """Regression: a CUDA error on loading deleted the cached engine and built it again, which takes
    more memory.

    The failure is the real runtime's: without a GPU it loads no engine. Only the look for a GPU is
    replaced.
    """
    engine = TensorrtEngine("tensorrt_rtx")
    path, _ = cached_engine(rtx_source, "float16", "half", ADA, None)
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    assert engine.status().found and engine.status().precisions == (
        "float16",
        "bfloat16",
        "float32",
    )
    before, told = path.stat().st_mtime_ns, len(rtx_source.lines)
    with pytest.raises(EngineError, match="cannot load the engine: .*cudaError"):
        engine.open(rtx_source, EngineSpec(2, (64, 64), "float16"))
    assert path.stat().st_mtime_ns == before
    assert not any("building it again" in line for line in rtx_source.lines[told:])
    engine.close()
    with pytest.raises(EngineError, match="not open"):
        engine.infer(None)


@needs_rtx
def test_threads_of_one_process_may_build_at_once(file):
    sizes = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(build_engine(file, ADA, SILENT))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(sizes) == 2 and sizes[0] == sizes[1]
