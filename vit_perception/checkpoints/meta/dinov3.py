"""Meta's DINOv3 ViT files (Siméoni et al. 2025, arXiv:2508.10104).

Source: https://github.com/facebookresearch/dinov3, models/vision_transformer.py, layers/ and the
README's transform. Heads of their own files (classifiers, depth, detection) are not read.
"""

import torch
from torch import Tensor

from vit_perception.checkpoints.defaults import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    published_unless_beside,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, Reading
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.meta.names import bare, spelled, unused_names
from vit_perception.checkpoints.timm.names import MARKS as BLOCK_MARKS
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

_PERIODS = "rope_embed.periods"
MARKS = (*BLOCK_MARKS, "cls_token", "storage_tokens", _PERIODS)
_SATELLITE_MEAN, _SATELLITE_STD = (0.430, 0.411, 0.296), (0.213, 0.156, 0.143)
_SIDE_PX = 256
# Periods in files may be rounded to bfloat16.
_PERIOD_TOLERANCE = 5e-3


def recognises(found: Found) -> bool:
    """By the periods of the rotary positions, which files hold."""
    return found.config is None and bare(found).has(*BLOCK_MARKS, _PERIODS)


def read(found: Found) -> Reading:
    """Sizes from the shapes, the number of heads from the periods. Raises CheckpointError."""
    backbone = bare(found)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    periods = backbone.tensors[_PERIODS].double()
    if "cls_norm.weight" in backbone.tensors:
        raise CheckpointError(
            f"{found.path} has a norm of its own for the CLS token (cls_norm); accepted: models "
            "with "
            "one final norm, as all released ones have"
        )
    registers = backbone.shape("storage_tokens")[1] if "storage_tokens" in backbone.tensors else 0
    is_swiglu = "blocks.0.mlp.w1.weight" in backbone.tensors
    config = ViTConfig(
        width,
        backbone.count("blocks."),
        width // (4 * len(periods)),
        backbone.shape(f"blocks.0.mlp.{'w3' if is_swiglu else 'fc2'}.weight")[1],
        patch,
        (_SIDE_PX // patch * patch,) * 2,
        activation="swiglu" if is_swiglu else "gelu",
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        layer_scale=True,
        norm_eps=1e-5,
        register_tokens=registers,
        position_embedding="none",
        rope_theta=theta_of(periods, found),
    )
    is_satellite = "sat493m" in found.path.name.lower()
    published = Preprocessing(
        ResizeRule(config.image_size_px, "stretch", None, "bilinear"),
        *((_SATELLITE_MEAN, _SATELLITE_STD) if is_satellite else (IMAGENET_MEAN, IMAGENET_STD)),
    )
    rule, mean, std = published_unless_beside(
        found, published, f"DINOv3's transform for {'satellite' if is_satellite else 'web'} images"
    )
    return Reading(
        config,
        spelled(found, key_map(config, "mlp.w1" if is_swiglu else "mlp.fc1")),
        rule,
        mean,
        std,
        unused=unused_names(
            "mask_token",
            _PERIODS,
            "*.attn.qkv.bias_mask",
            "local_cls_norm.*",
            "dino_head.*",
            "ibot_head.*",
        ),
        converters=masked_key_biases(backbone, config),
        license="dinov3-license",
    )


def theta_of(periods: Tensor, found: Found) -> float:
    """The base of periods theta ** (4 i / d). Raises CheckpointError where they are no such
    series.
    """
    quarter = len(periods)
    theta = (
        round(float(periods[-1]) ** (quarter / (quarter - 1)), 0)
        if quarter > 1 and periods[-1] > 1
        else 0.0
    )
    expected = torch.tensor(theta, dtype=torch.float64) ** (
        torch.arange(quarter, dtype=torch.float64) / quarter
    )
    if theta <= 1 or not torch.allclose(periods, expected, rtol=_PERIOD_TOLERANCE, atol=0):
        raise CheckpointError(
            f"{found.path}: {_PERIODS} is {[round(float(p), 4) for p in periods[:4]]} …; accepted: "
            "theta ** (4 i / d) with a whole theta, 100 in the released files"
        )
    return theta


def masked_key_biases(backbone: Found, config: ViTConfig) -> dict[str, Converter]:
    """The mask that models apply to the biases, 0 for keys and else 1. Raises CheckpointError for
    another one.
    """
    converters: dict[str, Converter] = {}
    expected = torch.ones(3, config.width)
    expected[1] = 0
    for index in range(config.depth):
        name = f"blocks.{index}.attn.qkv.bias_mask"
        if name not in backbone.tensors:
            continue
        if not torch.equal(backbone.tensors[name].float(), expected.flatten()):
            raise CheckpointError(
                f"{backbone.path}: {name} is not 0 for the keys and 1 for queries and values; "
                "accepted: the released models' mask"
            )
        converters[f"blocks.{index}.attention.key.bias"] = torch.zeros_like
    return converters


FAMILY = Family("meta_dinov3", recognises, read, MARKS)
