"""Depth Anything's own ``.pth`` files: V1, V2, and V2 metric, indoors (up to 20 m) and outdoors (up
to 80 m).

Names as in https://github.com/LiheYoung/Depth-Anything and
https://github.com/DepthAnything/Depth-Anything-V2. The files say nothing of themselves: all four
hold the same names and shapes and compute something else with them. The name that a file was
published under tells them apart; one that was renamed needs ``model.family``.
"""

import re
from functools import partial

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
    "depth_head.projects.{level}",
    "depth_head.resize_layers.{level}",
    "depth_head.readout_projects.{level}.0",
    "depth_head.scratch.layer{number}_rn",
    "depth_head.scratch.refinenet{refine}",
    "out_conv",
    ("resConfUnit1", "resConfUnit2"),
    ("conv1", "conv2"),
    ("bn1", "bn2"),
    (
        "depth_head.scratch.output_conv1",
        "depth_head.scratch.output_conv2.0",
        "depth_head.scratch.output_conv2.2",
    ),
    "",
    ("", "", ""),
)
# Blocks by the depth of the encoder: V1 takes the last four, V2 spreads them.
_BLOCKS_V2 = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
# Family -> the file names that it was published under, and the largest depth in m, 0 for relative
# depth.
_PUBLISHED = {
    "depth_anything_v1": (r"depth_anything_vit[sbl]14", 0),
    "depth_anything_v2": (r"depth_anything_v2_vit[sblg]", 0),
    "depth_anything_v2_metric_indoor": (r"depth_anything_v2_metric_hypersim_vit[sblg]", 20),
    "depth_anything_v2_metric_outdoor": (r"depth_anything_v2_metric_vkitti_vit[sblg]", 80),
}
MARKS = (
    "pretrained.cls_token",
    "pretrained.pos_embed",
    "pretrained.blocks.0.attn.qkv.weight",
    "pretrained.blocks.0.ls1.gamma",
    "depth_head.projects.0.weight",
    "depth_head.scratch.layer1_rn.weight",
    "depth_head.scratch.refinenet1.out_conv.weight",
    "depth_head.scratch.output_conv1.weight",
    "depth_head.scratch.output_conv2.2.weight",
)


def encoder_config(found: Found) -> ViTConfig:
    """The DINOv2 inside, from the shapes of its tensors."""
    width, _, patch_px, _ = found.shape("pretrained.patch_embed.proj.weight")
    side_px = round((found.shape("pretrained.pos_embed")[1] - 1) ** 0.5) * patch_px
    swiglu = found.has("pretrained.blocks.0.mlp.w12.weight")
    mlp_width = found.shape(f"pretrained.blocks.0.mlp.{'w3.weight' if swiglu else 'fc2.weight'}")[1]
    return ViTConfig(
        width,
        found.count("pretrained.blocks."),
        width // 64,
        mlp_width,
        patch_px,
        (side_px, side_px),
        activation="swiglu" if swiglu else "gelu",
        layer_scale=True,
        position_interpolation="bicubic_offset",
    )


def head_config(found: Found, encoder: ViTConfig, max_depth_m: int) -> DptConfig:
    """The head's shape, from the shapes of its tensors."""
    channels = tuple(found.shape(f"depth_head.projects.{level}.weight")[0] for level in range(4))
    readout = "project" if found.has("depth_head.readout_projects.0.0.weight") else "ignore"
    return DptConfig(
        encoder.width,
        channels,
        (4, 2, 1, 0.5),
        found.shape("depth_head.scratch.layer1_rn.weight")[0],
        readout=readout,
        patch_size_px=encoder.patch_size_px,
        residual_batch_norm=found.has("depth_head.scratch.refinenet1.resConfUnit2.bn1.weight"),
        hidden_channels=found.shape("depth_head.scratch.output_conv2.0.weight")[0],
        activation="sigmoid" if max_depth_m else "relu",
        scale=max_depth_m or 1,
    )


def read(found: Found, name: str) -> Reading:
    """A file of the family ``name``. Raises CheckpointError where the family has no such size."""
    max_depth_m = _PUBLISHED[name][1]
    encoder = encoder_config(found)
    blocks = tuple(range(encoder.depth - 4, encoder.depth))
    if name != "depth_anything_v1":
        if encoder.depth not in _BLOCKS_V2:
            raise CheckpointError(
                f"{found.path} has {encoder.depth} blocks; accepted for {name}: "
                f"{', '.join(map(str, _BLOCKS_V2))}"
            )
        blocks = _BLOCKS_V2[encoder.depth]
    head = head_config(found, encoder, max_depth_m)
    with torch.device("meta"):
        module = DptHead(head)
    # Sides of at least 518 px; the picture keeps its aspect.
    size_px = size_keeping_aspect((518, 518), CAMERA_SIZE_PX, encoder.patch_size_px, max)
    quantity = "metric_depth" if max_depth_m else "relative_inverse_depth"
    return Reading(
        encoder,
        {**encoder_names(encoder), **head_names(head, SPELLING)},
        ResizeRule(size_px),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        prefixes=("pretrained.",),
        unused=("mask_token", *unused_of_head(head, SPELLING)),
        dense=DenseHeadSpec("depth", blocks, module, norm=True, quantity=quantity),
    )


def recognises(found: Found, name: str) -> bool:
    """By the names of the tensors, and by that of the file."""
    return found.has(*MARKS) and re.fullmatch(_PUBLISHED[name][0], found.path.stem) is not None


def refuse(found: Found) -> Reading:
    """A file that may be of any of the families. Raises CheckpointError."""
    raise CheckpointError(
        f"{found.path} is a Depth Anything file, but of V1, V2 or V2 metric? They have the same "
        f"tensors; accepted: model.family {', '.join(_PUBLISHED)}, or the name that it was "
        "published "
        "under, e.g. depth_anything_v2_vits.pth"
    )


FAMILIES = (
    *(
        Family(name, partial(recognises, name=name), partial(read, name=name), MARKS)
        for name in _PUBLISHED
    ),
    Family("depth_anything_file", lambda found: found.has(*MARKS), refuse, MARKS),
)
