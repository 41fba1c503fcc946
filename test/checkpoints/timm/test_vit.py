"""timm's files by names and shapes written out here (timm itself is compared by `make parity`)."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

WIDTH, PATCH, SIDE, HIDDEN, CLASSES = 64, 8, 32, 96, 3
PATCHES = (SIDE // PATCH) ** 2


def tensors(positions: int = PATCHES + 1, head: bool = True, **changes) -> dict[str, torch.Tensor]:
    """One block of vit_*; ``changes`` add names with their shapes (underscores for dots) or None to
    leave out.
    """
    block = {
        "norm1.weight": (WIDTH,),
        "norm1.bias": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.qkv.bias": (3 * WIDTH,),
        "attn.proj.weight": (WIDTH, WIDTH),
        "attn.proj.bias": (WIDTH,),
        "norm2.weight": (WIDTH,),
        "norm2.bias": (WIDTH,),
        "mlp.fc1.weight": (HIDDEN, WIDTH),
        "mlp.fc1.bias": (HIDDEN,),
        "mlp.fc2.weight": (WIDTH, HIDDEN),
        "mlp.fc2.bias": (WIDTH,),
    }
    shapes = {f"blocks.0.{name}": shape for name, shape in block.items()}
    shapes |= {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, positions, WIDTH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    shapes |= {"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)} if head else {}
    shapes = {name: shape for name, shape in (shapes | changes).items() if shape is not None}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def folder(path, held, architecture="vit_tiny_patch8_32", pretrained=None, **fields):
    """A hub folder as timm writes it."""
    save_file(held, path / "model.safetensors")
    config = {
        "input_size": [3, SIDE, SIDE],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.1],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "crop_mode": "center",
        "license": "mit",
    } | (pretrained or {})
    (path / "config.json").write_text(
        json.dumps({"architecture": architecture, "pretrained_cfg": config, **fields}),
        encoding="utf-8",
    )
    return str(path)


def test_a_hub_folder_gives_model_preprocessing_labels_and_licence(tmp_path):
    held = tensors()
    loaded = load_checkpoint(
        folder(
            tmp_path,
            held,
            label_names=["n01", "n02", "n03"],
            label_descriptions={"n01": "tench", "n02": "shark", "n03": "ray"},
        )
    )
    card, config = loaded.card, loaded.model.config
    assert (card.family, card.labels, card.license) == ("timm", ("tench", "shark", "ray"), "mit")
    assert (card.mean, card.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert (card.rule.fit, card.rule.resize_shortest_edge_px, card.rule.crop_rounding) == (
        "crop",
        35,
        "half_even",
    )
    assert (config.position_interpolation, config.norm_eps, config.head) == (
        "bicubic_antialias",
        1e-6,
        "linear",
    )
    query, key, value = held["blocks.0.attn.qkv.weight"].chunk(3)
    state = loaded.model.state_dict()
    for name, part in (("query", query), ("key", key), ("value", value)):
        torch.testing.assert_close(state[f"blocks.0.attention.{name}.weight"], part)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"crop_mode": "squash", "crop_pct": 1.0}, ("stretch", None)),
        ({"crop_mode": "squash"}, ("stretch_crop", 35)),
        ({"crop_pct": 1.0}, ("crop", 32)),
    ],
)
def test_the_crop_modes_of_timm(tmp_path, fields, expected):
    rule = load_checkpoint(folder(tmp_path, tensors(), pretrained=fields)).card.rule
    assert (rule.fit, rule.resize_shortest_edge_px) == expected


def test_an_unknown_crop_mode_is_refused_with_the_field(tmp_path):
    with pytest.raises(CheckpointError, match="crop_mode is 'border' .*accepted: center or squash"):
        load_checkpoint(folder(tmp_path, tensors(), pretrained={"crop_mode": "border"}))


def test_distilled_deit_has_two_tokens_and_two_heads(tmp_path):
    held = tensors(
        PATCHES + 2,
        **{
            "dist_token": (1, 1, WIDTH),
            "head_dist.weight": (CLASSES, WIDTH),
            "head_dist.bias": (CLASSES,),
        },
    )
    config = load_checkpoint(folder(tmp_path, held, "deit_tiny_distilled_patch8_32")).model.config
    assert (config.distillation_token, config.head, config.prefix_tokens) == (True, "distilled", 2)


def test_positions_of_the_patches_alone_leave_the_class_token_as_it_is(tmp_path):
    held = tensors(
        PATCHES,
        **{
            "reg_token": (1, 4, WIDTH),
            "blocks.0.ls1.gamma": (WIDTH,),
            "blocks.0.ls2.gamma": (WIDTH,),
        },
    )
    loaded = load_checkpoint(folder(tmp_path, held))
    assert loaded.model.config.register_tokens == 4 and loaded.model.config.layer_scale
    positions = loaded.model.position_embedding
    assert not positions[:, 0].any() and torch.equal(positions[:, 1:], held["pos_embed"])


def test_positions_of_register_tokens_are_added_to_the_tokens(tmp_path):
    held = tensors(
        PATCHES + 2,
        cls_token=None,
        **{
            "reg_token": (1, 2, WIDTH),
            "fc_norm.weight": (WIDTH,),
            "fc_norm.bias": (WIDTH,),
            "norm.weight": None,
            "norm.bias": None,
        },
    )
    loaded = load_checkpoint(folder(tmp_path, held))
    assert (loaded.model.config.pooling, loaded.model.config.norm_pooled) == ("mean", True)
    torch.testing.assert_close(
        loaded.model.register_tokens, held["reg_token"] + held["pos_embed"][:, :2]
    )
    torch.testing.assert_close(loaded.model.position_embedding, held["pos_embed"][:, 2:])


def test_siglip_has_attention_pooling_and_no_class_token(tmp_path):
    pooling = {
        "latent": (1, 1, WIDTH),
        "q.weight": (WIDTH, WIDTH),
        "q.bias": (WIDTH,),
        "kv.weight": (2 * WIDTH, WIDTH),
        "kv.bias": (2 * WIDTH,),
        "proj.weight": (WIDTH, WIDTH),
        "proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "mlp.fc1.weight": (HIDDEN, WIDTH),
        "mlp.fc1.bias": (HIDDEN,),
        "mlp.fc2.weight": (WIDTH, HIDDEN),
        "mlp.fc2.bias": (WIDTH,),
    }
    held = tensors(
        PATCHES,
        head=False,
        cls_token=None,
        **{f"attn_pool.{name}": s for name, s in pooling.items()},
    )
    config = load_checkpoint(folder(tmp_path, held, "vit_so400m_patch16_siglip_256")).model.config
    assert (config.pooling, config.cls_token, config.activation) == ("map", False, "gelu_tanh")


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_a_clip_head_without_a_bias_is_the_projection(tmp_path, bias):
    held = tensors(
        **{
            "patch_embed.proj.bias": None,
            "norm_pre.weight": (WIDTH,),
            "norm_pre.bias": (WIDTH,),
            "head.weight": (512, WIDTH),
            "head.bias": (512,),
        }
    )
    held["head.bias"] = torch.full((512,), bias)
    loaded = load_checkpoint(folder(tmp_path, held, "vit_tiny_patch8_clip_quickgelu_32"))
    assert (loaded.model.config.activation, loaded.model.config.norm_eps) == ("quick_gelu", 1e-5)
    assert not loaded.model.patch_embedding.projection.bias.any()
    if bias:
        assert loaded.projection is None and loaded.model.config.classes == 512
    else:
        np.testing.assert_array_equal(loaded.projection, held["head.weight"].numpy())


def dinov3(**changes):
    return tensors(
        pos_embed=None,
        head=False,
        **(
            {
                "reg_token": (1, 4, WIDTH),
                "blocks.0.gamma_1": (WIDTH,),
                "blocks.0.gamma_2": (WIDTH,),
                "blocks.0.attn.qkv.bias": None,
            }
            | changes
        ),
    )


def test_dinov3_has_rotary_positions_and_no_biases(tmp_path):
    config = load_checkpoint(folder(tmp_path, dinov3(), "vit_tiny_patch8_dinov3")).model.config
    assert (config.rope_theta, config.position_embedding, config.qkv_bias) == (100.0, "none", False)


def test_dinov3_with_biases_has_none_for_the_keys_and_swiglu_in_parts(tmp_path):
    held = dinov3(
        **{
            "blocks.0.attn.q_bias": (WIDTH,),
            "blocks.0.attn.v_bias": (WIDTH,),
            "blocks.0.mlp.fc1.weight": None,
            "blocks.0.mlp.fc1.bias": None,
            **{f"blocks.0.mlp.fc1_{part}.weight": (HIDDEN, WIDTH) for part in "gx"},
            **{f"blocks.0.mlp.fc1_{part}.bias": (HIDDEN,) for part in "gx"},
        }
    )
    model = load_checkpoint(folder(tmp_path, held, "vit_tiny_patch8_dinov3_qkvb")).model
    assert model.config.activation == "swiglu" and not model.blocks[0].attention.key.bias.any()
    torch.testing.assert_close(model.blocks[0].mlp.gate.weight, held["blocks.0.mlp.fc1_g.weight"])


def test_a_packed_swiglu_is_gate_and_up(tmp_path):
    held = tensors(
        **{"blocks.0.mlp.fc1.weight": (2 * HIDDEN, WIDTH), "blocks.0.mlp.fc1.bias": (2 * HIDDEN,)}
    )
    model = load_checkpoint(folder(tmp_path, held)).model
    torch.testing.assert_close(
        model.blocks[0].mlp.gate.weight, held["blocks.0.mlp.fc1.weight"][:HIDDEN]
    )


def test_a_bare_file_named_by_its_architecture_says_which_preprocessing_it_takes(tmp_path, caplog):
    save_file(tensors(), tmp_path / "vit_tiny_patch8_32.augreg_in21k.safetensors")
    with caplog.at_level(logging.WARNING):
        card = load_checkpoint(str(tmp_path / "vit_tiny_patch8_32.augreg_in21k.safetensors")).card
    assert card.mean == (0.5, 0.5, 0.5) and card.labels == ("class 0", "class 1", "class 2")
    assert (
        "taken: timm's default of vit_tiny_patch8_32: crop to 32 x 32 px, shortest edge 35, bicubic"
        in caplog.text
    )


def test_a_bare_file_of_no_telling_name_is_refused(tmp_path):
    save_file(tensors(), tmp_path / "weights.safetensors")
    with pytest.raises(
        CheckpointError, match="not say how its images were prepared; accepted: timm's config.json"
    ):
        load_checkpoint(str(tmp_path / "weights.safetensors"))


def test_labels_that_are_not_as_many_as_the_classes_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="label_names holds 2 names; accepted: 3"):
        load_checkpoint(folder(tmp_path, tensors(), label_names=["a", "b"]))


UNREAD = (
    "vit_small_patch16_rope_224",
    "vit_base_patch16_rope_reg1_gap_256",
    "vit_small_patch16_rope_mixed_224",
    "vit_small_patch16_rope_ape_224",
    "vit_base_patch16_rpn_224",
)


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize(
    "changes",
    [{}, {"pos_embed": None}, {"blocks.0.gamma_1": (WIDTH,), "blocks.0.gamma_2": (WIDTH,)}],
)
def test_architectures_that_compute_otherwise_with_the_same_tensors_are_refused(
    tmp_path, name, changes
):
    """As a folder and as a bare file; with DeiT III's factors and positions, too."""
    held = tensors(PATCHES if "blocks.0.gamma_1" in changes else PATCHES + 1, **changes)
    save_file(held, tmp_path / f"{name}.safetensors")
    (tmp_path / "hub").mkdir()
    for checkpoint in (str(tmp_path / f"{name}.safetensors"), folder(tmp_path / "hub", held, name)):
        with pytest.raises(
            CheckpointError, match=f"the architecture {name} has .*accepted: vit_. but for"
        ):
            load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "beit_base_patch16_224", "test_vit"])
