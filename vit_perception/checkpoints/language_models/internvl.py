"""InternViT (arXiv:2312.14238), the image tower of InternVL: 300M and 6B.

Files of transformers (model_type ``internvl``, ``internvl_vision``) and of OpenGVLab
(``intern_vit_6b``, ``internvl_chat``) are read. Projector and language model are known and unused,
so tokens are those of the last block, before pixel shuffle and projector. A picture is one tile.
Sources: transformers, models/internvl; https://github.com/OpenGVLab/InternVL, modeling_intern_vit.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap, linear_and_norm_names
from vit_perception.checkpoints.huggingface.clip import vision_fields
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.files.errors import InvalidValue
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


FAMILY = HuggingFace(
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
        "multi_modal_projector.*",
        "model.multi_modal_projector.*",
        "mlp1.*",
        "lm_head.*",
    ),
    interpolation="bicubic",
).family()
