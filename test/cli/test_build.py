"""`vit-perception build`, as a user types it."""

import pytest

from test.cli.test_cli import run
from vit_perception.cli.main import main
from vit_perception.engines.building.memory import FreeMemory
from vit_perception.engines.cache.engine_file import EngineFile


def test_engines_for_gpus_that_are_not_here_are_built_once(tiny_checkpoint, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are not installed")
    arguments = (
        "build",
        "--backend",
        "tensorrt_rtx",
        "--precision",
        "fp16",
        "--target",
        "8.9",
        "--checkpoint",
        tiny_checkpoint,
    )
    for expected in ("built in", "found in the cache in"):
        done = run(*arguments, XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert f"float16 for compute capability 8.9: {expected} {tmp_path}" in done.stdout.replace(
            "\n", ""
        )
        assert "parity to be proven on the GPU" in done.stdout


def test_an_engine_for_this_machine_is_proven(tiny_checkpoint, tmp_path):
    done = run(
        "build",
        "--backend",
        "openvino",
        "--precision",
        "fp32",
        "--batch",
        2,
        "--checkpoint",
        tiny_checkpoint,
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert (
        done.returncode == 0
        and "float32 on" in done.stdout
        and "parity proven CLS cosine" in done.stdout
    ), done.stderr


def test_found_in_the_cache_is_said_of_what_was_found_there_alone(tiny_checkpoint, tmp_path):
    """Regression: a runtime that keeps nothing, and an entry that was damaged and built anew, were
    "found".
    """

    def build(backend):
        done = run(
            "build",
            "--backend",
            backend,
            "--precision",
            "fp32",
            "--checkpoint",
            tiny_checkpoint,
            XDG_CACHE_HOME=str(tmp_path),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.replace("\n", "")

    assert "opened, which needs nothing built" in build("torch")
    assert ": built" in build("openvino") and "found in the cache" in build("openvino")
    data = next(tmp_path.rglob("model.onnx"))
    data.write_bytes(data.read_bytes()[:-1])
    repaired = build("openvino")
    assert (
        "is damaged" in repaired and ": built" in repaired and "found in the cache" not in repaired
    )


def test_an_engine_is_also_written_as_one_file_and_not_over_another(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "tiny.vitengine"
    arguments = [
        "build",
        "--backend",
        "tensorrt_rtx",
        "--precision",
        "fp16",
        "--target",
        "8.9",
        "--checkpoint",
        str(tiny_checkpoint),
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    assert "Copy it to the robot and set engine.file there to its path" in capsys.readouterr().out
    opened = EngineFile.opened(out)
    assert (opened.key["targets"], opened.key["batch"], opened.precision) == (["8.9"], 1, "float16")
    before = out.stat().st_ino
    assert main(arguments) == 1
    assert "which is there already; accepted: a new file, or --force" in capsys.readouterr().err
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


def test_a_build_that_lacks_memory_is_one_line_and_the_switch_goes_on(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "vit_perception.engines.building.memory.free_memory", lambda: FreeMemory(0, 0, "/here")
    )
    arguments = [
        "build",
        "--checkpoint",
        str(tiny_checkpoint),
        "--backend",
        "tensorrt_rtx",
        "--precision",
        "fp16",
        "--target",
        "8.9",
    ]
    assert main(arguments) == 1
    assert "takes up to 0.34 GiB of memory, and 0.00 GiB are free" in capsys.readouterr().err
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
