"""Hugging Face ``dinov3_vit`` checkpoints (facebook/dinov3-vit*): rotary positions, registers, no
bias of the key.

Blocks are ``layer.N`` in files and ``model.layer.N`` in the modules of transformers 5.
Convolutional DINOv3 models (``dinov3_convnext``) are no Vision Transformers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.family import (
    Family,
    KeyMap,
    Reading,
    linear_and_norm_names,
    zero_biases,
)
from vit_perception.checkpoints.files.opened import Found
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

_BLOCK_LAYERS = {
    "norm1": "norm_attention",
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.o_proj": "attention.output",
    "norm2": "norm_mlp",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's. Raises ValueError for biases that no published model
    has.
    """
    gated = flag_of(fields, "use_gated_mlp", False)
    if gated and fields.get("hidden_act") != "silu":
        raise InvalidValue(
            f"hidden_act is {fields.get('hidden_act')!r} with use_gated_mlp; accepted: silu"
        )
    biases = {
        name: flag_of(fields, name, True)
        for name in ("query_bias", "value_bias", "proj_bias", "mlp_bias")
    }
    if (
        not (biases["proj_bias"] and biases["mlp_bias"])
        or biases["query_bias"] != biases["value_bias"]
    ):
        raise InvalidValue(
            f"the biases are {biases}; accepted: proj_bias and mlp_bias true, query_bias as "
            "value_bias"
        )
    return {
        "width": fields["hidden_size"],
        "depth": fields["num_hidden_layers"],
        "heads": fields["num_attention_heads"],
        "mlp_width": fields["intermediate_size"],
        "patch_size_px": side_px(fields, "patch_size"),
        "image_size_px": size_px(fields, "image_size"),
        "activation": "swiglu" if gated else activation_of(fields),
        "qkv_bias": biases["query_bias"],
        "norm_eps": eps_of(fields, 1e-5),
        "layer_scale": True,
        "register_tokens": fields.get("num_register_tokens", 0),
        "position_embedding": "none",
        "rope_theta": float(number_of(fields, "rope_theta", 100.0, 1, 1e12)),
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Every name a file may use -> the model's name."""
    layers = {"embeddings.patch_embeddings": ("patch_embedding.projection",), "norm": ("norm",)}
    names = {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.register_tokens": ("register_tokens",),
    }
    for index in range(config.depth):
        theirs, ours = f"layer.{index}", f"blocks.{index}"
        layers.update(
            {f"{theirs}.{layer}": (f"{ours}.{target}",) for layer, target in _BLOCK_LAYERS.items()}
        )
        names[f"{theirs}.layer_scale1.lambda1"] = (f"{ours}.scale_attention.factor",)
        names[f"{theirs}.layer_scale2.lambda1"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


MARKS = (
    "embeddings.cls_token",
    "embeddings.patch_embeddings.weight",
    "layer.0.norm1.weight",
    "layer.0.attention.q_proj.weight",
    "layer.0.attention.k_proj.weight",
    "layer.0.layer_scale1.lambda1",
    "layer.0.mlp.up_proj.weight",
    "norm.weight",
)
_BASE = HuggingFace(
    model_type="dinov3_vit",
    prefixes=("model.",),
    marks=MARKS,
    shape_of=shape_of,
    key_map=key_map,
    # For pre-training only; and a table that is computed from rope_theta.
    unused=("embeddings.mask_token", "rope_embeddings.inv_freq"),
    interpolation="bilinear",
)


def read(found: Found) -> Reading:
    """The model; the bias of the key, which it has not, is zero. Raises CheckpointError."""
    reading = _BASE.read(found)
    lacks_key_bias = reading.config.qkv_bias and not flag_of(found.config, "key_bias", False)
    return (
        replace(reading, zeros=zero_biases(reading.config, "attention.key"))
        if lacks_key_bias
        else reading
    )


FAMILY = Family("dinov3_vit", _BASE.recognises, read, MARKS, "dinov3_vit")
