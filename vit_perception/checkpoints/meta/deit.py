"""Meta's DeiT and DeiT III files (Touvron et al. 2021, arXiv:2012.12877, and 2022,
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
    own_or_published,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.labels_file import labels_for
from vit_perception.checkpoints.timm import config as timm_config
from vit_perception.checkpoints.timm import vit as timm_vit
from vit_perception.checkpoints.timm.names import SIGNATURE_KEYS as BLOCK_KEYS
from vit_perception.checkpoints.timm.names import key_map

SIGNATURE_KEYS = (*BLOCK_KEYS, "cls_token", "pos_embed", "head.weight")
# Of two parallel branches, or of a stem that is no single convolution.
_OTHER_BLOCKS = ("blocks.0.attn1.qkv.weight", "blocks.0.norm11.weight", "patch_embed.proj.0.weight")


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the file's name, without timm's tag after a dot; DeiT III's also by its tensors.

    A file named by one of timm's architectures with rotary positions has the same tensors and is
    no DeiT.
    """
    if files.config is not None or not files.has("cls_token", "pos_embed", "blocks.0.norm1.weight"):
        return False
    if timm_config.is_unread(timm_config.description_of(files)["architecture"]):
        return False
    if _is_deit3(files) and files.shape("pos_embed")[1] ** 0.5 % 1 == 0:
        return True
    return files.path.stem.startswith("deit") and "." not in files.path.stem


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes.

    Raises:
        CheckpointError: Its blocks have parallel branches.
    """
    other = next((name for name in _OTHER_BLOCKS if name in files.tensors), None)
    if other:
        raise CheckpointError(
            f"{files.path} has parallel branches or a convolutional stem ({other}); accepted: DeiT "
            "and DeiT III models of plain blocks"
        )
    config = timm_vit.config_of(files, {"architecture": "deit"})
    config = replace(config, position_interpolation="bicubic")
    side = config.image_size_px[0]
    rule = centre_crop(side, int(side / (1.0 if _is_deit3(files) else 0.875)))
    published = Preprocessing(rule, IMAGENET_MEAN, IMAGENET_STD)
    return LoadPlan(
        config=config,
        key_map=key_map(config),
        preprocessing=own_or_published(files, published, "DeiT's evaluation transform"),
        labels=labels_for(files, config.classes),
        prefixes=("module.",),
        converters=timm_vit.converters_of(files, config),
        zeros=timm_vit.zeros_of(files, config),
        license="apache-2.0",
    )


def _is_deit3(files: CheckpointFiles) -> bool:
    return "blocks.0.gamma_1" in files.tensors


FAMILY = Family("meta_deit", recognises, read, SIGNATURE_KEYS)
