"""Hugging Face ``deit`` checkpoints (facebook/deit-*-distilled-*): a ViT with a distillation token.

Models without a distillation token (facebook/deit-base-patch16-224) have the ``model_type`` "vit".
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vit_perception.checkpoints.family import Family, KeyMap, LoadPlan, linear_and_norm_names
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface import vit as huggingface_vit
from vit_perception.checkpoints.huggingface.family import HuggingFace
from vit_perception.model.vit_config import ViTConfig


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json."""
    return {**huggingface_vit.config_fields(fields), "distillation_token": True}


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    heads = {"cls_classifier": ("head",), "distillation_classifier": ("head_distillation",)}
    return {
        **huggingface_vit.key_map(config),
        "embeddings.distillation_token": ("distillation_token",),
        **linear_and_norm_names(heads),
    }


SIGNATURE_KEYS = ("embeddings.distillation_token", *huggingface_vit.SIGNATURE_KEYS)
# With one linear head, which sees the CLS token.
_PLAIN = HuggingFace(
    model_type="deit",
    prefixes=("deit.",),
    signature_keys=SIGNATURE_KEYS,
    config_fields=config_fields,
    key_map=key_map,
    unused=("pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"),
    interpolation="bicubic",
)
# With a head on each of both tokens; the logits are the mean of both heads.
_DISTILLED = replace(_PLAIN, head="distilled", head_weights="cls_classifier.weight")


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model with the head that the file holds.

    Raises:
        CheckpointError: As of :class:`HuggingFace`.
    """
    return (_DISTILLED if files.has(_DISTILLED.head_weights) else _PLAIN).read(files)


FAMILY = Family(
    name="deit",
    recognises=_PLAIN.recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type="deit",
)
