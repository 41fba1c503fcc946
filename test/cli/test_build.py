"""`vit-perception build`: once as a user types it, else in this process, which has torch."""

import io
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from test.cli.test_cli import run
from vit_perception.cli.build import BuildBars
from vit_perception.cli.main import main
from vit_perception.engines.building.memory import FreeMemory
from vit_perception.engines.cache.engine_file import EngineFile

NO_RTX = "the TensorRT-RTX wheels are not installed"


class Built(NamedTuple):
    """What one run made, for all tests here: to export a model takes longer than all the rest."""

    said: str  # what it printed, in one line
    cache: Path  # its XDG_CACHE_HOME


@pytest.fixture(scope="module")
def for_a_gpu(tiny_checkpoint, tmp_path_factory) -> Built:
    """An engine for a GPU that is not here."""
    pytest.importorskip("tensorrt_rtx_bindings", reason=NO_RTX)
    cache = tmp_path_factory.mktemp("rtx")
    done = run("build", *rtx("8.9", tiny_checkpoint), XDG_CACHE_HOME=str(cache))
    assert done.returncode == 0, done.stderr
    return Built(done.stdout.replace("\n", ""), cache)


@pytest.fixture(scope="module")
def for_this_machine(tiny_checkpoint, tmp_path_factory) -> Built:
    cache = tmp_path_factory.mktemp("openvino")
    done = run("build", *openvino(tiny_checkpoint), XDG_CACHE_HOME=str(cache))
    assert done.returncode == 0, done.stderr
    return Built(done.stdout.replace("\n", ""), cache)


