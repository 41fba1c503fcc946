"""TensorRT's path from build to close, with a stand-in for NVIDIA's module
(test/engines/standin_tensorrt).

On a CPU all but the CUDA graph is real: export, build, cache, load, buffers, runs on raw addresses,
the parity gate and the choice of the engine. On a GPU the same tests also capture and replay.
"""

import gc
import shutil
import threading
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from test.engines import standin_tensorrt
from test.log_lines import LogLines
from vit_perception.config.settings import EngineSettings
from vit_perception.engines import select
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt.build import BuildOptions, build_engine
from vit_perception.engines.tensorrt.cached import ENGINE_NAME
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.engines.verified import open_verified

HALF = EngineSpec(2, (64, 64), "float16")
SAYS = "10.13.0+standin: stand-in: "


@pytest.fixture
def flavour():
    """Which of the two modules is stood in for; a test for both says so."""
    return "tensorrt"


both = pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
rtx = pytest.mark.parametrize("flavour", ["tensorrt_rtx"])


@pytest.fixture
def standin(monkeypatch, flavour):
    return standin_tensorrt.install(monkeypatch, flavour)


@pytest.fixture
def fresh(source, tmp_path):
    """The tiny model and a cache that holds its ONNX file alone; ``lines`` is its log."""
    entry, lines = source.onnx_file("float16").path.parent, LogLines()
    shutil.copytree(entry, tmp_path / entry.name)
    made = EngineSource(source.graph, 2, lines, tmp_path)
    object.__setattr__(made, "lines", lines)
    return made


def opened(flavour, source):
    engine = TensorrtEngine(flavour)
    engine.open(source, HALF)
    return engine


def engines_in(folder):
    return list(folder.glob(f"*/{ENGINE_NAME}"))


def builds(source):
    return sum("engine for" in line and "done in" in line for line in source.lines)


@both
def test_an_engine_is_built_saved_loaded_run_and_closed(standin, flavour, fresh, pictures):
    outputs = []
    for start in range(2):
        engine, report, was_cached = open_verified(TensorrtEngine(flavour), fresh, HALF, pictures)
        assert (
            report.finite
            and engine.precision == "float16"
            and engine.runtime == f"{flavour} 10.13.0+standin"
        )
        assert was_cached == (start == 1)
        first = engine.infer(pictures[:2])
        kept = [
            array.copy() for array in (first.cls_token, first.patch_tokens, first.cls_attention)
        ]
        assert not np.allclose(engine.infer(pictures[2:]).cls_token, kept[0])
        thread = threading.Thread(target=lambda: outputs.append(engine.infer(pictures[:2])))
        thread.start()
        thread.join()
        context = weakref.ref(engine._context)
        engine.close()
        gc.collect()
        assert context() is None
        last = outputs[-1]  # what a caller holds outlives the engine
        for array, expected in zip(
            (last.cls_token, last.patch_tokens, last.cls_attention), kept, strict=True
        ):
            np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(outputs[0].cls_token, outputs[1].cls_token)
    assert builds(fresh) == 1 and engines_in(fresh.folder) == [engine.file]
    assert engine.file.read_bytes().startswith(b"STAND-IN for TensorRT")


@both
@pytest.mark.parametrize(
    "fault, message, file_stays",
    [
        ("builder_null", "cannot build here: stand-in: CUDA initialization failure", False),
        (
            "build_none",
            "building the .* fails: stand-in: .*Could not find any implementation",
            False,
        ),
        ("runtime_null", "does not start: stand-in: CUDA initialization failure", True),
        ("load_out_of_memory", "cannot load the engine: stand-in: .*OutOfMemory", True),
        ("context_none", "makes no execution context: stand-in: no memory", True),
        ("address_refused", "refuses the buffer of images: stand-in: ", True),
        ("enqueue_false", "does not run: stand-in: .*Cuda Runtime", True),
    ],
)
def test_a_failure_is_told_and_the_next_start_works(
    standin, flavour, fresh, fault, message, file_stays
):
    standin.tell(fault)
    with pytest.raises(EngineError, match=message):
        opened(flavour, fresh)
    left = engines_in(fresh.folder)
    assert len(left) == file_stays and not any("building it again" in line for line in fresh.lines)
    before = [path.stat().st_mtime_ns for path in left]
    standin.tell()
    engine = opened(flavour, fresh)
    engine.close()
    assert builds(fresh) == 1 and [path.stat().st_mtime_ns for path in left] == before


