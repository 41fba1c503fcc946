"""Meta's DINO files (Caron et al. 2021, arXiv:2104.14294): released backbones and training
checkpoints.

Source: https://github.com/facebookresearch/dino, vision_transformer.py and eval_linear.py.
Backbones use the names of timm's models, so a file is recognised by a training checkpoint's
prefixes or by its own name, ``dino_…``.
"""

from vit_perception.checkpoints.defaults import own_or_published
from vit_perception.checkpoints.family import Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.meta.names import EVALUATION, bare, unused_names, with_aliases
from vit_perception.checkpoints.timm.names import SIGNATURE_KEYS as BLOCK_KEYS
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.model.vit_config import ViTConfig

SIGNATURE_KEYS = (*BLOCK_KEYS, "cls_token", "pos_embed")


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the prefix ``backbone.`` of a training checkpoint, or by the released files' name."""
    backbone = bare(files)
    if files.config is not None or not backbone.has(*SIGNATURE_KEYS):
        return False
    if "mask_token" in backbone.tensors:
        return False
    return (
        backbone.has("head.last_layer.weight_v")
        or files.path.stem.startswith("dino_")
        or any(name.startswith(("backbone.", "module.backbone.")) for name in files.tensors)
    )


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes. The projection head of pre-training is unused."""
    backbone = bare(files)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    side = round((backbone.shape("pos_embed")[1] - 1) ** 0.5) * patch
    config = ViTConfig(
        width=width,
        depth=backbone.count("blocks."),
        heads=width // 64,
        mlp_width=backbone.shape("blocks.0.mlp.fc1.weight")[0],
        patch_size_px=patch,
        image_size_px=(side, side),
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        position_interpolation="bicubic_offset",
    )
    return LoadPlan(
        config=config,
        key_map=with_aliases(files, key_map(config)),
        preprocessing=own_or_published(files, EVALUATION, "DINO's evaluation transform"),
        unused=unused_names("head.*"),
        license="apache-2.0",
    )


FAMILY = Family("meta_dino", recognises, read, SIGNATURE_KEYS)
