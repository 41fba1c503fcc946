"""What every engine promises: each check below runs on each row of the table of backends.

Rows whose runtime or device is not here are skipped with the reason. Both flavours of TensorRT run
on a stand-in for NVIDIA's module, with all but the CUDA graph real (test/engines/standin_tensorrt).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from test.engines import standin_tensorrt
from vit_perception.config.backends import BACKENDS, ENGINE_FILE_BACKENDS, Backend
from vit_perception.engines.available import make_engine
from vit_perception.engines.engine import Engine, EngineError, EngineSpec
from vit_perception.engines.parity_gate import ParityLimits, measure, run_batches
from vit_perception.engines.source import EngineSource
from vit_perception.engines.verified import open_verified

SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float32")
# torch on the CPU makes new arrays at each run; all others write into arrays of their own.
MAKES_NEW_ARRAYS = ("torch on the CPU",)


@dataclass
class Subject:
    """A backend under test; ``engine`` is made, not opened."""

    row: Backend
    engine: Engine
    source: EngineSource  # the tiny model, for a batch of 2
    pictures: np.ndarray  # (4, 3, 64, 64) uint8

    def opened(self) -> Engine:
        self.engine.open(self.source, SPEC)
        return self.engine

    @property
    def precisions(self) -> list[str]:
        """What the device runs natively, without int8 where nothing can make an int8 model."""
        has_nncf = importlib.util.find_spec("nncf") is not None
        return [p for p in self.engine.status().precisions if has_nncf or p != "int8"]


@pytest.fixture(
    params=[
        pytest.param(
            row,
            id=row.label,
            marks=[pytest.mark.gpu]
            if row.device == "gpu" and row.name not in ENGINE_FILE_BACKENDS
            else [],
        )
        for row in BACKENDS
    ]
)
def subject(request, monkeypatch, source, pictures):
    row = request.param
    if row.name in ENGINE_FILE_BACKENDS:
        standin_tensorrt.install(monkeypatch, row.name)
    engine = make_engine(row)
    status = engine.status()
    if not status.found:
        pytest.skip(status.why_not)
    yield Subject(row, engine, source, pictures)
    engine.close()


def says_what_runs(subject):
    status = subject.engine.status()
    engine = subject.opened()
    assert engine.precision == "float32"
    assert engine.device == status.device
    assert engine.runtime.startswith(f"{engine.name} {status.version}")
    assert engine.file is None or engine.file.exists()


def gives_the_float32_reference(subject):
    outputs = run_batches(subject.opened().infer, subject.pictures, SPEC.batch)
    report = measure(outputs, subject.source.reference(subject.pictures))
    assert report.failures(ParityLimits.for_precision("float32")) == []
    if subject.row.provider != "tensorrt":  # it may compute float32 in TF32
        assert report.tokens_l2 < 1e-4 and report.attention_l2 < 1e-4, report


def passes_the_gate_in_each_native_precision_and_reports_it(subject):
    assert "float32" in subject.precisions
    for precision in subject.precisions:
        spec = replace(SPEC, precision=precision)
        engine, report, _ = open_verified(subject.engine, subject.source, spec, subject.pictures)
        assert engine.precision == precision and report.finite
        engine.close()


def finds_its_files_in_the_cache_the_second_time(subject):
    subject.opened().close()
    was_cached = subject.engine.open(subject.source, SPEC)
    assert was_cached is (None if subject.row.name == "torch" else True)


def has_float32_outputs_of_the_documented_shapes(subject):
    output = subject.opened().infer(subject.pictures[:2])
    assert output.cls_token.shape == (2, 32)
    assert output.patch_tokens.shape == (2, 64, 32)
    assert output.cls_attention.shape == (2, 4, 64)
    assert output.logits is None and output.block_tokens is None
    arrays = (output.cls_token, output.patch_tokens, output.cls_attention)
    assert {array.dtype for array in arrays} == {np.dtype("float32")}


def leaves_the_input_to_the_caller_and_repeats_itself(subject):
    engine, images = subject.opened(), subject.pictures[:2].copy()
    first = engine.infer(images).cls_token.copy()
    np.testing.assert_array_equal(images, subject.pictures[:2])
    images[:] = 0
    other = engine.infer(images).cls_token.copy()
    assert np.abs(first - other).max() > 1e-2
    np.testing.assert_array_equal(engine.infer(subject.pictures[:2]).cls_token, first)


def refuses_an_input_of_another_shape_type_or_layout(subject):
    engine = subject.opened()
    for images, message in (
        (
            np.zeros((1, 3, 64, 64), np.uint8),
            r"uint8 \(1, 3, 64, 64\); accepted: uint8 \(2, 3, 64, 64\)",
        ),
        (np.zeros((2, 3, 64, 64), np.float32), "images are float32 .*; accepted: uint8"),
        (np.zeros((2, 64, 64, 3), np.uint8).transpose(0, 3, 1, 2), "accepted: a C-contiguous"),
    ):
        with pytest.raises(EngineError, match=message):
            engine.infer(images)
    assert np.isfinite(engine.infer(subject.pictures[:2]).cls_token).all()


def owns_its_outputs(subject):
    """They hold until the next run, are no part of the input, and outlive the engine."""
    engine = subject.opened()
    images = subject.pictures[:2].copy()
    outputs = [engine.infer(images) for _ in range(6)]
    tokens = [output.patch_tokens for output in outputs]
    if subject.row.label not in MAKES_NEW_ARRAYS:
        assert len({id(array) for array in tokens}) <= 2
    assert not any(np.shares_memory(array, images) for array in tokens)
    kept = tokens[-1].copy()
    engine.close()
    np.testing.assert_array_equal(tokens[-1], kept)


def closes_twice_and_then_runs_no_more(subject):
    engine = subject.opened()
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="not open"):
        engine.infer(subject.pictures[:2])


def closes_before_it_was_opened(subject):
    subject.engine.close()
    with pytest.raises(EngineError, match="not open"):
        subject.engine.infer(subject.pictures[:2])


def opens_again_after_close_and_not_while_open(subject):
    engine = subject.opened()
    first = engine.infer(subject.pictures[:2]).cls_token.copy()
    with pytest.raises(EngineError, match="open already"):
        engine.open(subject.source, SPEC)
    engine.close()
    engine.open(subject.source, SPEC)
    np.testing.assert_array_equal(engine.infer(subject.pictures[:2]).cls_token, first)


def refuses_a_precision_that_the_device_lacks(subject):
    missing = next(
        precision
        for precision in ("float16", "bfloat16", "int4")
        if precision not in subject.engine.status().precisions
    )
    with pytest.raises(EngineError, match=f"does not run '{missing}' on .*; accepted: .*float32"):
        subject.engine.open(subject.source, replace(SPEC, precision=missing))


def is_closed_and_says_why_when_it_fails_half_way(subject):
    class Broken:
        def __getattr__(self, name):
            raise ValueError("weights are gone")

    with pytest.raises(EngineError, match="ValueError: weights are gone"):
        subject.engine.open(Broken(), SPEC)
    with pytest.raises(EngineError, match="not open"):
        subject.engine.infer(subject.pictures[:2])
    assert np.isfinite(subject.opened().infer(subject.pictures[:2]).cls_token).all()


CHECKS: tuple[Callable[[Subject], None], ...] = (
    says_what_runs,
    gives_the_float32_reference,
    passes_the_gate_in_each_native_precision_and_reports_it,
    finds_its_files_in_the_cache_the_second_time,
    has_float32_outputs_of_the_documented_shapes,
    leaves_the_input_to_the_caller_and_repeats_itself,
    refuses_an_input_of_another_shape_type_or_layout,
    owns_its_outputs,
    closes_twice_and_then_runs_no_more,
    closes_before_it_was_opened,
    opens_again_after_close_and_not_while_open,
    refuses_a_precision_that_the_device_lacks,
    is_closed_and_says_why_when_it_fails_half_way,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_engine(subject, check):
    check(subject)
