"""Hugging Face ``deit`` checkpoints (facebook/deit-*-distilled-*): ViT's names, a distillation
token and its head.

Models without a distillation token (facebook/deit-base-patch16-224) have the ``model_type`` "vit".
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.family import Family, KeyMap, Reading, linear_and_norm_names
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.huggingface import vit as huggingface_vit
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vision_transformer import ViTConfig


def shape_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViTConfig's fields from config.json's."""
    return {**huggingface_vit.shape_of(fields), "distillation_token": True}


def key_map(config: ViTConfig) -> KeyMap:
    """Every name a file may use -> the model's name."""
    heads = {"cls_classifier": ("head",), "distillation_classifier": ("head_distillation",)}
    return {
        **huggingface_vit.key_map(config),
        "embeddings.distillation_token": ("distillation_token",),
        **linear_and_norm_names(heads),
    }


MARKS = ("embeddings.distillation_token", *huggingface_vit.MARKS)
# A model with one linear head, which sees the CLS token.
_PLAIN = HuggingFace(
    model_type="deit",
    prefixes=("deit.",),
    marks=MARKS,
    shape_of=shape_of,
    key_map=key_map,
    unused=("pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"),
    interpolation="bicubic",
)
# A model with a head on either token, taught by a teacher; its logits are the mean of both.
_TAUGHT = replace(_PLAIN, head="distilled", head_weights="cls_classifier.weight")


def read(found: Found) -> Reading:
    """The model with whichever head the file holds. Raises CheckpointError."""
    return (_TAUGHT if found.has(_TAUGHT.head_weights) else _PLAIN).read(found)


FAMILY = Family("deit", _PLAIN.recognises, read, MARKS, "deit")