@both
@pytest.mark.parametrize(
    "fault, message",
    [
        ("runtime_null", "CUDA initialization failure"),
        ("load_out_of_memory", "OutOfMemory"),
        ("context_none", "no memory"),
    ],
)
def test_a_good_engine_stays_in_the_cache_where_it_cannot_be_loaded(
    standin, flavour, fresh, fault, message
):
    """Regression: it was deleted, and built anew, which takes even more memory."""
    opened(flavour, fresh).close()
    (file,) = engines_in(fresh.folder)
    before = file.stat()
    standin.tell(fault)
    with pytest.raises(EngineError, match=message):
        opened(flavour, fresh)
    standin.tell()
    opened(flavour, fresh).close()
    assert builds(fresh) == 1 and file.stat() == before


def test_a_run_that_fails_later_is_told_and_the_engine_closes(monkeypatch, fresh, pictures):
    """On the CPU: a CUDA graph that is replayed asks nothing of the runtime."""
    standin = standin_tensorrt.install(monkeypatch, device="cpu")
    engine = opened("tensorrt", fresh)
    engine.infer(pictures[:2])
    standin.tell("enqueue_false")
    with pytest.raises(EngineError, match="does not run: stand-in: .*Cuda Runtime"):
        engine.infer(pictures[:2])
    engine.close()
    with pytest.raises(EngineError, match="not open"):
        engine.infer(pictures[:2])


@both
def test_a_file_of_another_version_is_built_again_once(standin, flavour, fresh, pictures):
    standin.tell("old_version")
    with pytest.raises(EngineError, match="cannot load the engine: .*Version tag does not match"):
        opened(flavour, fresh)  # built now, so that another build would give the same
    assert builds(fresh) == 1
    standin.tell()
    engine = opened(flavour, fresh)
    assert engine.infer(pictures[:2]).cls_token.shape == (2, 32)
    engine.close()
    assert builds(fresh) == 2
    assert sum("Version tag" in line and "building it again" in line for line in fresh.lines) == 1


def test_a_file_that_is_refused_again_is_not_built_a_third_time(standin, fresh):
    standin.tell("old_version")
    for expected in (1, 2):
        with pytest.raises(EngineError, match="Version tag does not match"):
            opened("tensorrt", fresh)
        assert builds(fresh) == expected


@both
def test_an_error_that_the_parser_logs_although_it_succeeds_stops_nothing(standin, flavour, fresh):
    standin.tell("parser_logs_errors")
    opened(flavour, fresh).close()
    assert builds(fresh) == 1


@both
def test_warnings_of_the_runtime_reach_the_log(standin, flavour, fresh):
    """Regression: they were dropped."""
    standin.tell("load_warns")
    opened(flavour, fresh).close()
    assert fresh.lines.warnings.count(f"{flavour} {SAYS}a warning of the runtime") == 1


@pytest.mark.parametrize("fails", [False, True])
def test_warnings_of_the_builder_reach_the_log_also_where_it_fails(standin, fresh, fails):
    standin.tell("build_warns", *["build_none"][:fails])
    with pytest.raises(EngineError) if fails else nullcontext():
        build_engine(fresh.onnx_file("float16").path, BuildOptions("tensorrt"), fresh.lines)
    assert fresh.lines.warnings.count(f"tensorrt {SAYS}a warning of the builder") == 1


def test_timings_are_kept_for_the_next_build(standin, fresh):
    opened("tensorrt", fresh).close()
    (kept,) = fresh.folder.glob("*.timings")
    assert b"stand-in timings" in kept.read_bytes()


def test_a_timing_cache_that_gives_nothing_is_no_fault_of_the_build(standin, fresh, pictures):
    """Regression: bytes(None) failed a build that had succeeded."""
    standin.tell("timings_none")
    engine = opened("tensorrt", fresh)
    assert engine.infer(pictures[:2]).cls_token.shape == (2, 32)
    engine.close()
    assert builds(fresh) == 1 and not list(fresh.folder.glob("*.timings"))