@pytest.fixture
def build(tmp_path, monkeypatch, capsys):
    """``build(*arguments)`` gives what a run prints; its cache is in tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run_here(*arguments: str) -> str:
        status, said = main(["build", *arguments]), capsys.readouterr()
        assert status == 0, said.err
        return said.out.replace("\n", "")

    return run_here


def rtx(target: str, checkpoint: Path) -> list[str]:
    words = ["--backend", "tensorrt_rtx", "--precision", "fp16", "--target", target]
    return [*words, "--checkpoint", str(checkpoint)]


def openvino(checkpoint: Path) -> list[str]:
    words = ["--backend", "openvino", "--precision", "fp32", "--batch", "2"]
    return [*words, "--checkpoint", str(checkpoint)]


def test_engines_for_gpus_that_are_not_here_are_built_once(
    for_a_gpu, build, tiny_checkpoint, tmp_path
):
    again = shutil.copytree(for_a_gpu.cache, tmp_path / "cache")
    for said, expected in (
        (for_a_gpu.said, f"built in {for_a_gpu.cache}"),
        (build(*rtx("8.9", tiny_checkpoint)), f"found in the cache in {again}"),
    ):
        assert f"float16 for compute capability 8.9: {expected}" in said
        assert "parity to be proven on the GPU" in said


def test_an_engine_for_this_machine_is_proven(for_this_machine):
    said = for_this_machine.said
    assert "float32 on" in said and "parity proven" in said
    assert said.count("CLS cosine") == 1  # the gate's figures, when it has passed


def test_found_in_the_cache_is_said_of_what_was_found_there_alone(
    for_this_machine, build, tiny_checkpoint, tmp_path
):
    """Regression: a runtime that keeps nothing, and an entry that was damaged and built again, were
    "found".
    """
    shutil.copytree(for_this_machine.cache, tmp_path / "cache")
    torch = ("--backend", "torch", "--precision", "fp32", "--checkpoint", str(tiny_checkpoint))
    assert "opened, which needs nothing built" in build(*torch)
    assert ": built" in for_this_machine.said
    assert "found in the cache" in build(*openvino(tiny_checkpoint))
    data = next(tmp_path.rglob("model.onnx"))
    data.write_bytes(data.read_bytes()[:-1])
    repaired = build(*openvino(tiny_checkpoint))
    assert (
        "is damaged" in repaired and ": built" in repaired and "found in the cache" not in repaired
    )


def test_an_engine_is_also_written_as_one_file_and_not_over_another(
    for_a_gpu, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(for_a_gpu.cache))
    out = tmp_path / "tiny.vitengine"
    arguments = ["build", *rtx("8.9", tiny_checkpoint), "--out", str(out)]
    assert main(arguments) == 0
    assert "Copy it to the robot and set engine.file there to its path" in capsys.readouterr().out
    opened = EngineFile.opened(out)
    assert (opened.key["targets"], opened.key["batch"], opened.precision) == (["8.9"], 1, "float16")
    before = out.stat().st_ino
    assert main(arguments) == 1
    assert "hint: --force replaces it" in capsys.readouterr().err
    assert out.stat().st_ino == before
    assert main([*arguments, "--force"]) == 0
    assert out.stat().st_ino != before and EngineFile.opened(out) == opened


def test_what_is_no_one_file_is_refused_before_anything_is_built(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    new, target = str(tmp_path / "new"), ("--backend", "tensorrt_rtx", "--target", "8.9")
    for arguments, expected in (
        (("--backend", "openvino", "--out", new), "accepted: tensorrt or tensorrt_rtx"),
        (
            ("--backend", "tensorrt_rtx", "--target", "8.6", "8.9", "--out", new),
            "2 targets (8.6, 8.9); accepted: one --target",
        ),
        ((*target, "--out", str(tmp_path)), "a folder; accepted: a file"),
        ((*target, "--out", str(tmp_path / "no" / "x")), "a folder that exists"),
    ):
        assert main(["build", "--checkpoint", str(tiny_checkpoint), *arguments]) == 1
        assert expected in (said := capsys.readouterr().err) and "Traceback" not in said
    assert not (tmp_path / "cache").exists() and not (tmp_path / "new").exists()


def test_a_build_that_lacks_memory_names_the_switch_and_the_switch_builds(
    for_a_gpu, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    # The exported model is there; the engine for another GPU is not.
    shutil.copytree(for_a_gpu.cache, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "vit_perception.engines.building.memory.free_memory", lambda: FreeMemory(0, 0, "/here")
    )
    arguments = ["build", *rtx("8.6", tiny_checkpoint)]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "takes up to 0.34 GiB of memory, and 0.00 GiB are free" in said
    assert said.endswith("\nhint: --no-memory-check builds nevertheless\n")
    assert main([*arguments, "--no-memory-check"]) == 0
    assert "float16: done, in up to" in capsys.readouterr().out


def test_what_cannot_be_built_is_said(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for arguments, expected in (
        (("--backend", "openvino", "--target", "8.9"), "tensorrt_rtx, the only one"),
        (("--precision", "fp4"), "engine.precision"),
        (("--batch", "0"), "batch is 0"),
        (("--size", "50", "56"), "multiples of the patch size"),
        (("--dense",), "which has no dense head; accepted: a DPT or Depth Anything"),
        (("--backend", "tensorrt"), "tensorrt is not installed"),
    ):
        assert main(["build", "--checkpoint", str(tiny_checkpoint), *arguments]) == 1
        assert expected in (said := capsys.readouterr().err) and "Traceback" not in said


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_a_bar_on_a_terminal_and_else_a_line(terminal):
    bars, said = BuildBars(), io.StringIO()
    bars.live.console = Console(file=said, force_terminal=terminal, width=100)
    with bars:
        bars.info("exporting")
        bars.progress("building the engine", 0.1)
        bars.progress("building the engine", 0.5, "building the engine: 50% after 2 s (Tactics)")
        bars.warning("it is slow")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.getvalue())
    lines = [line.strip() for line in plain.splitlines()]
    assert "exporting" in lines and "WARNING: it is slow" in lines
    assert ("building the engine: 50% after 2 s (Tactics)" in lines) == (not terminal)
    assert any("50%" in line and line.endswith("engine") for line in lines)
