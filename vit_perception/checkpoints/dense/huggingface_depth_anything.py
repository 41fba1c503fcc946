"""Hugging Face ``depth_anything`` checkpoints: Depth Anything V1, V2 and V2 metric, on a DINOv2.

config.json says which blocks the head takes, and whether depth is metric. V1 and V2 have the same
names.
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
from vit_perception.checkpoints.family import Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.config import license_of, side_px
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dpt import DptConfig, DptHead

MODEL_TYPE = "depth_anything"
HEAD_NAMES = replace(HUGGINGFACE, depth=("head.conv1", "head.conv2", "head.conv3"))
_ACTIVATIONS = {"relative": "relu", "metric": "sigmoid"}


def head_config(fields: Mapping[str, Any], width: int) -> DptConfig:
    """Read the head's shape from config.json.

    Raises:
        ValueError: A field is wrong.
    """
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
        width=width,
        channels=tuple_of(fields, "neck_hidden_sizes", (48, 96, 192, 384)),
        factors=tuple_of(fields, "reassemble_factors", (4, 2, 1, 0.5)),
        fusion_channels=fields.get("fusion_hidden_size", 64),
        patch_size_px=patch_px,
        hidden_channels=fields.get("head_hidden_size", 32),
        activation=_ACTIVATIONS[kind],
        scale=fields.get("max_depth") or 1,
    )


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model and its head.

    Raises:
        CheckpointError: A file is missing, or a field is wrong.
    """
    fields = required_config(files)
    try:
        backbone = dinov2_backbone(fields)
        head = head_config(fields, backbone.config.width)
        with torch.device("meta"):
            module = DptHead(head)
        quantity = "metric_depth" if head.activation == "sigmoid" else "relative_inverse_depth"
        spec = DenseHeadSpec(
            kind="depth",
            blocks=backbone.blocks,
            module=module,
            norm=backbone.norm,
            quantity=quantity,
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{files.folder / CONFIG_FILE}: {error}") from error
    return LoadPlan(
        config=backbone.config,
        key_map={**huggingface_dinov2.key_map(backbone.config), **head_names(head, HEAD_NAMES)},
        preprocessing=dense_preprocessing(files),
        prefixes=("backbone.",),
        unused=("embeddings.mask_token", *unused_of_head(head, HEAD_NAMES)),
        license=license_of(files.folder),
        dense=spec,
    )


SIGNATURE_KEYS = (
    "backbone.embeddings.cls_token",
    "backbone.encoder.layer.0.norm1.weight",
    "neck.reassemble_stage.layers.0.projection.weight",
    "neck.convs.0.weight",
    "neck.fusion_stage.layers.0.projection.weight",
    "head.conv1.weight",
    "head.conv3.weight",
)


def recognises(files: CheckpointFiles) -> bool:
    """Tell by ``model_type``.

    Without a config.json the names decide, so that the error is about the missing file.
    """
    if files.config is None:
        return files.has(*SIGNATURE_KEYS)
    return files.config.get("model_type") == MODEL_TYPE


FAMILY = Family(
    name=MODEL_TYPE,
    recognises=recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type=MODEL_TYPE,
)
