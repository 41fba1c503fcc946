"""Meta's DINOv2 files (Oquab et al. 2023, arXiv:2304.07193), with and without registers
(arXiv:2309.16588).

Source: https://github.com/facebookresearch/dinov2, models/vision_transformer.py, hub/backbones.py
and data/transforms.py. Linear classifiers in files of their own are not read.
"""

from vit_perception.checkpoints.defaults import own_or_published
from vit_perception.checkpoints.family import Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.meta.names import EVALUATION, bare, unused_names, with_aliases
from vit_perception.checkpoints.timm.names import SIGNATURE_KEYS as BLOCK_KEYS
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.model.vit_config import ViTConfig

SIGNATURE_KEYS = (*BLOCK_KEYS, "cls_token", "pos_embed", "mask_token", "blocks.0.ls1.gamma")


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the token for masked patches, which other families' files leave out."""
    return files.config is None and bare(files).has(*SIGNATURE_KEYS)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes."""
    backbone = bare(files)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    side = round((backbone.shape("pos_embed")[1] - 1) ** 0.5) * patch
    is_swiglu = "blocks.0.mlp.w12.weight" in backbone.tensors
    registers = backbone.shape("register_tokens")[1] if "register_tokens" in backbone.tensors else 0
    config = ViTConfig(
        width=width,
        depth=backbone.count("blocks."),
        heads=width // 64,
        mlp_width=backbone.shape(f"blocks.0.mlp.{'w3' if is_swiglu else 'fc2'}.weight")[1],
        patch_size_px=patch,
        image_size_px=(side, side),
        activation="swiglu" if is_swiglu else "gelu",
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        layer_scale=True,
        register_tokens=registers,
        # Meta changed it with the registers.
        position_interpolation="bicubic_antialias" if registers else "bicubic_offset",
    )
    return LoadPlan(
        config=config,
        key_map=with_aliases(files, key_map(config, "mlp.w12" if is_swiglu else "mlp.fc1")),
        preprocessing=own_or_published(files, EVALUATION, "DINOv2's evaluation transform"),
        unused=unused_names("mask_token", "dino_head.*", "ibot_head.*"),
        license="apache-2.0",
    )


FAMILY = Family("meta_dinov2", recognises, read, SIGNATURE_KEYS)