@rtx
def test_the_runtime_configuration_lives_as_long_as_the_engine(
    monkeypatch, flavour, fresh, pictures
):
    """The context reads it, and its cache of kernels, at each run; on the CPU, where each frame is
    a run.
    """
    standin_tensorrt.install(monkeypatch, flavour, device="cpu")
    engine = opened(flavour, fresh)
    gc.collect()
    for _ in range(2):
        engine.infer(pictures[:2])
    engine._runtime_config = None  # what it would be without
    gc.collect()
    with pytest.raises(EngineError, match="the runtime configuration is gone"):
        engine.infer(pictures[:2])
    engine.close()


@rtx
@pytest.mark.parametrize(
    "fault, said",
    [
        ("", ""),
        ("kernels_refused", "another GPU's, driver's or version's; it compiles them again"),
        ("kernels_none", "does not give its kernels away"),
        ("no_kernel_cache", "refuses a runtime cache"),
    ],
)
def test_kernels_speed_a_start_up_and_are_never_a_reason_to_refuse(
    standin, flavour, fresh, fault, said
):
    opened(flavour, fresh).close()
    assert len(list(fresh.folder.glob("*.kernels"))) == 1
    told = len(fresh.lines)
    standin.tell(*filter(None, [fault]))
    opened(flavour, fresh).close()
    later = fresh.lines[told:]
    assert (
        any(said in line for line in later)
        if said
        else not any("kernels" in line for line in later)
    )


@both
def test_auto_takes_it_where_it_is_found(standin, flavour, loaded, fresh, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home_of(fresh)))
    found = open_engine(EngineSettings("auto", "float16"), loaded, 2)
    found.engine.close()
    assert (
        found.engine.name == flavour
        and [label for label, _ in found.tried] == ["tensorrt"][: flavour != "tensorrt"]
    )


def test_auto_goes_on_to_the_next_and_says_what_the_runtime_said(
    standin, loaded, fresh, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home_of(fresh)))
    monkeypatch.setattr(select, "BACKENDS", (select.BACKENDS[0], select.BACKENDS[-1]))
    standin.tell("load_out_of_memory")
    found = open_engine(EngineSettings(), loaded, 2)
    found.engine.close()
    assert found.engine.name == "torch" and any(
        "OutOfMemory" in why_not for _, why_not in found.tried
    )


def test_silently_wrong_half_attention_is_refused(standin, loaded, source, fresh, monkeypatch):
    """What NVIDIA/TensorRT#4723 and #4837 tell of: the gate sees it, and the next form of attention
    opens.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(home_of(fresh)))
    entry = source.onnx_file("float16", "float32_softmax").path.parent
    shutil.copytree(entry, cache_of(home_of(fresh)) / entry.name)
    standin.tell("half_attention_wrong")
    found = open_engine(EngineSettings("tensorrt", "float16"), loaded, 2)
    found.engine.close()
    assert found.spec.attention == "float32_softmax"
    ((label, why_not),) = found.tried
    assert label == "tensorrt float16" and "does not agree with the float32 model" in why_not


def cache_of(home):
    return home / "vit_perception" / "engines"


def home_of(source):
    """A folder of caches in which the engines' holds what the cache of ``source`` holds."""
    home = source.folder / "home"
    shutil.copytree(
        source.folder, cache_of(home), ignore=shutil.ignore_patterns("home"), dirs_exist_ok=True
    )
    return home


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@both
def test_on_a_gpu_a_frame_is_one_cuda_graph_that_follows_its_input(
    standin, flavour, fresh, pictures
):
    engine = opened(flavour, fresh)
    assert engine.note == "" and engine._replay.__self__.__class__ is torch.cuda.CUDAGraph
    expected = []
    for images in (pictures[:2], pictures[2:]):
        np.copyto(engine._images, images)
        with torch.cuda.stream(engine._stream):
            engine._enqueue(standin.api)
        engine._stream.synchronize()
        expected.append(engine._output.patch_tokens.copy())
    for _ in range(20):
        for images, tokens in zip((pictures[:2], pictures[2:]), expected):
            np.testing.assert_array_equal(engine.infer(images).patch_tokens, tokens)
    engine.close()
