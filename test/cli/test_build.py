"""`vit-perception build`, as a user types it."""

import pytest

from test.cli.test_cli import run


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
    assert done.returncode == 0 and "parity proven CLS cosine" in done.stdout, done.stderr


def test_what_cannot_be_built_is_said(tiny_checkpoint, tmp_path):
    for arguments, expected in ((("--backend", "openvino", "--target", "8.9"), "tensorrt_rtx, the only one"),
                                (("--precision", "fp4"), "engine.precision"), (("--batch", "0"), "batch is 0"),
                                (("--size", "50", "56"), "multiples of the patch size"),
                                (("--dense",), "which has no dense head; accepted: a DPT or Depth Anything"),
                                (("--backend", "tensorrt"), "tensorrt is not installed")):
        done = run("build", "--checkpoint", tiny_checkpoint, *arguments, XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
