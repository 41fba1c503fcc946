"""Depth Anything's own ``.pth`` files: V1, V2, and V2 metric, indoors (up to 20 m) and outdoors (up
to 80 m).

Names as in https://github.com/LiheYoung/Depth-Anything and
https://github.com/DepthAnything/Depth-Anything-V2. All four hold the same names and shapes, and
compute something else with them. The name that a file was published under tells them apart; a
renamed file needs ``model.family``.
"""

import re
from functools import partial
from typing import NamedTuple

import torch

from vit_perception.checkpoints.defaults import IMAGENET_MEAN, IMAGENET_STD
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
    project="depth_head.projects.{level}",
    resize="depth_head.resize_layers.{level}",
    readout="depth_head.readout_projects.{level}.0",
    level="depth_head.scratch.layer{number}_rn",
    fusion="depth_head.scratch.refinenet{refine}",
    fusion_project="out_conv",
    units=("resConfUnit1", "resConfUnit2"),
    convolutions=("conv1", "conv2"),
    norms=("bn1", "bn2"),
    depth=(
        "depth_head.scratch.output_conv1",
        "depth_head.scratch.output_conv2.0",
        "depth_head.scratch.output_conv2.2",
    ),
    projection="",
    segmentation=("", "", ""),
)
# Blocks by the depth of the encoder: V1 takes the last four, V2 spreads them.
_BLOCKS_V2 = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}


class _Published(NamedTuple):
    # A pattern of the names that files were published under, without suffix.
    stem: str
    # The largest depth; 0 for relative depth.
    max_depth_m: int


# By family.
_PUBLISHED = {
    "depth_anything_v1": _Published(r"depth_anything_vit[sbl]14", 0),
    "depth_anything_v2": _Published(r"depth_anything_v2_vit[sblg]", 0),
    "depth_anything_v2_metric_indoor": _Published(
        r"depth_anything_v2_metric_hypersim_vit[sblg]", 20
    ),
    "depth_anything_v2_metric_outdoor": _Published(
        r"depth_anything_v2_metric_vkitti_vit[sblg]", 80
    ),
}
SIGNATURE_KEYS = (
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


def encoder_config(files: CheckpointFiles) -> ViTConfig:
    """Read the shape of the DINOv2 from its tensors."""
    width, _, patch_px, _ = files.shape("pretrained.patch_embed.proj.weight")
    side_px = round((files.shape("pretrained.pos_embed")[1] - 1) ** 0.5) * patch_px
    swiglu = files.has("pretrained.blocks.0.mlp.w12.weight")
    return ViTConfig(
        width=width,
        depth=files.count("pretrained.blocks."),
        heads=width // 64,
        mlp_width=files.shape(f"pretrained.blocks.0.mlp.{'w3' if swiglu else 'fc2'}.weight")[1],
        patch_size_px=patch_px,
        image_size_px=(side_px, side_px),
        activation="swiglu" if swiglu else "gelu",
        layer_scale=True,
        position_interpolation="bicubic_offset",
    )


def head_config(files: CheckpointFiles, encoder: ViTConfig, max_depth_m: int) -> DptConfig:
    """Read the head's shape from its tensors."""
    channels = [files.shape(f"depth_head.projects.{level}.weight")[0] for level in range(4)]
    has_readout = files.has("depth_head.readout_projects.0.0.weight")
    return DptConfig(
        width=encoder.width,
        channels=tuple(channels),
        factors=(4, 2, 1, 0.5),
        fusion_channels=files.shape("depth_head.scratch.layer1_rn.weight")[0],
        readout="project" if has_readout else "ignore",
        patch_size_px=encoder.patch_size_px,
        residual_batch_norm=files.has("depth_head.scratch.refinenet1.resConfUnit2.bn1.weight"),
        hidden_channels=files.shape("depth_head.scratch.output_conv2.0.weight")[0],
        activation="sigmoid" if max_depth_m else "relu",
        scale=max_depth_m or 1,
    )


def read(files: CheckpointFiles, name: str) -> LoadPlan:
    """Plan a file of the family ``name``.

    Raises:
        CheckpointError: The family has no such size, or a tensor is missing.
    """
    max_depth_m = _PUBLISHED[name].max_depth_m
    encoder = encoder_config(files)
    blocks = tuple(range(encoder.depth - 4, encoder.depth))
    if name != "depth_anything_v1":
        if encoder.depth not in _BLOCKS_V2:
            raise CheckpointError(
                f"{files.path} has {encoder.depth} blocks; accepted for {name}: "
                f"{', '.join(map(str, _BLOCKS_V2))}"
            )
        blocks = _BLOCKS_V2[encoder.depth]
    head = head_config(files, encoder, max_depth_m)
    with torch.device("meta"):
        module = DptHead(head)
    spec = DenseHeadSpec(
        kind="depth",
        blocks=blocks,
        module=module,
        norm=True,
        quantity="metric_depth" if max_depth_m else "relative_inverse_depth",
    )
    # Sides of at least 518 px; the image keeps its aspect.
    size_px = size_keeping_aspect((518, 518), CAMERA_SIZE_PX, encoder.patch_size_px, max)
    return LoadPlan(
        config=encoder,
        key_map={**encoder_names(encoder), **head_names(head, HEAD_NAMES)},
        preprocessing=Preprocessing(ResizeRule(size_px), IMAGENET_MEAN, IMAGENET_STD),
        prefixes=("pretrained.",),
        unused=("mask_token", *unused_of_head(head, HEAD_NAMES)),
        dense=spec,
    )


def recognises(files: CheckpointFiles, name: str) -> bool:
    """Tell by the names of the tensors and of the file."""
    is_named = re.fullmatch(_PUBLISHED[name].stem, files.path.stem) is not None
    return is_named and files.has(*SIGNATURE_KEYS)


def refuse(files: CheckpointFiles) -> LoadPlan:
    """Refuse a file that may be of any of the families.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(
        f"{files.path} is a Depth Anything file, but of V1, V2 or V2 metric? They have the same "
        f"tensors; accepted: model.family {', '.join(_PUBLISHED)}, or the name that it was "
        "published under, e.g. depth_anything_v2_vits.pth"
    )


def _family(name: str) -> Family:
    return Family(name, partial(recognises, name=name), partial(read, name=name), SIGNATURE_KEYS)


FAMILIES = (
    *map(_family, _PUBLISHED),
    Family("depth_anything_file", lambda files: files.has(*SIGNATURE_KEYS), refuse, SIGNATURE_KEYS),
)
