"""The reference model: its key changes with whatever changes its numbers, and it is computed
once.
"""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from test.conftest import ROOT
from test.waiting import PROGRAM_S
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.reference import graph_key, reference_outputs
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VisionTransformer(VARIANTS["test"]).eval()


def test_the_key_changes_with_weights_normalisation_size_and_block(model):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.blocks[2].mlp.up.bias[3] += 1e-3
    graphs = [
        EncoderGraph(model, MEAN, STD, (64, 64)),
        EncoderGraph(changed, MEAN, STD, (64, 64)),
        EncoderGraph(model, MEAN, (0.5, 0.5, 0.5), (64, 64)),
        EncoderGraph(model, MEAN, STD, (64, 48)),
        EncoderGraph(model, MEAN, STD, (64, 64), block=0),
    ]
    keys = [str(graph_key(graph)) for graph in graphs]
    assert len(set(keys)) == len(keys)
    assert str(graph_key(EncoderGraph(model, MEAN, STD, (64, 64)))) == keys[0]


def test_it_computes_one_picture_at_a_time_and_cannot_be_written(model):
    graph = EncoderGraph(model, MEAN, STD, (64, 64))
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    first = reference_outputs(graph, images)
    with torch.inference_mode():
        together = graph(torch.from_numpy(images))
    np.testing.assert_allclose(first.patch_tokens, together[1].numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        first.cls_token[:] = 0


KEY_OF_A_FIXED_MODEL = """
from dataclasses import replace
import torch
from vit_perception.engines.reference import graph_key
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer
model = VisionTransformer(replace(VARIANTS["S/14"], depth=1))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_((torch.arange(parameter.numel()) * 40503 % 65521 / 65521 - 0.5).reshape(parameter.shape))
print(graph_key(EncoderGraph(model, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (224, 224)))["weights_sha256"])
"""  # noqa: E501


def test_the_key_is_the_same_whatever_the_cpu():
    """Regression: position embeddings interpolated in float32 gave another key with AVX2 than
    without.
    """
    keys = [
        subprocess.run(
            [sys.executable, "-c", KEY_OF_A_FIXED_MODEL],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "ATEN_CPU_CAPABILITY": code},
            timeout=PROGRAM_S,
        ).stdout
        for code in ("default", "avx2")
    ]
    assert keys[0] == keys[1] and len(keys[0].strip()) == 64
