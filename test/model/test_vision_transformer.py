"""The model by itself: its parts against other formulas, its options, and what it refuses."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from vit_perception.model.activations import gelu_tanh, quick_gelu
from vit_perception.model.layers import (
    Attention,
    PatchEmbedding,
    SwiGlu,
    explicit_attention,
)
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer, ViTConfig

TEST = VARIANTS["test"]


def random_model(config: ViTConfig = TEST, seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    model = VisionTransformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


def test_the_patch_embedding_is_unfold_and_a_linear_layer():
    torch.manual_seed(0)
    embedding, images = PatchEmbedding(4, 6), torch.randn(2, 3, 8, 12)
    patches = functional.unfold(images, 4, stride=4).transpose(1, 2)
    expected = patches @ embedding.projection.weight.flatten(1).T + embedding.projection.bias
    assert torch.allclose(embedding(images), expected, atol=1e-6)
    assert embedding(images).shape == (2, 6, 6)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_explicit_attention_equals_fused_and_is_undone(qkv_bias):
    torch.manual_seed(0)
    attention, tokens = Attention(12, 3, qkv_bias), torch.randn(2, 5, 12)
    assert (attention.query.bias is not None) == qkv_bias
    fused, cls_row = attention(tokens, with_cls_row=True)
    with explicit_attention(attention):
        assert attention.kind == "half"
        explicit, _ = attention(tokens)
    assert attention.kind == "fused"
    assert torch.allclose(fused, explicit, atol=1e-6)
    assert cls_row.shape == (2, 3, 5)
    assert torch.allclose(cls_row.sum(-1), torch.ones(2, 3))


@pytest.mark.parametrize("form", ["half", "float32_softmax", "float32"])
def test_each_form_of_attention_keeps_the_dtype_of_its_tokens(form):
    torch.manual_seed(0)
    attention, tokens = Attention(12, 3, True), torch.randn(2, 5, 12)
    expected, _ = attention(tokens)
    half = attention.to(torch.bfloat16)
    with explicit_attention(half, form):
        mixed, cls_row = half(tokens.to(torch.bfloat16), with_cls_row=True)
    assert mixed.dtype == cls_row.dtype == torch.bfloat16
    assert torch.allclose(mixed.float(), expected, atol=0.02)


def test_unfolded_patches_equal_the_convolution_on_a_picture_that_is_not_square():
    torch.manual_seed(0)
    embedding, images = PatchEmbedding(4, 6), torch.randn(2, 3, 12, 8)
    expected = embedding(images)
    embedding.unfolded = True
    assert torch.allclose(embedding(images), expected, atol=1e-6) and expected.shape == (2, 6, 6)


def test_activations_at_hand_computed_points():
    x = torch.tensor([-1.0, 0.0, 2.0])
    assert torch.allclose(quick_gelu(x), torch.tensor([-0.154204, 0.0, 1.935658]), atol=1e-5)
    assert torch.allclose(gelu_tanh(x), torch.tensor([-0.158808, 0.0, 1.954598]), atol=1e-5)


def test_swiglu_by_hand():
    layer = SwiGlu(1, 1)
    for part, weight, bias in (
        (layer.gate, 2.0, 0.0),
        (layer.up, 3.0, 1.0),
        (layer.down, 1.0, 0.5),
    ):
        part.weight.data.fill_(weight)
        part.bias.data.fill_(bias)
    # x = 1: gate 2, silu(2) = 2 / (1 + e^-2) = 1.761594; up 4; product 7.046377; down adds 0.5.
    assert layer(torch.ones(1, 1, 1)).item() == pytest.approx(7.546377, abs=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (40, 72), (8, 8)])
def test_output_shapes_at_any_multiple_of_the_patch(size):
    out = random_model()(torch.randn(2, 3, *size))
    patches = size[0] * size[1] // 64
    assert out.cls_token.shape == (2, 32)
    assert out.patch_tokens.shape == (2, patches, 32)
    assert out.cls_attention.shape == (2, 4, patches)
    assert out.pooled is out.cls_token
    assert out.logits is None


def test_cls_attention_leaves_out_cls_and_register_columns():
    model, images = random_model(), torch.randn(1, 3, 64, 64)
    tokens = model.embed(images)
    for block in model.blocks[:-1]:
        tokens, _ = block(tokens)
    _, row = model.blocks[-1](tokens, with_cls_row=True)
    attention = model(images).cls_attention
    assert torch.equal(attention, row[:, :, 3:])
    assert torch.allclose(attention.sum(-1), 1 - row[:, :, :3].sum(-1), atol=1e-6)


def test_positions_follow_the_grid_and_not_its_transpose():
    model = random_model()
    ramp = (
        torch.arange(8.0)[:, None].expand(8, 8).reshape(1, 64, 1)
    )  # the row's index in every channel
    model.position_embedding[:, 1:] = ramp
    wide = model.positions_for((8, 16))[0, 1:, 0].unflatten(0, (8, 16))
    assert torch.allclose(wide, torch.arange(8.0)[:, None].expand(8, 16), atol=1e-5)
    tall = model.positions_for((16, 8))[0, 1:, 0].unflatten(0, (16, 8))
    # Pixel edges aligned: row i of 16 lies at (i + 0.5) / 2 - 0.5 of 8. Away from the border
    # torch's bicubic bends a ramp by 0.047; corners aligned, or 0.1 added to the size, it would be
    # off by more.
    at = (torch.arange(4.0, 12) + 0.5) / 2 - 0.5
    assert torch.allclose(tall[4:12], at[:, None].expand(8, 8), atol=0.048)
    assert torch.equal(model.positions_for((8, 8)), model.position_embedding)
    assert torch.equal(model.positions_for((3, 5))[:, :1], model.position_embedding[:, :1])


def test_an_earlier_block_gives_its_own_tokens_behind_the_final_norm_and_the_last_ones_logits():
    model = random_model(dataclasses.replace(TEST, head="linear", classes=5))
    images = torch.randn(1, 3, 64, 64)
    tokens = model.embed(images)
    tokens, row = model.blocks[0](tokens, with_cls_row=True)
    first, last = model(images, block=0), model(images)
    assert torch.equal(first.patch_tokens, model.norm(tokens)[:, 3:])
    assert torch.equal(first.cls_attention, row[:, :, 3:])
    assert torch.equal(first.logits, last.logits)
    assert not torch.allclose(first.cls_token, last.cls_token, atol=0.01)
    assert torch.equal(model(images, block=-3).patch_tokens, first.patch_tokens)


def test_blocks_behind_the_chosen_one_do_not_run_without_a_head():
    model = random_model()
    model.blocks[1].forward = model.blocks[2].forward = None
    assert model(torch.randn(1, 3, 64, 64), block=0).cls_token.shape == (1, 32)


@pytest.mark.parametrize("block", [3, -4])
def test_a_block_that_is_not_there_is_named(block):
    with pytest.raises(ValueError, match=f"block is {block}; accepted: -3 to 2"):
        random_model()(torch.zeros(1, 3, 64, 64), block=block)


def test_poolings_and_heads():
    images = torch.randn(2, 3, 64, 64)
    for pooling, width in (("cls", 32), ("mean", 32), ("max", 32), ("cls_mean", 64)):
        for head in ("linear", "linear_tanh_linear"):
            out = random_model(dataclasses.replace(TEST, pooling=pooling, head=head, classes=7))(
                images
            )
            assert out.pooled.shape == (2, width)
            assert out.logits.shape == (2, 7)
        mean, most = out.patch_tokens.mean(1), out.patch_tokens.amax(1)
        expected = {
            "cls": out.cls_token,
            "mean": mean,
            "max": most,
            "cls_mean": torch.cat([out.cls_token, mean], 1),
        }
        assert torch.equal(out.pooled, expected[pooling])


def test_the_head_sees_pooled():
    model = random_model(
        dataclasses.replace(TEST, pooling="cls_mean", head="linear_tanh_linear", classes=7)
    )
    out = model(torch.randn(1, 3, 64, 64))
    hidden = torch.tanh(out.pooled @ model.head[0].weight.T + model.head[0].bias)
    assert torch.allclose(
        out.logits, hidden @ model.head[2].weight.T + model.head[2].bias, atol=1e-5
    )


def test_the_norm_before_the_blocks_is_applied():
    model = random_model(dataclasses.replace(TEST, norm_before_blocks=True))
    model.norm_before.weight.fill_(1)
    model.norm_before.bias.fill_(0)
    tokens = model.embed(torch.randn(1, 3, 64, 64))
    assert torch.allclose(tokens.mean(-1), torch.zeros(1, 67), atol=1e-5)


def test_a_norm_behind_the_pooling_leaves_the_tokens_as_they_are():
    """timm's fc_norm."""
    model = random_model(
        dataclasses.replace(TEST, pooling="mean", norm_pooled=True, head="linear", classes=3)
    )
    images = torch.randn(2, 3, 64, 64)
    out, raw = model(images), model.intermediate(images, [-1])[0]
    assert torch.equal(out.patch_tokens, raw[:, 3:]) and torch.equal(out.cls_token, raw[:, 0])
    assert torch.allclose(out.pooled, model.norm(raw[:, 3:].mean(1)), atol=1e-6)
    assert torch.allclose(out.logits, model.head(out.pooled), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_without_a_cls_token_the_pooled_vector_stands_for_it_and_attention_is_even(pooling):
    model = random_model(dataclasses.replace(TEST, cls_token=False, pooling=pooling))
    assert model.cls_token is None and model.position_embedding.shape == (1, 64, 32)
    out = model(torch.randn(2, 3, 40, 64))
    assert out.cls_token is out.pooled
    assert out.patch_tokens.shape == (2, 40, 32)
    assert torch.equal(out.cls_attention, torch.full((2, 4, 40), 1 / 40))


def test_registers_stand_behind_the_distillation_token_and_have_no_position():
    model = random_model(dataclasses.replace(TEST, distillation_token=True))
    assert model.position_embedding.shape == (1, 66, 32) and model.first_patch == 4
    tokens = model.embed(torch.randn(1, 3, 64, 64))
    assert torch.allclose(
        tokens[0, 1], model.distillation_token[0, 0] + model.position_embedding[0, 1]
    )
    assert torch.equal(tokens[:, 2:4], model.register_tokens)


def test_intermediate_blocks_in_the_order_asked_for():
    model, images = random_model(), torch.randn(1, 3, 64, 64)
    last, first = model.intermediate(images, [-1, 0])
    tokens, _ = model.blocks[0](model.embed(images))
    assert torch.equal(first, tokens) and last.shape == (1, 67, 32)
    normed = model.intermediate(images, [2], norm=True)[0]
    assert torch.equal(normed, model.norm(last))
    assert torch.equal(normed[:, 3:], model(images).patch_tokens)
    model.blocks[2].forward = None
    assert len(model.intermediate(images, [0, 1])) == 2
    with pytest.raises(ValueError, match="block is 3; accepted: -3 to 2"):
        model.intermediate(images, [3])


def test_the_hidden_width_of_a_head_may_differ():
    head = random_model(
        dataclasses.replace(TEST, head="linear_tanh_linear", classes=7, head_hidden_width=20)
    ).head
    assert (head[0].out_features, head[2].in_features) == (20, 20)


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"cls_token": False},
            "pooling of the model is 'cls'; accepted: mean, max, map or map_all for a model",
        ),
        (
            {"cls_token": False, "pooling": "mean", "distillation_token": True},
            "distillation_token of the model is True",
        ),
        (
            {"head": "distilled", "classes": 2},
            "head of the model is 'distilled'; accepted: .* needs a distillation token",
        ),
        (
            {"pooling": "map", "norm_pooled": True},
            "norm_pooled of the model is True; accepted: False with the pooling map",
        ),
        ({"pooling": "map", "activation": "swiglu"}, "pooling of the model is 'map'"),
        ({"pooling_heads": 2}, "pooling_heads of the model is 2; accepted: 0 with the pooling cls"),
        ({"pooling": "map_all", "pooling_heads": 3}, "pooling_heads of the model is 3"),
        ({"rope_places": "pixels"}, "rope_places of the model is 'pixels'"),
        ({"rope_grid": (4, 4)}, "rope_grid of the model is .4, 4.; accepted: None, or"),
        (
            {"head_hidden_width": 9},
            "head_hidden_width of the model is 9; accepted: .*linear_tanh_linear",
        ),
        ({"rope_theta": 0.5}, "rope_theta of the model is 0.5"),
        ({"heads": 16, "rope_theta": 100.0}, "multiple of 4"),
        (
            {"position_embedding": "sine"},
            "position_embedding of the model is 'sine'; accepted: one of learned, none",
        ),
        (
            {"position_interpolation": "area"},
            "position_interpolation of the model is 'area'; accepted: one of bicubic",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TEST, **fields)


def test_an_image_that_is_no_multiple_of_the_patch_is_refused():
    with pytest.raises(
        ValueError, match="60 x 64 px; accepted: both sides multiples of the patch size 8"
    ):
        random_model()(torch.zeros(1, 3, 60, 64))


@pytest.mark.parametrize(
    "field, value, accepted",
    [
        ("heads", 5, "divisor of the width 32"),
        ("image_size_px", (60, 64), "multiples of the patch size 8"),
        ("activation", "relu", "gelu, quick_gelu, gelu_tanh, swiglu"),
        ("pooling", "median", "cls, mean, max, map, map_all, cls_mean"),
        ("head", "mlp", "none, linear"),
        ("classes", 3, "0 without a head"),
        ("depth", 0, "at least 1"),
        ("width", 32.0, "an integer"),
        ("norm_eps", 0.0, "between 0 and 1"),
        ("register_tokens", -1, "at least 0"),
    ],
)
def test_a_bad_config_names_the_field_its_value_and_what_is_accepted(field, value, accepted):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(TEST, **{field: value})
    assert f"{field} of the model is {value!r}" in str(error.value)
    assert accepted in str(error.value)
