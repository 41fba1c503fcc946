"""What did not pass the gate is remembered: with real engines, wrong ones among them that count
their openings.
"""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from test.engines.rows import row
from test.engines.test_select import BrokenEngine, NoisyTorchEngine
from test.log_lines import LogLines
from vit_perception.config.backends import BACKENDS
from vit_perception.config.settings import EngineSettings
from vit_perception.engines import select
from vit_perception.engines.cache.verdicts import MOST_BYTES, MOST_VERDICTS, Verdicts
from vit_perception.engines.engine import BackendStatus, EngineError, EngineSpec, ParityError
from vit_perception.engines.reference import graph_of
from vit_perception.engines.select import open_engine, specs_to_try
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.files.log import SILENT

OPENED = []
STATUS = BackendStatus("wrong", True, "1.0", "a device", ("float32",))
SPEC = EngineSpec(1, (64, 64), "float32")


class WrongEngine(NoisyTorchEngine):
    """Fails the gate, and says that it was opened."""

    def _open(self, source, spec):
        OPENED.append(str(spec))
        super()._open(source, spec)


class BreaksOnce(BrokenEngine):
    def _open(self, source, spec):
        OPENED.append(str(spec))
        super()._open(source, spec)


class OutOfMemory(TorchEngine):
    """Opens, and has no memory left when it runs."""

    def _open(self, source, spec):
        OPENED.append(str(spec))
        super()._open(source, spec)

    def _run(self, images):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


class ManyPrecisions(TorchEngine):
    """torch as on a GPU with every precision, of two forms each in half precision; wrong but in
    float32.
    """

    def status(self):
        return replace(super().status(), precisions=("float16", "bfloat16", "float32", "int8"))

    def attempts(self, spec):
        forms = ("half", "float32") if spec.precision != "float32" else ("half",)
        return tuple(replace(spec, attention=form) for form in forms)

    def _open(self, source, spec):
        OPENED.append(str(spec))
        super()._open(source, replace(spec, precision="float32"))
        self.precision = spec.precision
        if spec.precision != "float32":
            self._graph.model.norm.weight.data *= -1


def candidate(kind):
    return row("wrong", "openvino", f"{__name__}:{kind}")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own for each test, and only a wrong engine before torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(select, "BACKENDS", (candidate("WrongEngine"), select.BACKENDS[-1]))
    OPENED.clear()
    return tmp_path / "vit_perception" / "engines" / "verdicts.json"


def start(loaded, settings=EngineSettings(precision="float32"), batch=1):
    """One start; what ``auto`` tried before what runs, and the log."""
    lines = LogLines()
    opened = open_engine(settings, loaded, batch, log=lines)
    opened.engine.close()
    return opened.tried, lines


def test_an_engine_that_failed_the_gate_is_built_anew_at_no_later_start(loaded, alone):
    ((_, figures),) = start(loaded)[0]
    ((label, why_not),) = start(loaded)[0]
    assert OPENED == ["float32"]
    assert label == "wrong float32" and why_not.startswith(figures)
    assert "CLS cosine 0." in why_not and f"remove {alone} to have it tried" in why_not


def test_a_skipped_engine_is_in_the_log_with_its_figures_and_the_file_to_remove(loaded, alone):
    start(loaded)
    line = next(line for line in start(loaded)[1] if line.startswith("wrong float32 is not used: "))
    assert "CLS cosine 0." in line and str(alone) in line


def test_a_removed_file_has_everything_tried_again(loaded, alone):
    start(loaded)
    alone.unlink()
    start(loaded)
    assert len(OPENED) == 2


def test_a_named_precision_is_refused_with_the_same_words_when_it_is_remembered(loaded, alone):
    settings = EngineSettings("openvino", "float32")
    with pytest.raises(EngineError, match=r"CLS cosine 0\.\d+ is below 0\.999"):
        open_engine(settings, loaded, 1)
    with pytest.raises(
        EngineError, match=rf"CLS cosine 0\.\d+ is below 0\.999.*remove {alone} to have it tried"
    ):
        open_engine(settings, loaded, 1)
    assert len(OPENED) == 1


