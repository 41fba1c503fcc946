"""Hugging Face ``siglip`` checkpoints: SigLIP and the SigLIP 2 models of one size
(google/siglip2-base-patch16-224).

Files of the complete model, of SiglipVisionModel and of SiglipForImageClassification are read. The
text tower is known and unused. The image embedding is the attention pooling's output, so there is
no projection. A classifier sees the mean patch token instead. SigLIP 2's NaFlex models are a family
of their own, ``siglip2``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.family import (
    Converter,
    Family,
    KeyMap,
    LoadPlan,
    linear_and_norm_names,
)
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.clip import (
    TEXT,
    tower_fields,
    tower_names,
    vision_fields,
)
from vit_perception.checkpoints.huggingface.config import flag_of, size_px
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

# transformers leaves its own defaults out of config.json. They are those of base, patch 16, 224 px.
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


_POOLING_LAYERS = {
    "head.attention.out_proj": ("attention_pooling.attention.output",),
    "head.layernorm": ("attention_pooling.norm",),
    "head.mlp.fc1": ("attention_pooling.mlp.up",),
    "head.mlp.fc2": ("attention_pooling.mlp.down",),
}


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json, of the complete model or of its image tower."""
    vision = vision_fields(fields, DEFAULTS)
    tower = tower_fields(vision)
    patch = tower["patch_size_px"]
    # Patches of 14 px leave a rest of images of 384 px, at the right and the bottom.
    sides = size_px(vision, "image_size")
    return {
        **tower,
        "image_size_px": tuple(side // patch * patch for side in sides),
        "cls_token": False,
        "pooling": "map" if flag_of(vision, "vision_use_head", True) else "mean",
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers = {**tower_names(config), "post_layernorm": ("norm",)}
    names = {"embeddings.position_embedding.weight": ("position_embedding",)}
    if config.pooling == "map":
        layers |= _POOLING_LAYERS
        names["head.probe"] = ("attention_pooling.probe",)
        for part in ("weight", "bias"):
            names[f"head.attention.in_proj_{part}"] = tuple(
                f"attention_pooling.attention.{layer}.{part}" for layer in ("query", "key", "value")
            )
    return {**names, **linear_and_norm_names(layers)}


def converters(config: ViTConfig) -> Mapping[str, Converter]:
    """Give the positions (P, D) the model's shape."""
    return {"position_embedding": lambda tensor: tensor[None]}


SIGNATURE_KEYS = (
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
    signature_keys=SIGNATURE_KEYS,
    config_fields=config_fields,
    key_map=key_map,
    unused=(*TEXT, "head.*"),
    head_pooling="mean",
    interpolation="bicubic",
    converters=converters,
)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model. Images whose sides are no multiple of the patch are cut to what patches see.

    Raises:
        CheckpointError: As of :class:`HuggingFace`.
    """
    plan = BASE.read(files)
    rule = plan.preprocessing.rule
    side = rule.network_size_px[0]
    seen = side // plan.config.patch_size_px * plan.config.patch_size_px
    if rule.fit != "stretch" or rule.network_size_px != (side, side) or seen == side:
        return plan
    cut = ResizeRule(
        network_size_px=(seen, seen),
        fit="stretch_corner",
        resize_shortest_edge_px=side,
        interpolation=rule.interpolation,
    )
    return replace(plan, preprocessing=plan.preprocessing._replace(rule=cut))


FAMILY = Family(
    name="siglip",
    recognises=BASE.recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type="siglip",
)
