"""Hugging Face ``dpt`` checkpoints (Intel/dpt-large, Intel/dpt-large-ade): depth or segmentation,
on a ViT or a DINOv2.

Files of the encoder alone (DPTModel) load too, without a head. Hybrid models, whose encoder begins
with a ResNet, and models on a Swin Transformer or a BEiT are refused.
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
from vit_perception.checkpoints.family import Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
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
from vit_perception.model.vit_config import ViTConfig

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
    """Read the ViT whose sizes are in config.json itself.

    ``backbone_out_indices`` count its blocks from 0.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    sizes = huggingface_vit.config_fields(_DEFAULTS | given)
    config = ViTConfig(**sizes, position_interpolation="bilinear")
    blocks = tuple(sorted(tuple_of(fields, "backbone_out_indices", (2, 5, 8, 11))))
    return Backbone(config, blocks, norm=False)


def head_config(fields: Mapping[str, Any], width: int, classes: int) -> DptConfig:
    """Read the head's shape from config.json.

    Raises:
        ValueError: A field is wrong.
    """
    if fields.get("head_in_index", -1) != -1:
        raise InvalidValue(
            f"head_in_index is {fields['head_in_index']!r}; accepted: -1, the finest level"
        )
    readout = fields.get("readout_type", "project")
    activation = fields.get("hidden_act", "gelu")
    if readout == "project" and activation != "gelu":
        raise InvalidValue(
            f"hidden_act is {activation!r}; accepted: gelu with readout_type project"
        )
    batch_norm = bool(fields.get("use_batch_norm_in_fusion_residual"))
    bias = fields.get("use_bias_in_fusion_residual")
    return DptConfig(
        width=width,
        channels=tuple_of(fields, "neck_hidden_sizes", (96, 192, 384, 768)),
        factors=tuple_of(fields, "reassemble_factors", (4, 2, 1, 0.5)),
        fusion_channels=fields.get("fusion_hidden_size", 256),
        readout=readout,
        residual_bias=not batch_norm if bias is None else bias,
        residual_batch_norm=batch_norm,
        relu_projection=bool(fields.get("add_projection")) and not classes,
        classes=classes,
    )


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model and its head.

    Raises:
        CheckpointError: A file is missing, or a field is wrong.
    """
    fields = required_config(files)
    try:
        if fields.get("is_hybrid"):
            raise InvalidValue(
                "is_hybrid is true (DPT-Hybrid: its encoder begins with a ResNet, which is no "
                "ViT); accepted: false, as in Intel/dpt-large"
            )
        on_vit = fields.get("backbone_config") is None and fields.get("backbone") is None
        backbone = vit_backbone(fields) if on_vit else dinov2_backbone(fields)
        labels = labels_of(fields) if _is_segmentation(files) else ()
        head = head_config(fields, backbone.config.width, len(labels))
        spec = _spec(files, backbone, head, labels, on_vit)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{files.folder / CONFIG_FILE}: {error}") from error
    names = (huggingface_vit if on_vit else huggingface_dinov2).key_map(backbone.config)
    unused = (
        "pooler.*",
        "embeddings.mask_token",
        "auxiliary_head.*",
        *unused_of_head(head, HUGGINGFACE),
    )
    return LoadPlan(
        config=backbone.config,
        key_map={**names, **head_names(head, HUGGINGFACE)} if spec else names,
        preprocessing=dense_preprocessing(files),
        prefixes=("dpt.",) if on_vit else ("backbone.",),
        unused=unused,
        license=license_of(files.folder),
        dense=spec,
    )


def _is_segmentation(files: CheckpointFiles) -> bool:
    return files.has("head.head.1.running_mean")


def _spec(
    files: CheckpointFiles,
    backbone: Backbone,
    head: DptConfig,
    labels: tuple[str, ...],
    on_vit: bool,
) -> DenseHeadSpec | None:
    if not any(name.startswith("neck.") for name in files.tensors):
        return None
    with torch.device("meta"):
        module = DptHead(head)
    # DPT-Large was trained on inverse depth, models on DINOv2 on depth; config.json does not say
    # the unit.
    quantity = "class" if labels else "relative_inverse_depth" if on_vit else "depth"
    kind = "segmentation" if labels else "depth"
    return DenseHeadSpec(
        kind=kind,
        blocks=backbone.blocks,
        module=module,
        norm=backbone.norm,
        quantity=quantity,
        labels=labels,
    )


SIGNATURE_KEYS = (
    "neck.reassemble_stage.layers.0.projection.weight",
    "neck.reassemble_stage.readout_projects.0.0.weight",
    "neck.convs.0.weight",
    "neck.fusion_stage.layers.0.projection.weight",
    "head.head.0.weight",
    "dpt.embeddings.cls_token",
    "dpt.encoder.layer.0.layernorm_before.weight",
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
