"""Hugging Face ``clip`` checkpoints (openai/clip-vit-*, laion/CLIP-ViT-*): the image tower and its
projection.

Files of the whole model, of CLIPVisionModel (with and without projection) and of
CLIPForImageClassification are read; the text tower is known and unused. transformers applies
``post_layernorm`` to the CLS token alone; here, as in every other family, it is the final norm of
all tokens. CLIPForImageClassification never applies it: its classifier sees the mean of the patch
tokens as the last block leaves them, so such a model has no final norm.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.family import PROJECTION, KeyMap, linear_and_norm_names
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    refuse_other_functions,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vision_transformer import ViTConfig

# transformers leaves out of config.json what is as in its own defaults, which are ViT-B/32's.
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
# The other tower, what compares both, and tables of indices that older files hold.
TEXT = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias", "embeddings.position_ids")

_OF_TEXTS = ("text_model.", "text_projection.", "logit_scale")
_PROJECTED = ("CLIPModel", "CLIPVisionModelWithProjection")


def vision_fields(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The image tower's part of config.json, filled up by ``defaults``. Raises ValueError for other
    than 3 channels.
    """
    vision = {**defaults, **fields.get("vision_config", fields)}
    refuse_other_functions(vision)
    if vision["num_channels"] != 3:
        raise InvalidValue(f"num_channels is {vision['num_channels']}; accepted: 3")
    return vision


def tower_shape(vision: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields that CLIP and SigLIP share, from the image tower's part of config.json."""
    return {
        "width": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        "mlp_width": vision["intermediate_size"],
        "patch_size_px": side_px(vision, "patch_size"),
        "activation": activation_of(vision),
        "norm_eps": eps_of(vision, vision["layer_norm_eps"]),
    }


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's, of the whole model or of the image tower alone."""
    vision = vision_fields(fields, _DEFAULTS)
    return {
        **tower_shape(vision),
        "image_size_px": size_px(vision, "image_size"),
        "norm_before_blocks": True,
    }


def tower_names(config: ViTConfig) -> dict[str, tuple[str, ...]]:
    """The layers that CLIP's and SigLIP's towers share: file's layer -> the model's."""
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
    """Every name a file may use -> the model's name."""
    # "layrnorm" is how the files spell it.
    layers = {**tower_names(config), "pre_layrnorm": ("norm_before",)}
    if config.final_norm:
        layers["post_layernorm"] = ("norm",)
    return {
        "embeddings.class_embedding": ("cls_token",),
        "embeddings.position_embedding.weight": ("position_embedding",),
        "visual_projection.weight": (PROJECTION,),
        **linear_and_norm_names(layers),
    }


def converters(config: ViTConfig) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """The CLS token (D,) and the positions (1 + P, D) as the model holds them."""
    return {
        "cls_token": lambda tensor: tensor.reshape(1, 1, -1),
        "position_embedding": lambda tensor: tensor[None],
    }


def is_projected(found: Found) -> bool:
    """Whether the file must hold a projection: it is of the whole model, or of a tower with one."""
    named = found.config.get("architectures") if found.config else None
    return any(name.startswith(_OF_TEXTS) for name in found.tensors) or (
        isinstance(named, list) and any(name in named for name in _PROJECTED)
    )


FAMILY = HuggingFace(
    model_type="clip",
    other_types=("clip_vision_model",),
    prefixes=("vision_model.",),
    marks=(
        "embeddings.class_embedding",
        "embeddings.patch_embedding.weight",
        "embeddings.position_embedding.weight",
        "pre_layrnorm.weight",
        "encoder.layers.0.layer_norm1.weight",
        "encoder.layers.0.self_attn.q_proj.weight",
        "post_layernorm.weight",
    ),
    shape_of=shape_of,
    key_map=key_map,
    unused=(*TEXT, "post_layernorm.weight", "post_layernorm.bias"),
    head_pooling="mean",
    with_head={"final_norm": False},
    interpolation="bicubic",
    converters=converters,
    zeros=lambda config: {"patch_embedding.projection.bias": (config.width,)},
    projected=is_projected,
).family()