@pytest.mark.parametrize(
    "kind, message", [("OutOfMemory", "out of memory"), ("BreaksOnce", "KeyError")]
)
def test_what_may_be_otherwise_the_next_time_is_not_remembered(
    loaded, alone, monkeypatch, kind, message
):
    monkeypatch.setattr(select, "BACKENDS", (candidate(kind), select.BACKENDS[-1]))
    for _ in range(2):
        ((_, why_not),) = start(loaded)[0]
        assert message in why_not
    assert len(OPENED) == 2 and not alone.exists()


def changes(loaded):
    """What a verdict depends on, each changed: (source, pictures, min_cosine, status, spec)."""
    from vit_perception.engines.parity_gate import parity_batch
    from vit_perception.image.preprocess import Preprocessor

    pictures = parity_batch(Preprocessor(loaded.card.rule), 1)
    source, other = (EngineSource(graph_of(loaded, block), 1) for block in (-1, 0))
    mirrored = np.ascontiguousarray(pictures[..., ::-1])
    return {
        "nothing": (source, pictures, 0.0, STATUS, SPEC),
        "encoder": (other, pictures, 0.0, STATUS, SPEC),
        "pictures": (source, mirrored, 0.0, STATUS, SPEC),
        "min_cosine": (source, pictures, 0.9, STATUS, SPEC),
        "runtime": (source, pictures, 0.0, replace(STATUS, version="1.1"), SPEC),
        "device": (source, pictures, 0.0, replace(STATUS, device="another"), SPEC),
        "hardware": (source, pictures, 0.0, replace(STATUS, hardware="16 multiprocessors"), SPEC),
        "precision": (source, pictures, 0.0, STATUS, replace(SPEC, precision="bfloat16")),
        "attention": (source, pictures, 0.0, STATUS, replace(SPEC, attention="float32")),
        "left_out": (source, pictures, 0.0, STATUS, replace(SPEC, left_out=("patch embedding",))),
        "batch": (source, pictures, 0.0, STATUS, replace(SPEC, batch=2)),
        "size": (source, pictures, 0.0, STATUS, replace(SPEC, network_size_px=(64, 72))),
    }


def test_a_verdict_holds_for_nothing_but_what_it_was_made_on(loaded):
    cases = changes(loaded)
    source, pictures, min_cosine, status, spec = cases["nothing"]
    Verdicts(source, pictures, min_cosine, SILENT).remember(
        "wrong", status, spec, ParityError("figures")
    )
    recalled = {
        name: Verdicts(*case[:3], SILENT).recall("wrong", *case[3:]) for name, case in cases.items()
    }
    assert recalled.pop("nothing").startswith("figures. So it was on '2")
    assert recalled == dict.fromkeys(recalled, "")
    assert (
        Verdicts(source, pictures, min_cosine, SILENT).recall("another candidate", status, spec)
        == ""
    )


def test_an_int8_verdict_goes_with_its_calibration_images(loaded):
    source, pictures, *_ = changes(loaded)["nothing"]
    spec = replace(SPEC, precision="int8")
    sources = [
        EngineSource(
            source.graph,
            1,
            calibration=lambda value=value: np.full((1, 3, 64, 64), value, np.uint8),
        )
        for value in (1, 2)
    ]
    Verdicts(sources[0], pictures, 0.0, SILENT).remember(
        "openvino", STATUS, spec, ParityError("figures")
    )
    assert [
        bool(Verdicts(s, pictures, 0.0, SILENT).recall("openvino", STATUS, spec)) for s in sources
    ] == [True, False]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'[{"key": 1}]',
        b'[{"key": {}, "candidate": "wrong", "why": 3, "when": ""}]',
        b'{"a": 1}',
        b"\xff\xfe",
        b" " * (MOST_BYTES + 1),
    ],
    ids=["empty", "cut", "deep", "key", "why", "no list", "no text", "long"],
)
def test_a_damaged_file_is_a_warning_and_everything_is_tried(loaded, alone, content):
    start(loaded)
    alone.write_bytes(content)
    _, lines = start(loaded)
    assert len(OPENED) == 2
    assert any(
        line.startswith(f"{alone} is damaged") and len(line) < 1000 for line in lines.warnings
    )
    assert len(json.loads(alone.read_text())) == 1  # whole again


