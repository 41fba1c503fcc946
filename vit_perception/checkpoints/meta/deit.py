"""Meta's DeiT files (Touvron et al. 2021, arXiv:2012.12877) and DeiT III's (2022,
arXiv:2204.07118).

Source: https://github.com/facebookresearch/deit, models.py, models_v2.py and datasets.py. The names
are timm's (the repository builds on it), so a file is recognised by its own name, ``deit_…``, or by
DeiT III's factors.
"""

from dataclasses import replace

from vit_perception.checkpoints.defaults import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
    published_unless_beside,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.labels_file import labels_beside
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.timm import config as timm_config
from vit_perception.checkpoints.timm import vit as timm_vit
from vit_perception.checkpoints.timm.names import MARKS as BLOCK_MARKS
from vit_perception.checkpoints.timm.names import key_map

MARKS = (*BLOCK_MARKS, "cls_token", "pos_embed", "head.weight")
# Of two branches side by side, or blocks of a stem that is no single convolution.
_OTHER_BLOCKS = ("blocks.0.attn1.qkv.weight", "blocks.0.norm11.weight", "patch_embed.proj.0.weight")


def recognises(found: Found) -> bool:
    """By the file's name, without timm's tag behind a dot; DeiT III's also by its tensors.

    A file that is named by one of timm's architectures with rotary positions has the same tensors
    and is none.
    """
    if found.config is not None or not found.has("cls_token", "pos_embed", "blocks.0.norm1.weight"):
        return False
    if timm_config.is_unread(timm_config.description_of(found)["architecture"]):
        return False
    is_deit3 = "blocks.0.gamma_1" in found.tensors and found.shape("pos_embed")[1] ** 0.5 % 1 == 0
    return is_deit3 or (found.path.stem.startswith("deit") and "." not in found.path.stem)


def read(found: Found) -> Reading:
    """Sizes from the shapes. Raises CheckpointError for blocks with parallel branches."""
    other = next((name for name in _OTHER_BLOCKS if name in found.tensors), None)
    if other:
        raise CheckpointError(
            f"{found.path} has parallel branches or a convolutional stem ({other}); accepted: DeiT "
            "and DeiT III models of plain blocks"
        )
    config = replace(
        timm_vit.config_of(found, {"architecture": "deit"}), position_interpolation="bicubic"
    )
    is_deit3 = "blocks.0.gamma_1" in found.tensors
    side = config.image_size_px[0]
    published = Preprocessing(
        centre_crop(side, int(side / (1.0 if is_deit3 else 0.875))), IMAGENET_MEAN, IMAGENET_STD
    )
    rule, mean, std = published_unless_beside(found, published, "DeiT's evaluation transform")
    return Reading(
        config,
        key_map(config),
        rule,
        mean,
        std,
        labels_beside(found, config.classes) if config.classes else (),
        prefixes=("module.",),
        converters=timm_vit.converters_of(found, config),
        zeros=timm_vit.zeros_of(found, config),
        license="apache-2.0",
    )


FAMILY = Family("meta_deit", recognises, read, MARKS)
