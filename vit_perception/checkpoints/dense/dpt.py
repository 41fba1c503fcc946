"""The DPT authors' own ``.pt`` files: dpt_large (depth), dpt_large-ade20k (segmentation), and those
on a ViT-B.

Names as in https://github.com/isl-org/DPT and https://github.com/isl-org/MiDaS (dpt_large_384.pt).
The hybrid files, whose encoder begins with a ResNet, are refused.
"""

import torch

from vit_perception.checkpoints.dense.names import (
    CAMERA_SIZE_PX,
    Spelling,
    encoder_names,
    head_names,
    size_keeping_aspect,
    unused_of_head,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import Found
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dpt import DptConfig, DptHead
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

SPELLING = Spelling(
    "pretrained.act_postprocess{number}.3",
    "pretrained.act_postprocess{number}.4",
    "pretrained.act_postprocess{number}.0.project.0",
    "scratch.layer{number}_rn",
    "scratch.refinenet{refine}",
    "out_conv",
    ("resConfUnit1", "resConfUnit2"),
    ("conv1", "conv2"),
    ("bn1", "bn2"),
    ("scratch.output_conv.0", "scratch.output_conv.2", "scratch.output_conv.4"),
    "",
    ("scratch.output_conv.0", "scratch.output_conv.1", "scratch.output_conv.4"),
)
# Blocks by the depth of the encoder.
_BLOCKS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
MARKS = (
    "pretrained.model.cls_token",
    "pretrained.model.pos_embed",
    "pretrained.model.blocks.0.attn.qkv.weight",
    "pretrained.act_postprocess3.3.weight",
    "pretrained.act_postprocess4.4.weight",
    "scratch.layer1_rn.weight",
    "scratch.refinenet1.out_conv.weight",
    "scratch.output_conv.4.weight",
)


def encoder_config(found: Found) -> ViTConfig:
    """The ViT inside, from the shapes of its tensors."""
    width, _, patch_px, _ = found.shape("pretrained.model.patch_embed.proj.weight")
    side_px = round((found.shape("pretrained.model.pos_embed")[1] - 1) ** 0.5) * patch_px
    return ViTConfig(
        width,
        found.count("pretrained.model.blocks."),
        width // 64,
        found.shape("pretrained.model.blocks.0.mlp.fc1.weight")[0],
        patch_px,
        (side_px, side_px),
        position_interpolation="bilinear",
    )


def read(found: Found) -> Reading:
    """Model, head and names; the preprocessing is that of the authors' scripts. Raises
    CheckpointError.
    """
    if any(name.startswith("pretrained.model.patch_embed.backbone.") for name in found.tensors):
        raise CheckpointError(
            f"{found.path} is a DPT-Hybrid: its encoder begins with a ResNet, which is no ViT; "
            "accepted: DPT-Large, or DPT on a ViT-B/16"
        )
    encoder = encoder_config(found)
    if encoder.depth not in _BLOCKS:
        raise CheckpointError(
            f"{found.path} has {encoder.depth} blocks; accepted: {', '.join(map(str, _BLOCKS))}"
        )
    classes = (
        found.shape("scratch.output_conv.4.weight")[0]
        if found.has("scratch.output_conv.1.running_mean")
        else 0
    )
    batch_norm = found.has("scratch.refinenet1.resConfUnit2.bn1.weight")
    channels = tuple(
        found.shape(f"pretrained.act_postprocess{number}.3.weight")[0] for number in (1, 2, 3, 4)
    )
    head = DptConfig(
        encoder.width,
        channels,
        (4, 2, 1, 0.5),
        found.shape("scratch.layer1_rn.weight")[0],
        readout="project"
        if found.has("pretrained.act_postprocess1.0.project.0.weight")
        else "ignore",
        residual_bias=found.has("scratch.refinenet1.resConfUnit2.conv1.bias"),
        residual_batch_norm=batch_norm,
        classes=classes,
    )
    with torch.device("meta"):
        module = DptHead(head)
    # The file does not name its classes.
    labels = tuple(f"class_{index}" for index in range(classes))
    spec = DenseHeadSpec(
        "segmentation" if classes else "depth",
        _BLOCKS[encoder.depth],
        module,
        quantity="class" if classes else "relative_inverse_depth",
        labels=labels,
    )
    size_px = size_keeping_aspect((384, 384), CAMERA_SIZE_PX, 32)
    return Reading(
        encoder,
        {**encoder_names(encoder), **head_names(head, SPELLING)},
        ResizeRule(size_px),
        (0.5,) * 3,
        (0.5,) * 3,
        prefixes=("pretrained.model.",),
        unused=("head.*", "head_dist.*", "auxlayer.*", *unused_of_head(head, SPELLING)),
        dense=spec,
    )


def recognises(found: Found) -> bool:
    """By the names that DPT-Large and DPT-Hybrid have in common, so that the hybrid is refused as
    what it is.
    """
    return found.has(*MARKS[:4], *MARKS[5:])


FAMILY = Family("dpt_original", recognises, read, MARKS)
