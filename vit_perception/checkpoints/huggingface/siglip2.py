"""Hugging Face ``siglip2`` checkpoints: SigLIP 2 NaFlex (google/siglip2-*-naflex), at a fixed grid.

A NaFlex model (arXiv:2502.14786) takes each picture at an aspect ratio of its own, with up to
``max_num_patches`` patches. An engine's input has one size: the square of that many patches, or
what ``model.network_size`` says. Every picture is stretched to it, and the position table is
resized to its grid. At the size that the model's own processor gives a picture (224 x 288 px for
one of 4:3 and 256 patches of 16 px), pixels and tokens are the processor's and the model's.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.family import Converter
from vit_perception.checkpoints.huggingface import siglip
from vit_perception.checkpoints.huggingface.clip import tower_fields, vision_fields
from vit_perception.checkpoints.huggingface.config import flag_of, whole_number_of
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

_DEFAULTS = {**siglip.DEFAULTS, "num_patches": 256}
_MOST_PATCHES = 1 << 16


def config_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields from config.json, of the complete model or of its image tower."""
    vision = vision_fields(fields, _DEFAULTS)
    tower = tower_fields(vision)
    learned = whole_number_of(vision, "num_patches", 256, 1, _MOST_PATCHES)
    side = math.isqrt(learned)
    if side * side != learned:
        raise InvalidValue(f"num_patches is {learned}; accepted: a square number")
    return {
        **tower,
        "image_size_px": (side * tower["patch_size_px"],) * 2,
        "position_interpolation": "bilinear_antialias",
        "cls_token": False,
        "pooling": "map" if flag_of(vision, "vision_use_head", True) else "mean",
    }


def processor_fields(fields: Mapping[str, Any], config: ViTConfig) -> dict[str, Any]:
    """Turn a bound on the number of patches into the size of a square picture.

    Raises:
        ValueError: A field is wrong, or the patches are not the model's.
    """
    patch = whole_number_of(fields, "patch_size", 16, 1, 1024)
    if patch != config.patch_size_px:
        raise InvalidValue(f"patch_size is {patch}; accepted: {config.patch_size_px}, the model's")
    most = whole_number_of(fields, "max_num_patches", 256, 1, _MOST_PATCHES)
    side = math.isqrt(most) * patch
    others = {name: value for name, value in fields.items() if name != "max_num_patches"}
    return {**others, "size": {"height": side, "width": side}}


def converters(config: ViTConfig) -> Mapping[str, Converter]:
    """Give positions and patch embedding the model's shapes.

    The embedding is a linear layer on patches whose pixels lie row by row, channels last.
    """
    patch = config.patch_size_px

    def kernel(weight: Tensor) -> Tensor:
        return weight.reshape(-1, patch, patch, 3).permute(0, 3, 1, 2)  # (D, 3, patch, patch)

    return {**siglip.converters(config), "patch_embedding.projection.weight": kernel}


FAMILY = replace(
    siglip.BASE,
    model_type="siglip2",
    other_types=("siglip2_vision_model",),
    config_fields=config_fields,
    interpolation="bilinear",
    processor_fields=processor_fields,
    converters=converters,
).family()
