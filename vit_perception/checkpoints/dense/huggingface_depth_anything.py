"""Hugging Face ``depth_anything`` checkpoints: Depth Anything V1, V2 and V2 metric, on a DINOv2.

Which blocks the head takes, and whether depth is metric, stand in config.json. V1 and V2 have the
same names.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vit_perception.checkpoints.dense.huggingface import (
    dense_preprocessing,
    dinov2_backbone,
    required_config,
    tuple_of,
)
from vit_perception.checkpoints.dense.names import HUGGINGFACE, head_names, unused_of_head
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.config import license_of, side_px
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dpt import DptConfig, DptHead

MODEL_TYPE = "depth_anything"
SPELLING = replace(HUGGINGFACE, depth=("head.conv1", "head.conv2", "head.conv3"))
_ACTIVATIONS = {"relative": "relu", "metric": "sigmoid"}


def head_config(fields: Mapping[str, Any], width: int) -> DptConfig:
    """The head's shape from config.json. Raises ValueError naming the field."""
    kind = fields.get("depth_estimation_type", "relative")
    if kind not in _ACTIVATIONS:
        raise InvalidValue(
            f"depth_estimation_type is {kind!r}; accepted: {', '.join(_ACTIVATIONS)}"
        )
    if fields.get("head_in_index", -1) != -1:
        raise InvalidValue(
            f"head_in_index is {fields['head_in_index']!r}; accepted: -1, the finest level"
        )
    patch_px = side_px(fields, "patch_size") if "patch_size" in fields else 14
    return DptConfig(
        width,
        tuple_of(fields, "neck_hidden_sizes", (48, 96, 192, 384)),
        tuple_of(fields, "reassemble_factors", (4, 2, 1, 0.5)),
        fields.get("fusion_hidden_size", 64),
        patch_size_px=patch_px,
        hidden_channels=fields.get("head_hidden_size", 32),
        activation=_ACTIVATIONS[kind],
        scale=fields.get("max_depth") or 1,
    )


def read(found: Found) -> Reading:
    """Model, head, names and preprocessing. Raises CheckpointError naming the file and the
    field.
    """
    fields = required_config(found)
    try:
        backbone = dinov2_backbone(fields)
        head = head_config(fields, backbone.config.width)
        with torch.device("meta"):
            module = DptHead(head)
        quantity = "metric_depth" if head.activation == "sigmoid" else "relative_inverse_depth"
        spec = DenseHeadSpec("depth", backbone.blocks, module, backbone.norm, quantity)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{found.folder / CONFIG_FILE}: {error}") from error
    rule, mean, std = dense_preprocessing(found, "bicubic")
    return Reading(
        backbone.config,
        {**huggingface_dinov2.key_map(backbone.config), **head_names(head, SPELLING)},
        rule,
        mean,
        std,
        prefixes=("backbone.",),
        unused=("embeddings.mask_token", *unused_of_head(head, SPELLING)),
        license=license_of(found.folder),
        dense=spec,
    )


MARKS = (
    "backbone.embeddings.cls_token",
    "backbone.encoder.layer.0.norm1.weight",
    "neck.reassemble_stage.layers.0.projection.weight",
    "neck.convs.0.weight",
    "neck.fusion_stage.layers.0.projection.weight",
    "head.conv1.weight",
    "head.conv3.weight",
)


def recognises(found: Found) -> bool:
    """By ``model_type``; without a config.json by the names, so that the missing file is what the
    error is of.
    """
    return (
        found.has(*MARKS) if found.config is None else found.config.get("model_type") == MODEL_TYPE
    )


FAMILY = Family(MODEL_TYPE, recognises, read, MARKS, MODEL_TYPE)
