"""Hugging Face ``dinov2`` checkpoints (facebook/dinov2-*): config.json and names of tensors.

Key aliases: the names of transformers 4, used by files on the hub, and of version 5's modules.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap, linear_and_norm_names
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    number_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

# The file's layer in a block -> the model's. ``weights_in`` is gate and up, stacked.
_BLOCK_LAYERS = {
    "norm1": ("norm_attention",),
    "attention.attention.query": ("attention.query",),
    "attention.q_proj": ("attention.query",),
    "attention.attention.key": ("attention.key",),
    "attention.k_proj": ("attention.key",),
    "attention.attention.value": ("attention.value",),
    "attention.v_proj": ("attention.value",),
    "attention.output.dense": ("attention.output",),
    "attention.o_proj": ("attention.output",),
    "norm2": ("norm_mlp",),
}
_MLP_LAYERS = {"mlp.fc1": ("mlp.up",), "mlp.fc2": ("mlp.down",)}
_SWIGLU_LAYERS = {
    "mlp.weights_in": ("mlp.gate", "mlp.up"),
    "mlp.gate_proj": ("mlp.gate",),
    "mlp.up_proj": ("mlp.up",),
    "mlp.weights_out": ("mlp.down",),
    "mlp.down_proj": ("mlp.down",),
}


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json."""
    width = fields["hidden_size"]
    swiglu = flag_of(fields, "use_swiglu_ffn", False)
    if type(width) is not int:
        raise InvalidValue(f"hidden_size is {width!r:.80}; accepted: an integer")
    mlp_width = int(width * number_of(fields, "mlp_ratio", 4, 0, 64))
    if swiglu:
        # Two thirds: three matrices are then as large as the MLP's two. Rounded up to a multiple
        # of 8.
        mlp_width = (int(mlp_width * 2 / 3) + 7) // 8 * 8
    return {
        "width": width,
        "depth": fields["num_hidden_layers"],
        "heads": fields["num_attention_heads"],
        "mlp_width": mlp_width,
        "patch_size_px": side_px(fields, "patch_size"),
        "image_size_px": size_px(fields, "image_size"),
        "activation": "swiglu" if swiglu else activation_of(fields),
        "qkv_bias": flag_of(fields, "qkv_bias", True),
        "norm_eps": eps_of(fields, 1e-6),
        "layer_scale": True,
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers = {
        "embeddings.patch_embeddings.projection": ("patch_embedding.projection",),
        "layernorm": ("norm",),
        "classifier": ("head",),
    }
    names = {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.position_embeddings": ("position_embedding",),
    }
    mlp_layers = _SWIGLU_LAYERS if config.activation == "swiglu" else _MLP_LAYERS
    for index in range(config.depth):
        theirs = f"encoder.layer.{index}"
        ours = f"blocks.{index}"
        for layer, targets in (_BLOCK_LAYERS | mlp_layers).items():
            layers[f"{theirs}.{layer}"] = tuple(f"{ours}.{target}" for target in targets)
        names[f"{theirs}.layer_scale1.lambda1"] = (f"{ours}.scale_attention.factor",)
        names[f"{theirs}.layer_scale2.lambda1"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


SIGNATURE_KEYS = (
    "embeddings.cls_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.norm1.weight",
    "encoder.layer.0.layer_scale1.lambda1",
    "encoder.layer.0.norm2.weight",
    "encoder.layer.0.layer_scale2.lambda1",
    "layernorm.weight",
)
FAMILY = HuggingFace(
    model_type="dinov2",
    prefixes=("dinov2.",),
    signature_keys=SIGNATURE_KEYS,
    config_fields=config_fields,
    key_map=key_map,
    # For pre-training only.
    unused=("embeddings.mask_token",),
    # The linear classifiers that Meta published see the CLS token and the mean patch token.
    head_pooling="cls_mean",
    interpolation="bicubic",
).family()
