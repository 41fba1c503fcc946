"""InternViT (arXiv:2312.14238), the image tower of InternVL: 300M and 6B.

Files of transformers (model_type ``internvl``, ``internvl_vision``) and of OpenGVLab
(``intern_vit_6b``, ``internvl_chat``) are read. Tokens are those of the last block; in a whole
model pixel shuffle and projector stand behind them, as the connector. The language model is known
and unused. A picture is one tile.
Sources: transformers, models/internvl; https://github.com/OpenGVLab/InternVL, modeling_intern_vit.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import CONNECTOR, KeyMap, LoadPlan, linear_and_norm_names
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.clip import vision_fields
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    number_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.checkpoints.policies.policy_files import refuse_unmerged, require
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.connectors import ConnectorSpec
from vit_perception.model.vit_config import ViTConfig

# transformers leaves its own defaults out of config.json.
_DEFAULTS = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": (448, 448),
    "patch_size": (14, 14),
    "layer_norm_eps": 1e-6,
    "num_channels": 3,
}
_NORMS = {"layer_norm": "layer", "rms_norm": "rms"}
_BLOCK_LAYERS = {
    "layernorm_before": "norm_attention",
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.q_norm": "attention.query_norm",
    "attention.k_norm": "attention.key_norm",
    "attention.projection_layer": "attention.output",
    "layernorm_after": "norm_mlp",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
_BLOCK_LAYERS_OPENGVLAB = {
    "norm1": "norm_attention",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "attn.proj": "attention.output",
    "norm2": "norm_mlp",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
_QUERY_KEY_VALUE = ("query", "key", "value")
_OPENGVLAB = ("intern_vit_6b", "internvl_chat")
# The projector's norm and both linear layers: transformers' names, and OpenGVLab's.
PROJECTOR = "multi_modal_projector."
_PROJECTORS = {
    PROJECTOR: ("layer_norm", "linear_1", "linear_2"),
    f"model.{PROJECTOR}": ("layer_norm", "linear_1", "linear_2"),
    "mlp1.": ("0", "1", "3"),
}
# torch's own, which neither code changes.
PROJECTOR_EPS = 1e-5
_RATIO = 0.5


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json, of the complete model or of its image tower.

    Raises:
        ValueError: A field is wrong, or the tower is none of the published kind.
    """
    vision = vision_fields(fields, _DEFAULTS)
    is_opengvlab = fields.get("model_type") in _OPENGVLAB
    for name in ("vision_feature_layer", "select_layer"):
        if fields.get(name, -1) != -1:
            raise InvalidValue(
                f"{name} is {fields[name]!r:.80}; accepted: -1, the last block (of a tower alone, "
                "model.block takes another)"
            )
    norm = vision.get("norm_type", "rms_norm" if is_opengvlab else "layer_norm")
    if norm not in _NORMS:
        raise InvalidValue(f"norm_type is {norm!r:.80}; accepted: {', '.join(_NORMS)}")
    if not flag_of(vision, "use_absolute_position_embeddings", True):
        raise InvalidValue("use_absolute_position_embeddings is false; accepted: true")
    # Of transformers alone: the norm is there where the patches are not averaged.
    final_norm = not is_opengvlab and not flag_of(vision, "use_mean_pooling", True)
    if final_norm and norm == "rms_norm":
        raise InvalidValue("use_mean_pooling is false with norm_type rms_norm; accepted: true")
    names = ("qkv_bias", "qk_normalization") if is_opengvlab else ("attention_bias", "use_qk_norm")
    return {
        "width": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        "mlp_width": vision["intermediate_size"],
        "patch_size_px": side_px(vision, "patch_size"),
        "image_size_px": size_px(vision, "image_size"),
        "activation": activation_of(vision),
        "qkv_bias": flag_of(vision, names[0], False),
        "qk_norm": flag_of(vision, names[1], is_opengvlab),
        "norm": _NORMS[norm],
        "norm_eps": eps_of(vision, vision["layer_norm_eps"]),
        "layer_scale": True,
        "final_norm": final_norm,
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    embedding = ("patch_embedding.projection",)
    layers: dict[str, tuple[str, ...]] = {
        "embeddings.patch_embeddings.projection": embedding,
        "embeddings.patch_embedding": embedding,
    }
    if config.final_norm:
        layers["layernorm"] = ("norm",)
    names: dict[str, tuple[str, ...]] = {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.class_embedding": ("cls_token",),
        "embeddings.position_embeddings": ("position_embedding",),
        "embeddings.position_embedding": ("position_embedding",),
    }
    for index in range(config.depth):
        block = f"blocks.{index}"
        for theirs, ours in _BLOCK_LAYERS.items():
            layers[f"encoder.layer.{index}.{theirs}"] = (f"{block}.{ours}",)
        names[f"encoder.layer.{index}.lambda_1"] = (f"{block}.scale_attention.factor",)
        names[f"encoder.layer.{index}.lambda_2"] = (f"{block}.scale_mlp.factor",)
        theirs = f"encoder.layers.{index}"
        for layer, ours in _BLOCK_LAYERS_OPENGVLAB.items():
            layers[f"{theirs}.{layer}"] = (f"{block}.{ours}",)
        layers[f"{theirs}.attn.qkv"] = tuple(
            f"{block}.attention.{part}" for part in _QUERY_KEY_VALUE
        )
        names[f"{theirs}.ls1"] = (f"{block}.scale_attention.factor",)
        names[f"{theirs}.ls2"] = (f"{block}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


def projector_names(prefix: str, theirs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Map the projector's names, which begin with ``prefix``, to the connector's."""
    ours = ("norm", "layers.0", "layers.1")
    return linear_and_norm_names(
        {f"{prefix}{name}": (f"{CONNECTOR}{target}",) for name, target in zip(theirs, ours)}
    )


def connector_of(files: CheckpointFiles, matrices: tuple[str, str], width: int) -> ConnectorSpec:
    """Read the connector's shape from its two ``matrices``, behind a tower of ``width`` channels.

    Raises:
        CheckpointError: One is missing.
        ValueError: They are no connector of this tower.
    """
    for name in matrices:
        require(files, name, "the projector behind the image tower")
    taken = files.shape(matrices[0])[1]
    spec = ConnectorSpec(
        widths=(taken, files.shape(matrices[0])[0], files.shape(matrices[1])[0]),
        shuffle=max(1, round((taken / width) ** 0.5)),
        norm="layer",
        norm_place="square",
        norm_eps=PROJECTOR_EPS,
    )
    spec.check_tower(width)
    return spec


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the tower, and of a whole model the projector.

    Raises:
        CheckpointError: As of :class:`HuggingFace`; or a whole model has an adapter, no projector,
            or another way from the tower to it.
    """
    refuse_unmerged(files)
    plan = BASE.read(files)
    fields = files.config or {}
    held = [
        prefix for prefix in _PROJECTORS if any(name.startswith(prefix) for name in files.tensors)
    ]
    if not held and "vision_config" not in fields:
        return plan
    if len(held) != 1:
        raise CheckpointError(
            f"{files.path} has {', '.join(held) or 'no ' + ' or '.join(_PROJECTORS)}: the "
            "connector between image tower and language model; accepted: the complete model, with "
            "one"
        )
    theirs = _PROJECTORS[held[0]]
    try:
        ratio = _check_way(fields)
        matrices = (f"{held[0]}{theirs[1]}.weight", f"{held[0]}{theirs[2]}.weight")
        connector = connector_of(files, matrices, plan.config.width)
        if connector.shuffle * ratio != 1:
            raise InvalidValue(
                f"downsample_ratio is {ratio} and {matrices[0]} takes squares of "
                f"{connector.shuffle} patches; accepted: the projector of this ratio"
            )
        connector.grid_of(plan.config.grid_of(*plan.preprocessing.rule.network_size_px))
    except InvalidValue as error:
        raise CheckpointError(f"{files.path}: {error}") from error
    return replace(
        plan,
        connector=connector,
        key_map={**plan.key_map, **projector_names(held[0], theirs)},
    )


def _check_way(fields: Mapping[str, Any]) -> float:
    """Refuse what changes the way from the tower to the projector; give ``downsample_ratio``."""
    for name, accepted in (
        ("projector_hidden_act", "gelu"),
        ("vision_feature_select_strategy", "default"),
        ("ps_version", "v2"),
    ):
        if fields.get(name, accepted) != accepted:
            raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: {accepted}")
    return number_of(fields, "downsample_ratio", _RATIO, 1 / 16, 1.0)


BASE = HuggingFace(
    model_type="internvl",
    other_types=("internvl_vision", *_OPENGVLAB),
    prefixes=("model.vision_tower.", "vision_tower.", "vision_model."),
    signature_keys=(
        "embeddings.cls_token",
        "embeddings.patch_embeddings.projection.weight",
        "embeddings.position_embeddings",
        "encoder.layer.0.attention.projection_layer.weight",
        "encoder.layer.0.layernorm_before.weight",
        "encoder.layer.0.lambda_1",
        "encoder.layer.0.mlp.fc1.weight",
    ),
    config_fields=config_fields,
    key_map=key_map,
    unused=(
        "embeddings.mask_token",
        "language_model.*",
        "model.language_model.*",
        "lm_head.*",
    ),
    interpolation="bicubic",
)
FAMILY = replace(BASE.family(), read=read)
