"""The Perception Encoder by timm's names against its formulas written out here with complex numbers
(timm itself is compared by `make parity`).
"""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from test.checkpoints.timm.test_vit import PATCH, PATCHES, WIDTH, folder, tensors
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

POOL_HIDDEN, SPACE, HEADS, POOL_HEADS = 128, 512, 4, 8
CORE, SPATIAL = "vit_pe_core_tiny_patch8_32", "vit_pe_spatial_tiny_patch8_32"
NORM_BEFORE = {
    "patch_embed.proj.bias": None,
    "norm_pre.weight": (WIDTH,),
    "norm_pre.bias": (WIDTH,),
}
POOL = {
    "attn_pool.latent": (1, 1, WIDTH),
    "attn_pool.q.weight": (WIDTH, WIDTH),
    "attn_pool.q.bias": (WIDTH,),
    "attn_pool.kv.weight": (2 * WIDTH, WIDTH),
    "attn_pool.kv.bias": (2 * WIDTH,),
    "attn_pool.proj.weight": (WIDTH, WIDTH),
    "attn_pool.proj.bias": (WIDTH,),
    "attn_pool.norm.weight": (WIDTH,),
    "attn_pool.norm.bias": (WIDTH,),
    "attn_pool.mlp.fc1.weight": (POOL_HIDDEN, WIDTH),
    "attn_pool.mlp.fc1.bias": (POOL_HIDDEN,),
    "attn_pool.mlp.fc2.weight": (WIDTH, POOL_HIDDEN),
    "attn_pool.mlp.fc2.bias": (WIDTH,),
}
NO_FINAL_NORM = {"norm.weight": None, "norm.bias": None}
FACTORS = {"blocks.0.gamma_1": (WIDTH,), "blocks.0.gamma_2": (WIDTH,)}


def near_one(held):
    """``held`` with norms and factors that let every part through."""
    for name, tensor in held.items():
        if "gamma" in name or ("norm" in name and name.endswith("weight")):
            tensor += 1
    return held


def core(**changes):
    head = {"head.weight": (SPACE, WIDTH), "head.bias": (SPACE,)}
    held = near_one(tensors(**(NORM_BEFORE | POOL | head | changes)))
    held["head.bias"].zero_()
    return held


def spatial(**changes):
    return near_one(tensors(head=False, **(NORM_BEFORE | NO_FINAL_NORM | FACTORS | changes)))


def attend(query, key, value, heads):
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def turned(x, angles, first_patch):
    """Neighbouring channels as one complex number, turned by its angle."""
    pairs = torch.view_as_complex(x.unflatten(-1, (HEADS, -1, 2)).contiguous())  # (B, N, h, d/2)
    pairs[:, first_patch:] *= torch.polar(torch.ones_like(angles), angles)[None, :, None]
    return torch.view_as_real(pairs).flatten(2)


