"""Hugging Face ``dinov2_with_registers`` checkpoints (facebook/dinov2-with-registers-*)."""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vit_config import ViTConfig


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json."""
    return {
        **huggingface_dinov2.config_fields(fields),
        "register_tokens": fields.get("num_register_tokens", 4),
        "position_interpolation": "bicubic_antialias",
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    return {
        **huggingface_dinov2.key_map(config),
        "embeddings.register_tokens": ("register_tokens",),
    }


FAMILY = HuggingFace(
    model_type="dinov2_with_registers",
    prefixes=("dinov2_with_registers.",),
    signature_keys=("embeddings.register_tokens", *huggingface_dinov2.SIGNATURE_KEYS),
    config_fields=config_fields,
    key_map=key_map,
    unused=("embeddings.mask_token",),
    head_pooling="cls_mean",
    interpolation="bicubic",
).family()
