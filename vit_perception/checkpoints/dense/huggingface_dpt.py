"""Hugging Face ``dpt`` checkpoints (Intel/dpt-large, Intel/dpt-large-ade): depth or segmentation,
on a ViT or a DINOv2.

Files of the encoder alone (DPTModel) load too, without a head. The hybrid models, whose encoder
begins with a ResNet, do not, nor do those on a Swin Transformer or a BEiT.
"""

from collections.abc import Mapping
from typing import Any

import torch

from vit_perception.checkpoints.dense.huggingface import (
    Backbone,
    dense_preprocessing,
    dinov2_backbone,
    required_config,
    tuple_of,
)
from vit_perception.checkpoints.dense.names import HUGGINGFACE, head_names, unused_of_head
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.checkpoints.huggingface import (
    dinov2 as huggingface_dinov2,
)
from vit_perception.checkpoints.huggingface import (
    vit as huggingface_vit,
)
from vit_perception.checkpoints.huggingface.config import labels_of, license_of
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.dpt import DptConfig, DptHead
from vit_perception.model.vision_transformer import ViTConfig

MODEL_TYPE = "dpt"
_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 384,
    "patch_size": 16,
    "layer_norm_eps": 1e-12,
}


def vit_backbone(fields: Mapping[str, Any]) -> Backbone:
    """The ViT whose sizes stand in config.json itself; ``backbone_out_indices`` count its blocks
    from 0.
    """
    shape = huggingface_vit.shape_of(
        {**_DEFAULTS, **{name: value for name, value in fields.items() if value is not None}}
    )
    blocks = tuple(sorted(tuple_of(fields, "backbone_out_indices", (2, 5, 8, 11))))
    return Backbone(ViTConfig(**shape, position_interpolation="bilinear"), blocks, norm=False)


def head_config(fields: Mapping[str, Any], width: int, classes: int) -> DptConfig:
    """The head's shape from config.json. Raises ValueError naming the field."""
    if fields.get("head_in_index", -1) != -1:
        raise InvalidValue(
            f"head_in_index is {fields['head_in_index']!r}; accepted: -1, the finest level"
        )
    readout, activation = fields.get("readout_type", "project"), fields.get("hidden_act", "gelu")
    if readout == "project" and activation != "gelu":
        raise InvalidValue(
            f"hidden_act is {activation!r}; accepted: gelu with readout_type project"
        )
    batch_norm = bool(fields.get("use_batch_norm_in_fusion_residual"))
    bias = fields.get("use_bias_in_fusion_residual")
    return DptConfig(
        width,
        tuple_of(fields, "neck_hidden_sizes", (96, 192, 384, 768)),
        tuple_of(fields, "reassemble_factors", (4, 2, 1, 0.5)),
        fields.get("fusion_hidden_size", 256),
        readout=readout,
        residual_bias=not batch_norm if bias is None else bias,
        residual_batch_norm=batch_norm,
        relu_projection=bool(fields.get("add_projection")) and not classes,
        classes=classes,
    )


def read(found: Found) -> Reading:
    """Model, head, names and preprocessing. Raises CheckpointError naming the file and the
    field.
    """
    fields = required_config(found)
    try:
        if fields.get("is_hybrid"):
            raise InvalidValue(
                "is_hybrid is true (DPT-Hybrid: its encoder begins with a ResNet, which is no "
                "ViT); "
                "accepted: false, as in Intel/dpt-large"
            )
        on_vit = fields.get("backbone_config") is None and fields.get("backbone") is None
        backbone = vit_backbone(fields) if on_vit else dinov2_backbone(fields)
        labels = labels_of(fields) if _is_segmentation(found) else ()
        head = head_config(fields, backbone.config.width, len(labels))
        spec = _spec(found, backbone, head, labels, on_vit)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{found.folder / CONFIG_FILE}: {error}") from error
    rule, mean, std = dense_preprocessing(found, "bicubic")
    names = (huggingface_vit if on_vit else huggingface_dinov2).key_map(backbone.config)
    unused = (
        "pooler.*",
        "embeddings.mask_token",
        "auxiliary_head.*",
        *unused_of_head(head, HUGGINGFACE),
    )
    return Reading(
        backbone.config,
        {**names, **head_names(head, HUGGINGFACE)} if spec else names,
        rule,
        mean,
        std,
        prefixes=("dpt.",) if on_vit else ("backbone.",),
        unused=unused,
        license=license_of(found.folder),
        dense=spec,
    )


def _is_segmentation(found: Found) -> bool:
    return found.has("head.head.1.running_mean")


def _spec(
    found: Found, backbone: Backbone, head: DptConfig, labels: tuple[str, ...], on_vit: bool
) -> DenseHeadSpec | None:
    if not any(name.startswith("neck.") for name in found.tensors):
        return None
    with torch.device("meta"):
        module = DptHead(head)
    # DPT-Large was trained on inverse depth; models on DINOv2 on depth, and their config.json does
    # not say the unit.
    quantity = "class" if labels else "relative_inverse_depth" if on_vit else "depth"
    kind = "segmentation" if labels else "depth"
    return DenseHeadSpec(kind, backbone.blocks, module, backbone.norm, quantity, labels)


MARKS = (
    "neck.reassemble_stage.layers.0.projection.weight",
    "neck.reassemble_stage.readout_projects.0.0.weight",
    "neck.convs.0.weight",
    "neck.fusion_stage.layers.0.projection.weight",
    "head.head.0.weight",
    "dpt.embeddings.cls_token",
    "dpt.encoder.layer.0.layernorm_before.weight",
)


def recognises(found: Found) -> bool:
    """By ``model_type``; without a config.json by the names, so that the missing file is what the
    error is of.
    """
    return (
        found.has(*MARKS) if found.config is None else found.config.get("model_type") == MODEL_TYPE
    )


FAMILY = Family(MODEL_TYPE, recognises, read, MARKS, MODEL_TYPE)
