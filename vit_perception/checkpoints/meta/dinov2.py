"""Meta's DINOv2 files (Oquab et al. 2023, arXiv:2304.07193), with and without registers
(arXiv:2309.16588).

Source: https://github.com/facebookresearch/dinov2, models/vision_transformer.py, hub/backbones.py
and data/transforms.py. The linear classifiers in files of their own are not read.
"""

from vit_perception.checkpoints.defaults import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
    published_unless_beside,
)
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.meta.names import bare, spelled, unused_names
from vit_perception.checkpoints.timm.names import MARKS as BLOCK_MARKS
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.model.vision_transformer import ViTConfig

MARKS = (*BLOCK_MARKS, "cls_token", "pos_embed", "mask_token", "blocks.0.ls1.gamma")
PUBLISHED = Preprocessing(centre_crop(224, 256), IMAGENET_MEAN, IMAGENET_STD)


def recognises(found: Found) -> bool:
    """By the token for masked patches, which other families' files leave out."""
    return found.config is None and bare(found).has(*MARKS)


def read(found: Found) -> Reading:
    """Sizes from the shapes; models with registers interpolate positions in another way."""
    backbone = bare(found)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    side = round((backbone.shape("pos_embed")[1] - 1) ** 0.5) * patch
    is_swiglu = "blocks.0.mlp.w12.weight" in backbone.tensors
    registers = backbone.shape("register_tokens")[1] if "register_tokens" in backbone.tensors else 0
    config = ViTConfig(
        width,
        backbone.count("blocks."),
        width // 64,
        backbone.shape(f"blocks.0.mlp.{'w3' if is_swiglu else 'fc2'}.weight")[1],
        patch,
        (side, side),
        activation="swiglu" if is_swiglu else "gelu",
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        layer_scale=True,
        register_tokens=registers,
        position_interpolation="bicubic_antialias" if registers else "bicubic_offset",
    )
    rule, mean, std = published_unless_beside(found, PUBLISHED, "DINOv2's evaluation transform")
    names = key_map(config, "mlp.w12" if is_swiglu else "mlp.fc1")
    return Reading(
        config,
        spelled(found, names),
        rule,
        mean,
        std,
        unused=unused_names("mask_token", "dino_head.*", "ibot_head.*"),
        license="apache-2.0",
    )


FAMILY = Family("meta_dinov2", recognises, read, MARKS)
