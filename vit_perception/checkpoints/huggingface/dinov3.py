"""Hugging Face ``dinov3_vit`` checkpoints (facebook/dinov3-vit*): rotary positions and registers.

Blocks are ``layer.N`` in files and ``model.layer.N`` in the modules of transformers 5.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.family import (
    Family,
    KeyMap,
    LoadPlan,
    linear_and_norm_names,
    zero_biases,
)
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
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


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json.

    Raises:
        ValueError: A field is wrong, or the biases are those of no published model.
    """
    gated = flag_of(fields, "use_gated_mlp", False)
    if gated and fields.get("hidden_act") != "silu":
        raise InvalidValue(
            f"hidden_act is {fields.get('hidden_act')!r} with use_gated_mlp; accepted: silu"
        )
    names = ("query_bias", "value_bias", "proj_bias", "mlp_bias")
    biases = {name: flag_of(fields, name, True) for name in names}
    query, value, *others = biases.values()
    if query != value or not all(others):
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
        "qkv_bias": query,
        "norm_eps": eps_of(fields, 1e-5),
        "layer_scale": True,
        "register_tokens": fields.get("num_register_tokens", 0),
        "position_embedding": "none",
        "rope_theta": float(number_of(fields, "rope_theta", 100.0, 1, 1e12)),
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers = {"embeddings.patch_embeddings": ("patch_embedding.projection",), "norm": ("norm",)}
    names = {
        "embeddings.cls_token": ("cls_token",),
        "embeddings.register_tokens": ("register_tokens",),
    }
    for index in range(config.depth):
        theirs = f"layer.{index}"
        ours = f"blocks.{index}"
        for layer, target in _BLOCK_LAYERS.items():
            layers[f"{theirs}.{layer}"] = (f"{ours}.{target}",)
        names[f"{theirs}.layer_scale1.lambda1"] = (f"{ours}.scale_attention.factor",)
        names[f"{theirs}.layer_scale2.lambda1"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


SIGNATURE_KEYS = (
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
    signature_keys=SIGNATURE_KEYS,
    config_fields=config_fields,
    key_map=key_map,
    # For pre-training; and a table that is computed from rope_theta.
    unused=("embeddings.mask_token", "rope_embeddings.inv_freq"),
    interpolation="bilinear",
)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model. Its keys have no bias, or config.json says so.

    Raises:
        CheckpointError: As of :class:`HuggingFace`.
    """
    plan = _BASE.read(files)
    if not plan.config.qkv_bias or flag_of(files.config, "key_bias", False):
        return plan
    return replace(plan, zeros=zero_biases(plan.config, "attention.key"))


FAMILY = Family(
    name="dinov3_vit",
    recognises=_BASE.recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type="dinov3_vit",
)
