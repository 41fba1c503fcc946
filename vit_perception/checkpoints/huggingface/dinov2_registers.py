"""Hugging Face ``dinov2_with_registers`` checkpoints (facebook/dinov2-with-registers-*): one name
more.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vision_transformer import ViTConfig


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's."""
    return {
        **huggingface_dinov2.shape_of(fields),
        "register_tokens": fields.get("num_register_tokens", 4),
        "position_interpolation": "bicubic_antialias",
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Every name a file may use -> the model's name."""
    return {
        **huggingface_dinov2.key_map(config),
        "embeddings.register_tokens": ("register_tokens",),
    }


FAMILY = HuggingFace(
    model_type="dinov2_with_registers",
    prefixes=("dinov2_with_registers.",),
    marks=("embeddings.register_tokens", *huggingface_dinov2.MARKS),
    shape_of=shape_of,
    key_map=key_map,
    unused=("embeddings.mask_token",),
    head_pooling="cls_mean",
    interpolation="bicubic",
).family()
