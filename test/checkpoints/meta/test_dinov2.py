"""DINOv2's own files, with and without registers."""

import torch

from test.checkpoints.meta.tensors import HIDDEN, WIDTH, backbone, without_mlp
from vit_perception.checkpoints.sources import load_checkpoint

DINOV2 = {"mask_token": (1, WIDTH), "blocks.0.ls1.gamma": (WIDTH,), "blocks.0.ls2.gamma": (WIDTH,)}


def loaded(tmp_path, held):
    torch.save(held, tmp_path / "weights.pth")
    return load_checkpoint(str(tmp_path / "weights.pth"))


def test_it_is_known_by_its_mask_token_which_is_unused(tmp_path):
    result = loaded(tmp_path, backbone(**DINOV2))
    assert (result.card.family, result.unused) == ("meta_dinov2", ("mask_token",))
    assert (result.model.config.position_interpolation, result.model.config.layer_scale) == (
        "bicubic_offset",
        True,
    )


def test_registers_change_the_interpolation(tmp_path):
    config = loaded(tmp_path, backbone(**DINOV2, register_tokens=(1, 4, WIDTH))).model.config
    assert (config.register_tokens, config.position_interpolation) == (4, "bicubic_antialias")


def test_the_giants_swiglu_is_gate_and_up(tmp_path):
    held = backbone(
        **DINOV2,
        **without_mlp(),
        **{
            "blocks.0.mlp.w12.weight": (2 * HIDDEN, WIDTH),
            "blocks.0.mlp.w12.bias": (2 * HIDDEN,),
            "blocks.0.mlp.w3.weight": (WIDTH, HIDDEN),
            "blocks.0.mlp.w3.bias": (WIDTH,),
        },
    )
    model = loaded(tmp_path, held).model
    assert (model.config.activation, model.config.mlp_width) == ("swiglu", HIDDEN)
    torch.testing.assert_close(
        model.blocks[0].mlp.up.weight, held["blocks.0.mlp.w12.weight"][HIDDEN:]
    )


def test_blocks_that_training_split_among_processes(tmp_path):
    held = {
        f"backbone.{name.replace('blocks.0.', 'blocks.3.0.')}": t
        for name, t in backbone(**DINOV2).items()
    }
    result = loaded(
        tmp_path, {"teacher": held | {"dino_head.last_layer.weight_g": torch.ones(4, 1)}}
    )
    assert result.unused == ("backbone.mask_token", "dino_head.last_layer.weight_g")
