"""Shapes by hand, and attention against a second computation, for every kind of model."""

import pytest
import torch

from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig
from vit_perception.viewing.model_trace import trace_model

SIZES = {
    "width": 32,
    "depth": 3,
    "heads": 4,
    "mlp_width": 48,
    "patch_size_px": 8,
    "image_size_px": (32, 32),
}
# What differs from a CLS token with learned positions and no head; who asks; tokens in the blocks,
# for 6 x 3 patches.
KINDS = {
    "plain": ({}, "CLS token", 19),
    "registers": ({"register_tokens": 4}, "CLS token", 23),
    "rope": (
        {"position_embedding": "none", "rope_theta": 100.0, "register_tokens": 4},
        "CLS token",
        23,
    ),
    "distilled": ({"distillation_token": True, "head": "distilled", "classes": 7}, "CLS token", 20),
    "map": ({"cls_token": False, "pooling": "map"}, "probe", 18),
    "mean": (
        {
            "cls_token": False,
            "pooling": "mean",
            "norm_pooled": True,
            "head": "linear",
            "classes": 5,
        },
        "all patches",
        18,
    ),
    "clip": ({"norm_before_blocks": True}, "CLS token", 19),
    "cls_mean": ({"pooling": "cls_mean", "head": "linear", "classes": 5}, "CLS token", 19),
}


def model_of(**changes):
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(**SIZES | changes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


def shapes_of(trace):
    return {step.name: step.shape for step in trace.steps}


def common(tokens):
    return {
        "network input": (1, 3, 48, 24),
        "patches": (1, 18, 192),
        "embedding": (1, 18, 32),
        "block 1 · q, k, v": (1, tokens, 32),
        "block 1 · attention": (1, 4, tokens, tokens),
        "block 1 · MLP": (1, tokens, 48),
        "blocks 0 – 2": (1, tokens, 32),
        "final norm": (1, tokens, 32),
        "patch tokens": (1, 18, 32),
    }


OWN = {
    "plain": {"+ CLS": (1, 19, 32), "+ position": (1, 19, 32), "CLS token": (1, 32)},
    "registers": {
        "+ CLS": (1, 19, 32),
        "+ position": (1, 19, 32),
        "+ registers": (1, 23, 32),
        "CLS token": (1, 32),
    },
    "rope": {
        "+ CLS": (1, 19, 32),
        "+ registers": (1, 23, 32),
        "RoPE": (23, 8),
        "CLS token": (1, 32),
    },
    "distilled": {
        "+ CLS, distillation": (1, 20, 32),
        "+ position": (1, 20, 32),
        "CLS token": (1, 32),
        "pooled": (1, 32),
        "logits": (1, 7),
    },
    "map": {"+ position": (1, 18, 32), "attention pooling": (1, 32), "pooled": (1, 32)},
    "mean": {"+ position": (1, 18, 32), "final norm": (1, 32), "pooled": (1, 32), "logits": (1, 5)},
    "clip": {
        "+ CLS": (1, 19, 32),
        "+ position": (1, 19, 32),
        "norm before blocks": (1, 19, 32),
        "CLS token": (1, 32),
    },
    "cls_mean": {
        "+ CLS": (1, 19, 32),
        "+ position": (1, 19, 32),
        "CLS token": (1, 32),
        "pooled": (1, 64),
        "logits": (1, 5),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_has_the_shape_that_is_worked_out_by_hand(kind):
    changes, asked_by, tokens = KINDS[kind]
    model, images = model_of(**changes), torch.randn(1, 3, 48, 24)
    trace = trace_model(model, images, 1)
    assert shapes_of(trace) == common(tokens) | OWN[kind]
    assert trace.asked_by == asked_by and trace.grid == (6, 3) and trace.block == 1
    assert trace.attention.shape == (4, 18) and trace.distance_px.shape == (3, 4)
    expected = model(images, 1)
    assert torch.equal(trace.output.patch_tokens, expected.patch_tokens)
    # What was watched through has left nothing behind.
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["plain", "rope"])
def test_all_weights_have_the_models_own_cls_row(kind):
    model, images = model_of(**KINDS[kind][0]), torch.randn(1, 3, 48, 24)
    recorder = []
    model.blocks[1].attention.register_forward_hook(
        lambda module, args, out: recorder.append(module.weights(*args[::2]))
    )
    row = model(images, 1).cls_attention
    assert torch.allclose(recorder[0].sum(dim=-1), torch.ones(1, 4, len(recorder[0][0, 0])))
    assert torch.allclose(recorder[0][:, :, 0, model.first_patch :], row, atol=1e-6)
    assert torch.equal(torch.from_numpy(trace_model(model, images, 1).attention), row[0])


def test_without_cls_and_probe_the_mean_of_all_queries_is_shown():
    trace = trace_model(model_of(**KINDS["mean"][0]), torch.randn(1, 3, 48, 24), 0)
    # Without other tokens every query's weights are on patches; 1 / P each would tell nothing.
    assert trace.attention.sum(axis=1) == pytest.approx(1.0) and trace.attention.std() > 1e-3


def test_a_dense_head_is_a_step_too():
    class Head(torch.nn.Module):
        def forward(self, tokens, grid):
            assert [t.shape for t in tokens] == [(1, 19, 32)] * 2
            return tokens[0][:, 1:, 0].unflatten(1, grid)

    dense = DenseHeadSpec("depth", (0, 2), Head(), quantity="depth")
    trace = trace_model(model_of(), torch.randn(1, 3, 48, 24), dense=dense)
    assert (
        trace.steps[-1].shape == (1, 6, 3) and trace.steps[-1].what == "dense head on blocks 0, 2"
    )


def test_another_block_is_refused():
    for block in (3, -4):
        with pytest.raises(ValueError, match=f"block is {block}; accepted: -3 to 2"):
            trace_model(model_of(), torch.randn(1, 3, 32, 32), block)
