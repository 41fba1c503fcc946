"""Meta's DINO files (Caron et al. 2021, arXiv:2104.14294): released backbones and whole training
checkpoints.

Source: https://github.com/facebookresearch/dino, vision_transformer.py and eval_linear.py.
Backbones have the names of timm's models, so a file is recognised by a training checkpoint's
prefixes or by its name, ``dino_…``.
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

MARKS = (*BLOCK_MARKS, "cls_token", "pos_embed")
PUBLISHED = Preprocessing(centre_crop(224, 256), IMAGENET_MEAN, IMAGENET_STD)


def recognises(found: Found) -> bool:
    """By the prefix ``backbone.`` of a training checkpoint, or by the released files' name."""
    backbone = bare(found)
    if found.config is not None or not backbone.has(*MARKS) or "mask_token" in backbone.tensors:
        return False
    return (
        backbone.has("head.last_layer.weight_v")
        or found.path.stem.startswith("dino_")
        or any(name.startswith(("backbone.", "module.backbone.")) for name in found.tensors)
    )


def read(found: Found) -> Reading:
    """Sizes from the shapes. The projection head of pre-training is unused."""
    backbone = bare(found)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    side = round((backbone.shape("pos_embed")[1] - 1) ** 0.5) * patch
    config = ViTConfig(
        width,
        backbone.count("blocks."),
        width // 64,
        backbone.shape("blocks.0.mlp.fc1.weight")[0],
        patch,
        (side, side),
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        position_interpolation="bicubic_offset",
    )
    rule, mean, std = published_unless_beside(found, PUBLISHED, "DINO's evaluation transform")
    return Reading(
        config,
        spelled(found, key_map(config)),
        rule,
        mean,
        std,
        unused=unused_names("head.*"),
        license="apache-2.0",
    )


FAMILY = Family("meta_dino", recognises, read, MARKS)
