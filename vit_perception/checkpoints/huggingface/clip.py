"""Hugging Face ``clip`` checkpoints (openai/clip-vit-*, laion/CLIP-ViT-*): the image tower and its
projection.

Files of the complete model, of CLIPVisionModel (with and without projection) and of
CLIPForImageClassification are read. The text tower is known and unused. transformers applies
``post_layernorm`` to the CLS token alone; here it is the final norm of all tokens, as in every
other family. CLIPForImageClassification never applies it: its classifier sees the mean patch token
of the last block, so such a model has no final norm.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import PROJECTION, Converter, KeyMap, linear_and_norm_names
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    refuse_other_functions,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

# transformers leaves its own defaults out of config.json. They are ViT-B/32's.
_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_channels": 3,
}
BLOCK_LAYERS = {
    "layer_norm1": "norm_attention",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.output",
    "layer_norm2": "norm_mlp",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
# The text tower, what compares both towers, and tables of indices in older files.
TEXT = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias", "embeddings.position_ids")
_OF_TEXTS = ("text_model.", "text_projection.", "logit_scale")
_PROJECTED = ("CLIPModel", "CLIPVisionModelWithProjection")


def vision_fields(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read the image tower's part of config.json; missing fields are ``defaults``.

    Raises:
        ValueError: The tower has other than 3 channels, or computes something else.
    """
    vision = {**defaults, **fields.get("vision_config", fields)}
    refuse_other_functions(vision)
    if vision["num_channels"] != 3:
        raise InvalidValue(f"num_channels is {vision['num_channels']}; accepted: 3")
    return vision


def tower_fields(vision: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of ViTConfig that CLIP and SigLIP share from :func:`vision_fields`."""
    return {
        "width": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        "mlp_width": vision["intermediate_size"],
        "patch_size_px": side_px(vision, "patch_size"),
        "activation": activation_of(vision),
        "norm_eps": eps_of(vision, vision["layer_norm_eps"]),
    }


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json, of the complete model or of its image tower."""
    vision = vision_fields(fields, _DEFAULTS)
    return {
        **tower_fields(vision),
        "image_size_px": size_px(vision, "image_size"),
        "norm_before_blocks": True,
    }


def tower_names(config: ViTConfig) -> dict[str, tuple[str, ...]]:
    """Map the layers that CLIP's and SigLIP's towers share to the model's."""
    layers = {
        f"encoder.layers.{index}.{theirs}": (f"blocks.{index}.{ours}",)
        for index in range(config.depth)
        for theirs, ours in BLOCK_LAYERS.items()
    }
    return {
        "embeddings.patch_embedding": ("patch_embedding.projection",),
        "classifier": ("head",),
        **layers,
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    # Files write "layrnorm".
    layers = {**tower_names(config), "pre_layrnorm": ("norm_before",)}
    if config.final_norm:
        layers["post_layernorm"] = ("norm",)
    return {
        "embeddings.class_embedding": ("cls_token",),
        "embeddings.position_embedding.weight": ("position_embedding",),
        "visual_projection.weight": (PROJECTION,),
        **linear_and_norm_names(layers),
    }


def converters(config: ViTConfig) -> Mapping[str, Converter]:
    """Give the CLS token (D,) and the positions (1 + P, D) the model's shapes."""
    return {
        "cls_token": lambda tensor: tensor.reshape(1, 1, -1),
        "position_embedding": lambda tensor: tensor[None],
    }


def requires_projection(files: CheckpointFiles) -> bool:
    """Tell whether the file is of the complete model, or of a tower with a projection."""
    named = files.config.get("architectures") if files.config else None
    return any(name.startswith(_OF_TEXTS) for name in files.tensors) or (
        isinstance(named, list) and any(name in named for name in _PROJECTED)
    )


FAMILY = HuggingFace(
    model_type="clip",
    other_types=("clip_vision_model",),
    prefixes=("vision_model.",),
    signature_keys=(
        "embeddings.class_embedding",
        "embeddings.patch_embedding.weight",
        "embeddings.position_embedding.weight",
        "pre_layrnorm.weight",
        "encoder.layers.0.layer_norm1.weight",
        "encoder.layers.0.self_attn.q_proj.weight",
        "post_layernorm.weight",
    ),
    config_fields=config_fields,
    key_map=key_map,
    unused=(*TEXT, "post_layernorm.weight", "post_layernorm.bias"),
    head_pooling="mean",
    with_head={"final_norm": False},
    interpolation="bicubic",
    converters=converters,
    zeros=lambda config: {"patch_embedding.projection.bias": (config.width,)},
    requires_projection=requires_projection,
).family()