def reference(held, images, grid, learned):
    def linear(x, name):
        return functional.linear(x, held[f"{name}.weight"], held.get(f"{name}.bias"))

    def norm(x, name):
        weight, bias = held[f"{name}.weight"], held[f"{name}.bias"]
        return functional.layer_norm(x, (WIDTH,), weight, bias, 1e-5)

    patches = functional.conv2d(images, held["patch_embed.proj.weight"], stride=PATCH)
    x = patches.flatten(2).transpose(1, 2)
    first = int("cls_token" in held)
    if first:
        x = torch.cat([held["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = norm(x + held["pos_embed"], "norm_pre")
    rows, columns = (
        (torch.arange(count, dtype=torch.float32) + first) / count * spread
        for count, spread in zip(grid, learned)
    )
    quarter = WIDTH // HEADS // 4
    bands = 10_000 ** -(torch.arange(quarter) / quarter)
    of_x = columns.repeat(grid[0])[:, None] * bands
    of_y = rows.repeat_interleave(grid[1])[:, None] * bands
    angles = torch.cat([of_x, of_y], dim=1)  # (P, d / 2)
    query, key, value = linear(norm(x, "blocks.0.norm1"), "blocks.0.attn.qkv").chunk(3, dim=-1)
    mixed = attend(turned(query, angles, first), turned(key, angles, first), value, HEADS)
    x = x + linear(mixed, "blocks.0.attn.proj") * held.get("blocks.0.gamma_1", 1)
    hidden = functional.gelu(linear(norm(x, "blocks.0.norm2"), "blocks.0.mlp.fc1"))
    x = x + linear(hidden, "blocks.0.mlp.fc2") * held.get("blocks.0.gamma_2", 1)
    if "norm.weight" in held:
        x = norm(x, "norm")
    if "attn_pool.latent" not in held:
        return x, x[:, first:].mean(dim=1)
    probe = linear(held["attn_pool.latent"].expand(len(x), -1, -1), "attn_pool.q")
    pooled = attend(probe, *linear(x, "attn_pool.kv").chunk(2, dim=-1), POOL_HEADS)
    pooled = linear(pooled, "attn_pool.proj")
    hidden = functional.gelu(linear(norm(pooled, "attn_pool.norm"), "attn_pool.mlp.fc1"))
    return x, (pooled + linear(hidden, "attn_pool.mlp.fc2"))[:, 0]


@pytest.mark.parametrize(
    "held, architecture, arguments, learned",
    [
        (core(), CORE, {}, (4, 4)),
        (core(), CORE, {"ref_feat_shape": [8, 6]}, (8, 6)),
        (core(), CORE, {"ref_feat_shape": None}, (4, 4)),
        (core(cls_token=None, pos_embed=(1, PATCHES, WIDTH)), CORE, {}, (4, 4)),
        (spatial(), SPATIAL, {}, (4, 4)),
        (spatial(), SPATIAL, {"use_post_transformer_norm": False, "global_pool": "avg"}, (4, 4)),
    ],
)
def test_parity(tmp_path, held, architecture, arguments, learned):
    arguments = {"num_heads": HEADS, **arguments}
    loaded = load_checkpoint(folder(tmp_path, held, architecture, model_args=arguments))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens, pooled = reference(held, images, (4, 4), learned)
    assert tokens.std(dim=1).mean() > 0.05
    ours = loaded.model(images)
    first = int("cls_token" in held)
    assert (ours.patch_tokens - tokens[:, first:]).abs().max() <= 1e-5
    assert (ours.pooled - pooled).abs().max() <= 1e-5
    assert ours.cls_attention.shape[2] == PATCHES
    if first:
        assert (ours.cls_token - tokens[:, 0]).abs().max() <= 1e-5
    if architecture == CORE:
        assert loaded.projection.shape == (SPACE, WIDTH)
        assert loaded.model.config.classes == 0


def test_a_bare_file_is_known_by_its_name(tmp_path):
    save_file(spatial(), tmp_path / f"{SPATIAL}.fb.safetensors")
    loaded = load_checkpoint(str(tmp_path / f"{SPATIAL}.fb.safetensors"))
    assert (loaded.model.config.pooling, loaded.card.mean) == ("mean", (0.5, 0.5, 0.5))
    assert loaded.model.config.rope_grid == (4, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rope_grid_offset": 0.0},
        {"rope_grid_indexing": "ij"},
        {"rope_type": "dinov3"},
        {"rope_rotate_half": True},
        {"use_rot_pos_emb": False},
        {"use_pre_transformer_norm": False},
        {"use_post_transformer_norm": False},
        {"use_fc_norm": True},
        {"attn_type": "eva"},
        {"attn_pool_num_heads": 3},
        {"attn_pool_num_heads": "8"},
        {"rope_temperature": -1},
        {"ref_feat_shape": "14"},
        {"rope_mrope_section": [1, 2, 3]},
    ],
)
def test_arguments_that_change_what_is_computed_are_refused_by_name(tmp_path, arguments):
    name = next(iter(arguments)).replace("attn_pool_num_heads", "(attn_pool_num|pooling)_heads")
    with pytest.raises(CheckpointError, match=f"{name} (of|is)"):
        load_checkpoint(folder(tmp_path, core(), CORE, model_args=arguments))


def test_its_arguments_are_refused_in_other_models(tmp_path):
    path = folder(tmp_path, tensors(), model_args={"ref_feat_shape": [4, 4]})
    with pytest.raises(CheckpointError, match="ref_feat_shape of model_args is"):
        load_checkpoint(path)


def test_a_core_model_without_its_final_norm_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="2 missing"):
        load_checkpoint(folder(tmp_path, core(**NO_FINAL_NORM), CORE))
    fields = json.loads((tmp_path / "config.json").read_text())
    assert "model_args" not in fields
