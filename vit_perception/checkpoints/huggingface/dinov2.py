"""Hugging Face ``dinov2`` checkpoints (facebook/dinov2-*): config.json and names of tensors.

Both the names of transformers 4, which files on the hub have, and those of version 5's modules are
read.
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
from vit_perception.model.vision_transformer import ViTConfig

# The file's layer in a block: the model's. ``weights_in`` is gate and up, stacked.
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


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's."""
    width, swiglu = fields["hidden_size"], flag_of(fields, "use_swiglu_ffn", False)
    if type(width) is not int:
        raise InvalidValue(f"hidden_size is {width!r:.80}; accepted: an integer")
    mlp_width = int(width * number_of(fields, "mlp_ratio", 4, 0, 64))
    if swiglu:
        # Two thirds, so that the three matrices weigh as much as the MLP's two; rounded up to a
        # multiple of 8.
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
    """Every name a file may use -> the model's name."""
    layers = {
        "embeddings.patch_embeddings.projection": ("patch_embedding.projection",),
        "layernorm": ("norm",),
        "classifier": ("head",),
    }
    names = {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.position_embeddings": ("position_embedding",),
    }
    block_layers = {
        **_BLOCK_LAYERS,
        **(_SWIGLU_LAYERS if config.activation == "swiglu" else _MLP_LAYERS),
    }
    for index in range(config.depth):
        theirs, ours = f"encoder.layer.{index}", f"blocks.{index}"
        layers.update(
            {
                f"{theirs}.{layer}": tuple(f"{ours}.{t}" for t in targets)
                for layer, targets in block_layers.items()
            }
        )
        names[f"{theirs}.layer_scale1.lambda1"] = (f"{ours}.scale_attention.factor",)
        names[f"{theirs}.layer_scale2.lambda1"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


MARKS = (
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
    marks=MARKS,
    shape_of=shape_of,
    key_map=key_map,
    # For pre-training only.
    unused=("embeddings.mask_token",),
    # The linear classifiers that Meta published see the CLS token and the mean patch token.
    head_pooling="cls_mean",
    interpolation="bicubic",
).family()
