"""Google's TIPS v2 (google/tipsv2-*): folders of transformers' ``tipsv2``, and of its image tower.

The text tower is known and unused. Images are compared with texts by the CLS token. A register
token stands for captions as the CLS token does for alt texts; it is no output here. Source:
transformers, models/tipsv2.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.family import KeyMap, linear_and_norm_names
from vit_perception.checkpoints.huggingface.clip import vision_fields
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    number_of,
    side_px,
    size_px,
)
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vit_config import ViTConfig

# transformers leaves its own defaults out of config.json.
_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 448,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "num_channels": 3,
    "num_register_tokens": 1,
}
_QUERY_KEY_VALUE = ("attention.query", "attention.key", "attention.value")
_BLOCK_LAYERS = {
    "norm1": ("norm_attention",),
    "attn.qkv": _QUERY_KEY_VALUE,
    "attn.proj": ("attention.output",),
    "norm2": ("norm_mlp",),
}
# Files of transformers write c_fc and c_proj, Google's fc1 and fc2.
_MLP = {
    "mlp.c_fc": ("mlp.up",),
    "mlp.c_proj": ("mlp.down",),
    "mlp.fc1": ("mlp.up",),
    "mlp.fc2": ("mlp.down",),
}
_SWIGLU = {"mlp.w12": ("mlp.gate", "mlp.up"), "mlp.w3": ("mlp.down",)}


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json, of the complete model or of its image tower."""
    vision = vision_fields(fields, _DEFAULTS)
    is_swiglu = flag_of(vision, "use_swiglu_ffn", False)
    hidden = int(vision["hidden_size"] * number_of(vision, "mlp_ratio", 4, 0.01, 100))
    return {
        "width": vision["hidden_size"],
        "depth": vision["num_hidden_layers"],
        "heads": vision["num_attention_heads"],
        # A SwiGLU has two thirds of the hidden width, rounded up to a multiple of 8.
        "mlp_width": (int(hidden * 2 / 3) + 7) // 8 * 8 if is_swiglu else hidden,
        "patch_size_px": side_px(vision, "patch_size"),
        "image_size_px": size_px(vision, "image_size"),
        "activation": "swiglu" if is_swiglu else activation_of(vision),
        "qkv_bias": flag_of(vision, "qkv_bias", True),
        "norm_eps": eps_of(vision, vision["layer_norm_eps"]),
        "layer_scale": True,
        "register_tokens": vision["num_register_tokens"],
        "position_interpolation": "bilinear_antialias",
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("patch_embedding.projection",),
        "norm": ("norm",),
    }
    names: dict[str, tuple[str, ...]] = {
        "cls_token": ("cls_token",),
        "register_tokens": ("register_tokens",),
        "pos_embed": ("position_embedding",),
    }
    block_layers = _BLOCK_LAYERS | (_SWIGLU if config.activation == "swiglu" else _MLP)
    for index in range(config.depth):
        block = f"blocks.{index}"  # here the file and the model agree
        for theirs, targets in block_layers.items():
            layers[f"{block}.{theirs}"] = tuple(f"{block}.{target}" for target in targets)
        names[f"{block}.ls1.gamma"] = (f"{block}.scale_attention.factor",)
        names[f"{block}.ls2.gamma"] = (f"{block}.scale_mlp.factor",)
    return names | linear_and_norm_names(layers)


def processor_fields(fields: Mapping[str, Any], config: ViTConfig) -> dict[str, Any]:
    """Add the processor's own defaults: 448 px, and pixels from 0 to 1."""
    size = {"height": 448, "width": 448}
    return {"size": size, "do_normalize": False, "resample": 2, **fields}


FAMILY = HuggingFace(
    model_type="tipsv2",
    other_types=("tipsv2_vision_model",),
    prefixes=("vision_encoder.",),
    signature_keys=(
        "cls_token",
        "register_tokens",
        "pos_embed",
        "mask_token",
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.ls1.gamma",
        "norm.weight",
    ),
    known_by_names=False,  # they are those of DINOv2's own files
    config_fields=config_fields,
    key_map=key_map,
    # For pre-training; and the text tower.
    unused=("mask_token", "text_encoder.*", "temperature"),
    interpolation="bilinear",
    processor_fields=processor_fields,
).family()
