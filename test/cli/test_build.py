"""`vit-perception build`, as a user types it."""

import pytest

from test.cli.test_cli import run
from vit_perception.cli.main import main


def test_engines_for_gpus_that_are_not_here_are_built_once(tiny_checkpoint, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="the TensorRT-RTX wheels are not installed")
    arguments = ("build", "--backend", "tensorrt_rtx", "--precision", "fp16", "--target", "8.9", "--checkpoint",
                 tiny_checkpoint)
    for expected in ("built in", "found in the cache in"):
        done = run(*arguments, XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert f"float16 for compute capability 8.9: {expected} {tmp_path}" in done.stdout.replace("\n", "")
        assert "parity to be proven on the GPU" in done.stdout


def test_an_engine_for_this_machine_is_proven(tiny_checkpoint, tmp_path):
    done = run("build", "--backend", "openvino", "--precision", "fp32", "--batch", 2, "--checkpoint", tiny_checkpoint,
               XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0 and "float32 on" in done.stdout and "parity proven CLS cosine" in done.stdout, done.stderr


def test_found_in_the_cache_is_said_of_what_was_found_there_alone(tiny_checkpoint, tmp_path):
    """Regression: a runtime that keeps nothing, and an entry that was damaged and built anew, were "found"."""
    def build(backend):
        done = run("build", "--backend", backend, "--precision", "fp32", "--checkpoint", tiny_checkpoint,
                   XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        return done.stdout.replace("\n", "")

    assert "opened, which needs nothing built" in build("torch")
    assert ": built" in build("openvino") and "found in the cache" in build("openvino")
    data = next(tmp_path.rglob("model.onnx"))
    data.write_bytes(data.read_bytes()[:-1])
    repaired = build("openvino")
    assert "is damaged" in repaired and ": built" in repaired and "found in the cache" not in repaired


def test_what_cannot_be_built_is_said(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for arguments, expected in ((("--backend", "openvino", "--target", "8.9"), "tensorrt_rtx, the only one"),
                                (("--precision", "fp4"), "engine.precision"), (("--batch", "0"), "batch is 0"),
                                (("--size", "50", "56"), "multiples of the patch size"),
                                (("--dense",), "which has no dense head; accepted: a DPT or Depth Anything"),
                                (("--backend", "tensorrt"), "tensorrt is not installed")):
        assert main(["build", "--checkpoint", str(tiny_checkpoint), *arguments]) == 1
        assert expected in (said := capsys.readouterr().err) and "Traceback" not in said
