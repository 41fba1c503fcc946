"""Hugging Face ``siglip`` checkpoints: SigLIP and the SigLIP 2 models of one size
(google/siglip2-base-patch16-224).

Files of the whole model, of SiglipVisionModel and of SiglipForImageClassification are read; the
text tower is known and unused. The image embedding is what the attention pooling gives, so no
projection is needed. A classifier sees the mean patch token instead. SigLIP 2's NaFlex models have
a ``model_type`` of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.family import Family, KeyMap, Reading, linear_and_norm_names
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.huggingface.clip import (
    TEXT,
    tower_names,
    tower_shape,
    vision_fields,
)
from vit_perception.checkpoints.huggingface.config import flag_of, size_px
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

# transformers leaves out of config.json what is as in its own defaults, which are those of base,
# patch 16, 224 px.
DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "num_channels": 3,
}


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's, of the whole model or of the image tower alone."""
    vision = vision_fields(fields, DEFAULTS)
    shape = tower_shape(vision)
    # Patches are 14 px in pictures of 384: what is left over at the right and the bottom, no patch
    # sees.
    image_size_px = tuple(
        side // shape["patch_size_px"] * shape["patch_size_px"]
        for side in size_px(vision, "image_size")
    )
    return {
        **shape,
        "image_size_px": image_size_px,
        "cls_token": False,
        "pooling": "map" if flag_of(vision, "vision_use_head", True) else "mean",
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Every name a file may use -> the model's name."""
    layers = {**tower_names(config), "post_layernorm": ("norm",)}
    names = {"embeddings.position_embedding.weight": ("position_embedding",)}
    if config.pooling == "map":
        ours = "attention_pooling"
        layers.update(
            {
                "head.attention.out_proj": (f"{ours}.attention.output",),
                "head.layernorm": (f"{ours}.norm",),
                "head.mlp.fc1": (f"{ours}.mlp.up",),
                "head.mlp.fc2": (f"{ours}.mlp.down",),
            }
        )
        names["head.probe"] = (f"{ours}.probe",)
        for part in ("weight", "bias"):
            names[f"head.attention.in_proj_{part}"] = tuple(
                f"{ours}.attention.{layer}.{part}" for layer in ("query", "key", "value")
            )
    return {**names, **linear_and_norm_names(layers)}


def converters(config: ViTConfig) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """The positions (P, D) as the model holds them."""
    return {"position_embedding": lambda tensor: tensor[None]}


MARKS = (
    "embeddings.patch_embedding.weight",
    "embeddings.patch_embedding.bias",
    "embeddings.position_embedding.weight",
    "encoder.layers.0.layer_norm1.weight",
    "encoder.layers.0.self_attn.q_proj.weight",
    "head.probe",
    "head.attention.in_proj_weight",
    "post_layernorm.weight",
)
BASE = HuggingFace(
    model_type="siglip",
    other_types=("siglip_vision_model",),
    prefixes=("vision_model.",),
    marks=MARKS,
    shape_of=shape_of,
    key_map=key_map,
    unused=(*TEXT, "head.*"),
    head_pooling="mean",
    interpolation="bicubic",
    converters=converters,
)


def read(found: Found) -> Reading:
    """The model; pictures whose size is no multiple of the patch are cut to what patches see.
    CheckpointError.
    """
    reading = BASE.read(found)
    rule, patch = reading.rule, reading.config.patch_size_px
    side, seen = rule.network_size_px[0], rule.network_size_px[0] // patch * patch
    if rule.fit != "stretch" or rule.network_size_px != (side, side) or seen == side:
        return reading
    return replace(
        reading, rule=ResizeRule((seen, seen), "stretch_corner", side, rule.interpolation)
    )


FAMILY = Family("siglip", BASE.recognises, read, MARKS, "siglip")