def test_families_of_timm_with_other_blocks_are_refused_by_their_name(tmp_path, name):
    with pytest.raises(
        CheckpointError, match=f"the architecture is '{name}'; accepted: timm's vit_"
    ):
        load_checkpoint(folder(tmp_path, tensors(), name))


def test_only_dinov3_has_no_learned_positions(tmp_path):
    with pytest.raises(
        CheckpointError, match="no tensor pos_embed, and is no DINOv3 .*'vit_tiny_patch8_32'"
    ):
        load_checkpoint(folder(tmp_path, tensors(pos_embed=None)))


def test_dinov3_is_pooled_alike_as_a_folder_and_as_a_bare_file(tmp_path):
    save_file(dinov3(), tmp_path / "vit_tiny_patch8_dinov3.safetensors")
    assert (
        load_checkpoint(str(tmp_path / "vit_tiny_patch8_dinov3.safetensors")).model.config.pooling
        == "mean"
    )


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"model_args": [1]}, r"model_args is \[1\]; accepted: an object"),
        ({"pretrained": {"crop_pct": 0}}, "crop_pct is 0; accepted: a number above 0"),
        ({"pretrained": {"input_size": 5}}, "input_size is 5; accepted: 3 channels"),
        ({"pretrained": {"mean": "abc"}}, "mean is 'abc'; accepted: three numbers"),
        ({"label_names": 5}, "label_names is 5; accepted: a list of 3 names"),
        ({"global_pool": ["avg"]}, r"global_pool is \['avg'\]; accepted: token"),
    ],
)
def test_a_damaged_description_is_refused_by_the_field(tmp_path, fields, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder(tmp_path, tensors(), **fields))
