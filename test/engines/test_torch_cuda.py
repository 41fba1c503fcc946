"""torch on a GPU: the CUDA graph computes the model, reuses its buffers, and allocates nothing.
Needs no ROS.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vit_perception.config.settings import EngineSettings
from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.select import open_engine
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.engines.verified import open_verified

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SPEC = EngineSpec(batch=2, network_size_px=(64, 64), precision="float16")


@pytest.fixture
def engine(source):
    engine = TorchEngine("cuda")
    engine.open(source, SPEC)
    yield engine
    engine.close()


def precisions():
    return TorchEngine("cuda").status().precisions if torch.cuda.is_available() else ()


def test_each_native_precision_passes_the_gate(source, pictures):
    assert precisions()[0] == "float16" and "float32" in precisions()
    for precision in precisions():
        engine, report, _ = open_verified(
            TorchEngine("cuda"), source, replace(SPEC, precision=precision), pictures
        )
        assert engine.precision == precision and report.finite
        assert engine.device == torch.cuda.get_device_name()
        engine.close()


def test_replays_follow_the_input_and_repeat(engine, pictures):
    """A graph that kept the input of its capture, or read it before the upload, would give one
    answer to all.
    """
    first = engine.infer(pictures[:2]).patch_tokens.copy()
    other = engine.infer(pictures[2:4]).patch_tokens.copy()
    assert np.abs(first - other).max() > 0.1
    for _ in range(20):
        np.testing.assert_array_equal(engine.infer(pictures[:2]).patch_tokens, first)
        np.testing.assert_array_equal(engine.infer(pictures[2:4]).patch_tokens, other)


def test_a_replay_equals_the_plain_model(engine, source, pictures):
    outputs = engine.infer(pictures[:2])
    with torch.no_grad():
        plain = engine._graph(torch.from_numpy(pictures[:2]).cuda())
    for name, expected in zip(source.graph.output_names, plain, strict=True):
        np.testing.assert_allclose(
            getattr(outputs, name), expected.cpu().numpy(), atol=1e-3, err_msg=name
        )


def test_the_steady_state_allocates_nothing_and_reuses_its_arrays(engine, pictures):
    output = engine.infer(pictures[:2])
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(50):
        assert engine.infer(pictures[:2]).patch_tokens is output.patch_tokens
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_outputs_outlive_the_engine_and_closing_frees_the_gpu(source, pictures):
    engine = TorchEngine("cuda")
    engine.open(source, SPEC)
    output = engine.infer(pictures[:2])
    kept = output.patch_tokens.copy()
    during = torch.cuda.memory_allocated()
    engine.close()
    np.testing.assert_array_equal(output.patch_tokens, kept)
    assert torch.cuda.memory_allocated() < during


def test_two_engines_of_different_shapes_take_turns(source, engine, pictures, loaded):
    opened = open_engine(EngineSettings("torch", "float16"), loaded, batch=1)
    alone = opened.engine.infer(pictures[:1]).cls_token.copy()
    together = engine.infer(pictures[:2]).cls_token.copy()
    np.testing.assert_allclose(alone[0], together[0], atol=5e-2)
    np.testing.assert_array_equal(opened.engine.infer(pictures[:1]).cls_token, alone)
    opened.engine.close()
