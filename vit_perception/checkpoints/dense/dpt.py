"""The DPT authors' own ``.pt`` files: dpt_large (depth), dpt_large-ade20k (segmentation), and DPT
on a ViT-B.

Names as in https://github.com/isl-org/DPT and https://github.com/isl-org/MiDaS (dpt_large_384.pt).
Hybrid files, whose encoder begins with a ResNet, are refused.
"""

import torch

from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.dense.names import (
    CAMERA_SIZE_PX,
    HeadNames,
    encoder_names,
    head_names,
    size_keeping_aspect,
    unused_of_head,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dpt import DptConfig, DptHead
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

HEAD_NAMES = HeadNames(
    project="pretrained.act_postprocess{number}.3",
    resize="pretrained.act_postprocess{number}.4",
    readout="pretrained.act_postprocess{number}.0.project.0",
    level="scratch.layer{number}_rn",
    fusion="scratch.refinenet{refine}",
    fusion_project="out_conv",
    units=("resConfUnit1", "resConfUnit2"),
    convolutions=("conv1", "conv2"),
    norms=("bn1", "bn2"),
    depth=("scratch.output_conv.0", "scratch.output_conv.2", "scratch.output_conv.4"),
    projection="",
    segmentation=("scratch.output_conv.0", "scratch.output_conv.1", "scratch.output_conv.4"),
)
# Blocks by the depth of the encoder.
_BLOCKS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
SIGNATURE_KEYS = (
    "pretrained.model.cls_token",
    "pretrained.model.pos_embed",
    "pretrained.model.blocks.0.attn.qkv.weight",
    "pretrained.act_postprocess3.3.weight",
    "pretrained.act_postprocess4.4.weight",
    "scratch.layer1_rn.weight",
    "scratch.refinenet1.out_conv.weight",
    "scratch.output_conv.4.weight",
)


def encoder_config(files: CheckpointFiles) -> ViTConfig:
    """Read the encoder's shape from its tensors."""
    width, _, patch_px, _ = files.shape("pretrained.model.patch_embed.proj.weight")
    side_px = round((files.shape("pretrained.model.pos_embed")[1] - 1) ** 0.5) * patch_px
    return ViTConfig(
        width=width,
        depth=files.count("pretrained.model.blocks."),
        heads=width // 64,
        mlp_width=files.shape("pretrained.model.blocks.0.mlp.fc1.weight")[0],
        patch_size_px=patch_px,
        image_size_px=(side_px, side_px),
        position_interpolation="bilinear",
    )


def head_config(files: CheckpointFiles, width: int) -> DptConfig:
    """Read the head's shape from its tensors."""
    channels = [
        files.shape(f"pretrained.act_postprocess{number}.3.weight")[0] for number in (1, 2, 3, 4)
    ]
    has_readout = files.has("pretrained.act_postprocess1.0.project.0.weight")
    is_segmentation = files.has("scratch.output_conv.1.running_mean")
    return DptConfig(
        width=width,
        channels=tuple(channels),
        factors=(4, 2, 1, 0.5),
        fusion_channels=files.shape("scratch.layer1_rn.weight")[0],
        readout="project" if has_readout else "ignore",
        residual_bias=files.has("scratch.refinenet1.resConfUnit2.conv1.bias"),
        residual_batch_norm=files.has("scratch.refinenet1.resConfUnit2.bn1.weight"),
        classes=files.shape("scratch.output_conv.4.weight")[0] if is_segmentation else 0,
    )


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model and its head, with the preprocessing of the authors' scripts.

    Raises:
        CheckpointError: It is a hybrid, or the encoder has another depth.
    """
    if any(name.startswith("pretrained.model.patch_embed.backbone.") for name in files.tensors):
        raise CheckpointError(
            f"{files.path} is a DPT-Hybrid: its encoder begins with a ResNet, which is no ViT; "
            "accepted: DPT-Large, or DPT on a ViT-B/16"
        )
    encoder = encoder_config(files)
    if encoder.depth not in _BLOCKS:
        raise CheckpointError(
            f"{files.path} has {encoder.depth} blocks; accepted: {', '.join(map(str, _BLOCKS))}"
        )
    head = head_config(files, encoder.width)
    with torch.device("meta"):
        module = DptHead(head)
    spec = DenseHeadSpec(
        kind="segmentation" if head.classes else "depth",
        blocks=_BLOCKS[encoder.depth],
        module=module,
        quantity="class" if head.classes else "relative_inverse_depth",
        # The file does not name its classes.
        labels=tuple(f"class_{index}" for index in range(head.classes)),
    )
    rule = ResizeRule(size_keeping_aspect((384, 384), CAMERA_SIZE_PX, 32))
    return LoadPlan(
        config=encoder,
        key_map={**encoder_names(encoder), **head_names(head, HEAD_NAMES)},
        preprocessing=Preprocessing(rule, HALF, HALF),
        prefixes=("pretrained.model.",),
        unused=("head.*", "head_dist.*", "auxlayer.*", *unused_of_head(head, HEAD_NAMES)),
        dense=spec,
    )


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the names that DPT-Large and DPT-Hybrid share, to refuse the hybrid by name."""
    return files.has(*SIGNATURE_KEYS[:4], *SIGNATURE_KEYS[5:])


FAMILY = Family(
    name="dpt_original", recognises=recognises, read=read, signature_keys=SIGNATURE_KEYS
)