def test_a_file_that_others_may_write_is_not_believed_and_stays(loaded, alone):
    start(loaded)
    os.chmod(alone, 0o666)
    _, lines = start(loaded)
    assert len(OPENED) == 2 and any("may be written by others" in line for line in lines)


def test_a_link_in_its_place_is_not_followed(loaded, alone, tmp_path):
    start(loaded)
    elsewhere = tmp_path / "elsewhere.json"
    alone.rename(elsewhere)
    alone.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    start(loaded)
    assert len(OPENED) == 2 and elsewhere.read_bytes() == before and not alone.is_symlink()


def test_the_file_stays_small_and_the_oldest_verdicts_go(loaded, alone):
    source, pictures, *_ = changes(loaded)["nothing"]
    for batch in range(1, MOST_VERDICTS + 6):
        verdicts = Verdicts(source, pictures, 0.0, SILENT)
        verdicts.remember("wrong", STATUS, replace(SPEC, batch=batch), ParityError("x" * 5000))
    assert alone.stat().st_size < MOST_BYTES and alone.stat().st_mode & 0o777 == 0o600
    kept = [verdict["key"]["batch"] for verdict in json.loads(alone.read_text())]
    assert kept == list(range(6, MOST_VERDICTS + 6))
    assert not verdicts.recall("wrong", STATUS, replace(SPEC, batch=5))
    assert verdicts.recall("wrong", STATUS, replace(SPEC, batch=6))


def test_terminal_escapes_in_a_verdict_are_not_printed(loaded, alone):
    start(loaded)
    verdicts = json.loads(alone.read_text())
    verdicts[0] |= {"why": "\x1b[2J" + "y" * 10_000, "when": "\x07" * 10_000}
    alone.write_text(json.dumps(verdicts))
    ((_, why_not),) = start(loaded)[0]
    assert "\x1b" not in why_not and "\x07" not in why_not and len(why_not) < 2500


def test_a_cache_that_cannot_be_written_costs_a_warning_alone(loaded, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    tried, lines = start(loaded)
    assert "CLS cosine 0." in tried[0][1]
    assert any(
        "verdicts.json cannot be written" in line and "tries wrong float32 again" in line
        for line in lines
    )


def test_auto_tries_bfloat16_before_float32_and_the_quick_form_of_each_first(loaded, monkeypatch):
    """Regression: auto went from float16 to float32, and built every form of it at each start."""
    monkeypatch.setattr(select, "BACKENDS", (candidate("ManyPrecisions"),))
    for _ in range(2):
        opened = open_engine(EngineSettings(), loaded, 1, log=SILENT)
        opened.engine.close()
        assert opened.engine.precision == "float32" and len(opened.tried) == 4
    assert OPENED == [
        "float16",
        "bfloat16",
        "float16 with attention float32",
        "bfloat16 with attention float32",
        "float32",
        "float32",
    ]


def test_a_named_precision_is_the_only_one_tried():
    specs = specs_to_try(ManyPrecisions("cpu"), replace(SPEC, precision="bfloat16"), STATUS)
    assert [str(spec) for spec in specs] == ["bfloat16", "bfloat16 with attention float32"]


def test_a_real_engine_that_misses_a_bound_is_remembered_for_that_bound_alone(
    loaded, alone, monkeypatch
):
    """OpenVINO's own rounding against a bound that only the reference itself reaches."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    openvino = next(backend for backend in BACKENDS if backend.name == "openvino")
    monkeypatch.setattr(select, "BACKENDS", (openvino,))
    strict = EngineSettings("openvino", "float32", min_cosine=1.0)
    with pytest.raises(EngineError, match="is below 1 ") as first:
        open_engine(strict, loaded, 1)
    with pytest.raises(EngineError, match="is below 1 .*to have it tried") as second:
        open_engine(strict, loaded, 1)
    assert "to have it tried" not in str(first.value) and "CLS cosine" in str(second.value)
    open_engine(replace(strict, min_cosine=0.0), loaded, 1).engine.close()
