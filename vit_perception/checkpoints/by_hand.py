"""The preprocessor_config.json that a checkpoint lacks: the text of one for the user to judge.

Nothing is guessed at a start: another mean gives features that look right and are wrong. A file
that was written so says ``given_by_hand``, and the name of the model in the layout does too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_perception.checkpoints.files.checkpoint_files import PREPROCESSOR_FILE
from vit_perception.checkpoints.pixel_statistics import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
)

BY_HAND = "given_by_hand"
MARK = " (preprocessing given by hand)"
_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
# Mean and std that the authors of each family trained with, by the model_type.
_USUAL = {
    "vit": (HALF, HALF),
    "deit": _IMAGENET,
    "dinov2": _IMAGENET,
    "dinov2_with_registers": _IMAGENET,
    "dinov3_vit": _IMAGENET,
    "clip": (CLIP_MEAN, CLIP_STD),
    "siglip": (HALF, HALF),
}


def file_hint(folder: Path, model_type: str, size_px: tuple[int, int]) -> str:
    """Return the hint with the file to write for a model of ``size_px`` (height, width).

    It is empty for a family whose authors used several kinds of preprocessing.
    """
    if model_type not in _USUAL:
        return ""
    mean, std = _USUAL[model_type]
    content = {
        "do_resize": True,
        "size": {"height": size_px[0], "width": size_px[1]},
        "resample": 3,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        BY_HAND: True,
    }
    return (
        f"its shapes are of {size_px[0]} x {size_px[1]} px, and the authors of {model_type} used "
        "this mean and std; if this model was trained so, save as "
        f"{folder / PREPROCESSOR_FILE}: {json.dumps(content)}"
    )


def is_by_hand(fields: Mapping[str, Any]) -> bool:
    """Tell whether a preprocessor_config.json says that it was given by hand."""
    return fields.get(BY_HAND) is True
