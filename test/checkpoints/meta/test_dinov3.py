"""DINOv3's own files: rotary positions, storage tokens, masked biases of the keys."""

import pytest
import torch

from test.checkpoints.meta.tensors import HIDDEN, WIDTH, backbone, without_mlp
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

HEADS = 2
DINOV3 = {
    "pos_embed": None,
    "mask_token": (1, WIDTH),
    "storage_tokens": (1, 4, WIDTH),
    "blocks.0.ls1.gamma": (WIDTH,),
    "blocks.0.ls2.gamma": (WIDTH,),
}


def dinov3(theta: float = 100.0, **changes) -> dict[str, torch.Tensor]:
    quarter = WIDTH // HEADS // 4
    held = backbone(**(DINOV3 | changes))
    held["rope_embed.periods"] = theta ** (torch.arange(quarter) / quarter)
    held["blocks.0.attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
    return held


def loaded(tmp_path, held, name="dinov3_vits8_pretrain_lvd1689m.pth"):
    torch.save(held, tmp_path / name)
    return load_checkpoint(str(tmp_path / name))


def test_heads_and_theta_come_from_the_periods_and_masked_biases_are_zero(tmp_path):
    held = dinov3()
    result = loaded(tmp_path, held)
    config, state = result.model.config, result.model.state_dict()
    assert (result.card.family, config.heads, config.rope_theta, config.norm_eps) == (
        "meta_dinov3",
        HEADS,
        100.0,
        1e-5,
    )
    assert (
        not state["blocks.0.attention.key.bias"].any()
        and held["blocks.0.attn.qkv.bias"][WIDTH : 2 * WIDTH].any()
    )
    torch.testing.assert_close(
        state["blocks.0.attention.value.bias"], held["blocks.0.attn.qkv.bias"][2 * WIDTH :]
    )
    assert set(result.unused) == {"mask_token", "rope_embed.periods", "blocks.0.attn.qkv.bias_mask"}


def test_the_mean_of_satellite_models_is_another(tmp_path):
    assert loaded(tmp_path, dinov3()).card.mean == (0.485, 0.456, 0.406)
    assert loaded(tmp_path, dinov3(), "dinov3_vitl16_pretrain_sat493m-x.pth").card.mean == (
        0.430,
        0.411,
        0.296,
    )


def test_swiglu_of_the_plus_models(tmp_path):
    held = dinov3(
        **without_mlp(),
        **{
            f"blocks.0.mlp.{layer}.{part}": shape
            for layer, shapes in (
                ("w1", ((HIDDEN, WIDTH), (HIDDEN,))),
                ("w2", ((HIDDEN, WIDTH), (HIDDEN,))),
                ("w3", ((WIDTH, HIDDEN), (WIDTH,))),
            )
            for part, shape in zip(("weight", "bias"), shapes)
        },
    )
    mlp = loaded(tmp_path, held).model.blocks[0].mlp
    torch.testing.assert_close(mlp.gate.weight, held["blocks.0.mlp.w1.weight"])
    torch.testing.assert_close(mlp.up.weight, held["blocks.0.mlp.w2.weight"])


def test_another_mask_is_refused(tmp_path):
    held = dinov3() | {"blocks.0.attn.qkv.bias_mask": torch.full((3 * WIDTH,), float("nan"))}
    with pytest.raises(CheckpointError, match="bias_mask is not 0 for the keys"):
        loaded(tmp_path, held)


def test_periods_of_another_kind_are_refused(tmp_path):
    held = dinov3() | {"rope_embed.periods": torch.linspace(0.1, 0.9, WIDTH // HEADS // 4)}
    with pytest.raises(CheckpointError, match="rope_embed.periods is .*accepted: theta"):
        loaded(tmp_path, held)


def test_a_norm_of_its_own_for_cls_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cls_norm"):
        loaded(tmp_path, dinov3(**{"cls_norm.weight": (WIDTH,), "cls_norm.bias": (WIDTH,)}))
