"""Hugging Face ``vit`` checkpoints (google/vit-*): config.json and names of tensors.

Files on the hub, and those that transformers writes, use the names of its version 4; modules of
version 5 have new ones (``layers.0.attention.q_proj``). Both key aliases are read.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap, linear_and_norm_names
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vit_config import ViTConfig

# The model's layer in a block -> its key aliases in transformers 4 and 5.
_BLOCK_LAYERS = {
    "norm_attention": ("layernorm_before",),
    "attention.query": ("attention.attention.query", "attention.q_proj"),
    "attention.key": ("attention.attention.key", "attention.k_proj"),
    "attention.value": ("attention.attention.value", "attention.v_proj"),
    "attention.output": ("attention.output.dense", "attention.o_proj"),
    "norm_mlp": ("layernorm_after",),
    "mlp.up": ("intermediate.dense", "mlp.fc1"),
    "mlp.down": ("output.dense", "mlp.fc2"),
}


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json."""
    return {
        "width": fields["hidden_size"],
        "depth": fields["num_hidden_layers"],
        "heads": fields["num_attention_heads"],
        "mlp_width": fields["intermediate_size"],
        "patch_size_px": side_px(fields, "patch_size"),
        "image_size_px": size_px(fields, "image_size"),
        "activation": activation_of(fields),
        "qkv_bias": flag_of(fields, "qkv_bias", True),
        "norm_eps": eps_of(fields, 1e-12),
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers = {
        "embeddings.patch_embeddings.projection": ("patch_embedding.projection",),
        "layernorm": ("norm",),
        "classifier": ("head",),
    }
    for index in range(config.depth):
        for ours, aliases in _BLOCK_LAYERS.items():
            for theirs in aliases:
                for block in (f"encoder.layer.{index}", f"layers.{index}"):
                    layers[f"{block}.{theirs}"] = (f"blocks.{index}.{ours}",)
    return {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.position_embeddings": ("position_embedding",),
        **linear_and_norm_names(layers),
    }


SIGNATURE_KEYS = (
    "embeddings.cls_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.layernorm_before.weight",
    "encoder.layer.0.attention.attention.query.weight",
    "encoder.layer.0.intermediate.dense.weight",
    "encoder.layer.0.output.dense.weight",
    "layernorm.weight",
)
FAMILY = HuggingFace(
    model_type="vit",
    prefixes=("vit.",),
    signature_keys=SIGNATURE_KEYS,
    config_fields=config_fields,
    key_map=key_map,
    # No output here needs the pooler; the mask token is for pre-training.
    unused=("pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"),
    head_pooling="cls",
    interpolation="bilinear",
).family()
