"""Choosing an engine: the order, the reasons, and the gate that a wrong engine cannot pass."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from test.engines.rows import row
from test.log_lines import LogLines
from test.waiting import PROGRAM_S
from vit_perception.config.settings import EngineSettings
from vit_perception.engines import select
from vit_perception.engines.available import available_backends
from vit_perception.engines.engine import BackendStatus, Engine, EngineError, EngineSpec
from vit_perception.engines.reference import graph_of
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.engines.verified import open_verified
from vit_perception.wire.records import EncoderOutput

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")


class NoisyTorchEngine(TorchEngine):
    """torch with every weight moved by 5 % of its tensor's spread: a wrong engine that looks
    right.
    """

    def _open(self, source, spec):
        super()._open(source, spec)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self._graph.parameters():
                if parameter.numel() > 1:
                    parameter += (
                        0.05 * parameter.std() * torch.randn(parameter.shape, generator=generator)
                    )


class ChangedTorchEngine(TorchEngine):
    """torch whose outputs pass through ``change`` (arrays of one run -> arrays)."""

    def __init__(self, change):
        super().__init__("cpu")
        self._change = change

    def _run(self, images):
        output = super()._run(images)
        return EncoderOutput(
            *(
                self._change(a.copy())
                for a in (output.cls_token, output.patch_tokens, output.cls_attention)
            )
        )


class MissingEngine(Engine):
    """A runtime that this machine does not have."""

    name = "openvino"

    def status(self):
        return BackendStatus(self.name, False, why_not="Python package somewhere is not installed")

    def _open(self, source, spec):
        raise AssertionError("opened although it is not there")

    def _run(self, images):
        raise AssertionError("run although it is not there")

    def _close(self):
        pass


NOISY = row("noisy", "openvino", f"{__name__}:NoisyTorchEngine")
MISSING = row("missing", "openvino", f"{__name__}:MissingEngine", argument=None)
TORCH_CPU = select.BACKENDS[-1]


@pytest.fixture
def candidates(monkeypatch):
    """Replaces the table that `auto` walks."""
    return lambda *those: monkeypatch.setattr(select, "BACKENDS", those)


class CountedEngine(NoisyTorchEngine):
    """Says that it runs three precisions, and is right in float32; counts how often it is made."""

    made = 0

    def __init__(self, device):
        super().__init__(device)
        CountedEngine.made += 1

    def status(self):
        return replace(super().status(), precisions=("float16", "bfloat16", "float32"))

    def _open(self, source, spec):
        kind = TorchEngine if spec.precision == "float32" else NoisyTorchEngine
        kind._open(self, source, replace(spec, precision="float32"))
        self.precision = spec.precision


class BrokenEngine(TorchEngine):
    """A runtime that is there and breaks."""

    def _open(self, source, spec):
        raise KeyError("a name that this version has no more")


def test_what_breaks_is_a_warning_and_what_is_missing_is_not(loaded, monkeypatch):
    monkeypatch.setattr(
        select,
        "BACKENDS",
        (MISSING, row("broken", "torch", f"{__name__}:BrokenEngine"), TORCH_CPU),
    )
    lines = LogLines()
    opened = open_engine(EngineSettings(precision="float32"), loaded, 1, log=lines)
    opened.engine.close()
    missing, broken = (
        next(line for line in lines if f"{name} " in line and "not used" in line)
        for name in ("missing", "broken")
    )
    assert (
        missing.startswith("missing is not used")
        and broken in lines.warnings
        and missing not in lines.warnings
        and "KeyError" in broken
    )


def test_auto_opens_the_first_that_there_is_and_logs_the_figures(loaded):
    log = LogLines()
    opened = open_engine(EngineSettings(), loaded, batch=2, log=log)
    first = next(b for b in available_backends() if b.found)
    assert opened.engine.name in first.name and opened.engine.precision == first.precisions[0]
    assert opened.report.min_cosine > 0.999 and opened.report.pictures == 4
    assert "CLS cosine" in log[-1] and opened.engine.precision in log[-1]
    assert [label for label, _ in opened.tried] == [
        b.name for b in available_backends()[: len(opened.tried)]
    ]
    opened.engine.close()


@pytest.mark.parametrize("threads, leaves_a_core", [(0, False), (1, True), (3, True), (4, False)])
def test_an_engine_on_the_cpu_leaves_a_core_if_it_has_fewer_threads(
    loaded, monkeypatch, threads, leaves_a_core
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    opened = open_engine(EngineSettings("torch", "float32", threads=threads), loaded, 1)
    opened.engine.close()
    assert opened.leaves_a_core == leaves_a_core
    on_gpu = replace(opened.backend, device="gpu")
    assert replace(opened, backend=on_gpu).leaves_a_core


def test_auto_goes_past_a_missing_and_a_failing_backend_and_says_why(loaded, candidates):
    candidates(MISSING, NOISY, TORCH_CPU)
    log = LogLines()
    opened = open_engine(EngineSettings(precision="float32"), loaded, batch=1, log=log)
    assert opened.engine.name == "torch"
    (missing, no_package), (noisy, figures) = opened.tried
    assert (missing, noisy) == ("missing", "noisy float32")
    assert "not installed" in no_package and "CLS cosine 0." in figures
    assert any("noisy float32 is not used" in line for line in log)


def test_runtimes_that_are_not_here_are_one_line(loaded, candidates):
    others = [row(name, "openvino", f"{__name__}:MissingEngine", argument=None) for name in "ab"]
    candidates(MISSING, *others, TORCH_CPU)
    log = LogLines()
    opened = open_engine(EngineSettings(precision="float32"), loaded, batch=1, log=log)
    why = "Python package somewhere is not installed"
    assert f"not used: missing ({why}); a ({why}); b ({why})" in log
    assert len(opened.tried) == 3 and sum("not used" in line for line in log) == 1
    assert sum("CLS cosine" in line for line in log) == 1
    opened.engine.close()


def test_a_named_backend_that_is_missing_is_an_error_with_the_reason(loaded, candidates):
    candidates(MISSING, TORCH_CPU)
    with pytest.raises(
        EngineError, match="engine.backend 'openvino'.*missing: Python package somewhere is not"
    ):
        open_engine(EngineSettings("openvino"), loaded, batch=1)


def test_a_named_backend_that_fails_the_gate_is_an_error_with_the_figures(loaded, candidates):
    candidates(NOISY, TORCH_CPU)
    with pytest.raises(
        EngineError, match=r"CLS cosine 0\.\d+ is below 0\.999.*worst of 4 pictures"
    ):
        open_engine(EngineSettings("openvino", "float32"), loaded, batch=1)


def test_an_engine_is_made_once_for_all_that_is_tried_of_a_backend(loaded, candidates):
    CountedEngine.made = 0
    candidates(row("counted", "torch", f"{__name__}:CountedEngine"))
    opened = open_engine(EngineSettings(), loaded, batch=1)
    opened.engine.close()
    assert [label for label, _ in opened.tried] == ["counted float16", "counted bfloat16"]
    assert opened.spec.precision == opened.engine.precision == "float32"
    assert opened.was_cached is None and CountedEngine.made == 1


def test_whether_the_files_were_in_the_cache_is_returned(loaded, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = []
    for _ in range(2):
        opened = open_engine(EngineSettings("openvino", "float32"), loaded, batch=1)
        opened.engine.close()
        found.append(opened.was_cached)
    assert found == [False, True]


def test_a_stricter_min_cosine_is_held(loaded):
    with pytest.raises(EngineError, match="is below 1"):
        open_engine(
            EngineSettings("torch", "bfloat16", min_cosine=1.0), _with_bfloat16(loaded), batch=1
        )


def _with_bfloat16(loaded):
    if "bfloat16" not in TorchEngine("cpu").status().precisions:
        pytest.skip("this CPU has no bfloat16 instructions")
    return loaded


def test_a_named_precision_that_the_device_lacks_is_an_error_that_says_what_it_has(
    loaded, candidates
):
    candidates(TORCH_CPU)
    with pytest.raises(
        EngineError, match="torch does not run 'float16' on .*; accepted: .*float32"
    ):
        open_engine(EngineSettings("torch", "float16"), loaded, batch=1)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda a: a * 1.2, "relative L2 of the tokens"),
        (lambda a: a * np.nan, "NaN"),
        (lambda a: a[::-1], "CLS cosine"),
        (lambda a: np.concatenate([a[:1], a[:1]]), "CLS cosine"),
    ],
    ids=["scaled", "nan", "batch order swapped", "second slot shows the first"],
)
def test_the_gate_refuses_and_closes_a_wrong_engine(source, pictures, change, expected):
    engine = ChangedTorchEngine(change)
    with pytest.raises(EngineError, match=expected):
        open_verified(engine, source, SPEC, pictures)
    with pytest.raises(EngineError, match="not open"):
        engine.infer(pictures[:2])


def test_the_gate_refuses_an_engine_of_another_graph(loaded, source, pictures):
    """An engine built for other weights, as from a cache that mixed two models up."""
    other = copy.deepcopy(loaded.model)
    with torch.no_grad():
        for parameter in other.blocks[1].parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(5)
            )
    other_source = EngineSource(graph_of(replace(loaded, model=other)), 2)

    class OpensTheOther(TorchEngine):
        def _open(self, source, spec):
            super()._open(other_source, spec)

    with pytest.raises(EngineError, match="does not agree with the float32 model"):
        open_verified(OpensTheOther("cpu"), source, SPEC, pictures)
    assert other_source.graph_digest != source.graph_digest


@pytest.mark.parametrize(
    "batch, block, message",
    [
        (0, -1, "the batch is 0"),
        (1, 3, "model.block is 3; accepted: -3"),
        (1, -4, "model.block is -4"),
    ],
)
def test_a_wrong_batch_or_block_is_named(loaded, batch, block, message):
    with pytest.raises(EngineError, match=message):
        open_engine(EngineSettings(), loaded, batch, block=block)


def test_an_earlier_block_gives_other_tokens(loaded, pictures):
    last, first = (
        open_engine(EngineSettings("torch", "float32"), loaded, 2, block=block) for block in (-1, 0)
    )
    tokens = last.engine.infer(pictures[:2]).patch_tokens
    assert not np.allclose(tokens, first.engine.infer(pictures[:2]).patch_tokens, atol=1e-2)


def test_the_cache_that_cannot_be_written_is_an_error_for_a_named_backend(
    loaded, monkeypatch, tmp_path
):
    pytest.importorskip("openvino", reason="openvino is not installed")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match="cannot write the engine cache .*/file/vit_perception"):
        open_engine(EngineSettings("openvino", "float32"), loaded, batch=3)


def test_importing_engines_imports_no_runtime_and_openvino_may_be_missing():
    script = """
import sys
sys.modules["openvino"] = None
from vit_perception.engines import available, cache, engine, select, source
from vit_perception.engines.openvino import engine as openvino_engine
from vit_perception.engines import torch_engine
assert "torch" not in sys.modules, "torch was imported"
missing = [b for b in available.available_backends() if b.name == "openvino"][0]
assert not missing.found and missing.why_not, missing
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PROGRAM_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr


def test_the_demo_model_passes_in_the_engine_that_auto_chooses(monkeypatch, cache_home):
    """Real weights on real pictures: the figures that a user would see."""
    from vit_perception.checkpoints.load_strict import CheckpointError
    from vit_perception.checkpoints.sources import load_checkpoint

    monkeypatch.delenv("XDG_CACHE_HOME")  # the demo's weights are in the user's cache
    try:
        demo = load_checkpoint("demo")
    except CheckpointError as error:
        pytest.skip(f"the demo's weights are not to be had here: {error}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    opened = open_engine(EngineSettings(), demo, batch=1)
    assert opened.report.min_cosine > 0.9995 and opened.report.worst_patch_cosine > 0.995, str(
        opened.report
    )
    opened.engine.close()
