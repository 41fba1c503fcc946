"""Meta's files of DeiT, DINO, DINOv2 and DINOv3, by their own names, against timm's models with the
same weights.

Meta's repositories are on no package index, so timm's implementation is the origin here; the
families' own code was run once, see docs/checkpoints.md.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise

torchvision_ops.declare()
import timm
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
    v2,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NOTE = "timm as second reader of the same weights; Meta's own code: see below the table"


def rows() -> list[Row]:
    """One row a family and variant, of small models in full depth; the giant's SwiGLU with 2
    blocks.
    """
    return [
        _row(
            "meta_deit",
            "deit_small_patch16_224-cd65a155.pth",
            "deit_small_patch16_224",
            {},
            dict,
            wrapped="model",
        ),
        _row(
            "meta_deit",
            "deit_small_distilled_patch16_224-649709d9.pth",
            "deit_small_distilled_patch16_224",
            {},
            dict,
            wrapped="model",
        ),
        _row(
            "meta_deit",
            "deit_3_small_224_1k.pth",
            "deit3_small_patch16_224",
            {},
            _of_deit3,
            wrapped="model",
            edge=224,
        ),
        _row(
            "meta_dino",
            "dino_deitsmall16_pretrain.pth",
            "vit_small_patch16_224",
            {"num_classes": 0},
            dict,
        ),
        _row(
            "meta_dino",
            "checkpoint0800.pth",
            "vit_small_patch16_224",
            {"num_classes": 0},
            _of_training,
            wrapped="teacher",
        ),
        _row(
            "meta_dinov2", "dinov2_vits14_pretrain.pth", "vit_small_patch14_dinov2", {}, _of_dinov2
        ),
        _row(
            "meta_dinov2",
            "dinov2_vits14_reg4_pretrain.pth",
            "vit_small_patch14_reg4_dinov2",
            {},
            _of_dinov2,
        ),
        _row(
            "meta_dinov2",
            "dinov2_vitg14_pretrain.pth",
            "vit_giant_patch14_dinov2",
            {"depth": 2},
            _of_dinov2,
        ),
        _row(
            "meta_dinov3",
            "dinov3_vits16_pretrain_lvd1689m-08c60483.pth",
            "vit_small_patch16_dinov3_qkvb",
            {},
            _of_dinov3,
        ),
        _row(
            "meta_dinov3",
            "dinov3_vits16plus_pretrain_lvd1689m-4057cbaa.pth",
            "vit_small_plus_patch16_dinov3_qkvb",
            {},
            _of_dinov3,
        ),
        _row(
            "meta_dinov3",
            "dinov3_vith16plus_pretrain_lvd1689m-7c1da9a5.pth",
            "vit_huge_plus_patch16_dinov3_qkvb",
            {"depth": 2},
            _of_dinov3,
        ),
    ]


def _row(
    family: str,
    file: str,
    architecture: str,
    arguments: dict,
    to_meta,
    wrapped: str = "",
    edge: int = 256,
) -> Row:
    torch.manual_seed(0)
    if "patch14" in architecture:
        arguments = {**arguments, "img_size": 518, "dynamic_img_size": True}
    model = randomise(timm.create_model(architecture, **arguments))
    with tempfile.TemporaryDirectory() as folder:
        weights = to_meta(model.state_dict())
        torch.save({wrapped: weights, "epoch": 1} if wrapped else weights, Path(folder) / file)
        origin = Origin(
            f"timm {timm.__version__}",
            lambda images: _run(model, images),
            _stretched if family == "meta_dinov3" else _cropped(edge),
        )
        if family == "meta_dinov2":
            return _at_learned_size(family, file, Path(folder) / file, origin)
        return compare(family, file, Path(folder) / file, origin, NOTE)


def _at_learned_size(family: str, file: str, path: Path, origin: Origin) -> Row:
    """timm interpolates positions by another rule than Meta: tokens at the learned size only, 37 x
    37 patches.
    """

    def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
        return origin.run(images) if images.shape[2] == 518 else {}

    return compare(
        family,
        file,
        path,
        Origin(origin.name, run, origin.preprocess),
        NOTE + "; at 518 px",
        sizes_px=((518, 518),),
    )


@torch.inference_mode()
def _run(model: torch.nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    tokens = model.forward_features(torch.from_numpy(images))
    outputs = {"cls_token": tokens[:, 0], "patch_tokens": tokens[:, model.num_prefix_tokens :]}
    if model.num_classes:
        outputs["logits"] = model.forward_head(tokens)
    return {name: value.numpy() for name, value in outputs.items()}


def _cropped(edge: int):
    transform = Compose(
        [Resize(edge, InterpolationMode.BICUBIC), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)]
    )
    return lambda picture: transform(picture).numpy()


def _stretched(picture) -> np.ndarray:
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((256, 256), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return transform(picture).numpy()


def _of_deit3(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
        for name, t in weights.items()
    }


def _of_training(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    head = {"head.mlp.0.weight": torch.zeros(8, 384), "head.last_layer.weight_v": torch.ones(8, 8)}
    return {f"backbone.{name}": tensor for name, tensor in weights.items()} | head


def _of_dinov2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm keeps the CLS token's position in the token itself where there are registers."""
    named = {
        name.replace("reg_token", "register_tokens"): tensor for name, tensor in weights.items()
    }
    width = named["cls_token"].shape[2]
    if "register_tokens" in named:
        named["pos_embed"] = torch.cat([torch.zeros(1, 1, width), named["pos_embed"]], dim=1)
    if "blocks.0.mlp.fc1.weight" in named and len(named["blocks.0.mlp.fc1.weight"]) == 8192:
        named = {
            name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t
            for name, t in named.items()
        }
    return named | {"mask_token": torch.zeros(1, width)}


def _of_dinov3(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "reg_token": "storage_tokens",
        "gamma_1": "ls1.gamma",
        "gamma_2": "ls2.gamma",
        "mlp.fc1_g": "mlp.w1",
        "mlp.fc1_x": "mlp.w2",
    }
    is_swiglu, width = "blocks.0.mlp.fc1_g.weight" in weights, weights["cls_token"].shape[2]
    held: dict[str, Tensor] = {
        "mask_token": torch.zeros(1, width),
        "rope_embed.periods": 100 ** (torch.arange(16) / 16),
    }
    for name, tensor in weights.items():
        for theirs, metas in (names | ({"mlp.fc2": "mlp.w3"} if is_swiglu else {})).items():
            name = name.replace(theirs, metas)
        if name.endswith(("attn.q_bias", "attn.v_bias")):
            continue
        held[name] = tensor
        if name.endswith("attn.qkv.weight"):
            block = name.removesuffix("attn.qkv.weight")
            query, value = weights[f"{block}attn.q_bias"], weights[f"{block}attn.v_bias"]
            # What stands in the file for the keys is masked: it must not count.
            held[f"{block}attn.qkv.bias"] = torch.cat([query, torch.ones(width), value])
            held[f"{block}attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(
                width
            )
    return held
