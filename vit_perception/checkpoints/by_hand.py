"""Preprocessing that a checkpoint does not say: what the user gives, and what an error proposes.

Nothing is guessed at a start: another mean gives features that look right and are wrong. A user has
two cures: a preprocessor_config.json that says ``given_by_hand``, or the parameters ``model.mean``,
``model.std`` and ``model.size``. Both mean the same, and the name of the model in the layout says
so. What a checkpoint says itself is never replaced.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_perception.checkpoints.family import Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import PREPROCESSOR_FILE
from vit_perception.checkpoints.pixel_statistics import (
    CLIP_MEAN,
    CLIP_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
)
from vit_perception.config.by_hand import ByHand
from vit_perception.config.checks import BadSetting

BY_HAND = "given_by_hand"
MARK = " (preprocessing given by hand)"
# A field of preprocessor_config.json -> the parameter that gives it.
PARAMETER_OF = {"size": "model.size", "image_mean": "model.mean", "image_std": "model.std"}
_NUMBERS = "three numbers from 0 to 1, of R, G, B"
_ACCEPTED = {"size": "[height, width] in px", "image_mean": _NUMBERS, "image_std": _NUMBERS}
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
# Numbers of a file and of a parameter that are written with fewer digits are the same.
_SAME = 1e-6


class GivenByHand(Preprocessing):
    """Preprocessing of which a part or all was given by the parameters."""


def parameters_hint(by_hand: ByHand | None) -> str:
    """Return which parameters give the preprocessing; empty if it cannot be given by hand."""
    if by_hand is None:
        return ""
    return "set model.mean, model.std and model.size to what the model was trained with"


def by_hand_hint(
    folder: Path, model_type: str, size_px: tuple[int, int], by_hand: ByHand | None
) -> str:
    """Return the hint for a checkpoint of ``size_px`` (height, width) without preprocessing.

    It has the file to write, but for a family whose authors used several kinds of preprocessing,
    and the parameters to set, but where ``by_hand`` is None.
    """
    if model_type not in _USUAL:
        return parameters_hint(by_hand)
    mean, std = (list(values) for values in _USUAL[model_type])
    content = {
        "do_resize": True,
        "size": {"height": size_px[0], "width": size_px[1]},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        BY_HAND: True,
    }
    parameters = f", or set model.mean: {mean}, model.std: {std}, model.size: {list(size_px)}"
    return (
        f"its shapes are of {size_px[0]} x {size_px[1]} px, and the authors of {model_type} used "
        "this mean and std; if this model was trained so, save as "
        f"{folder / PREPROCESSOR_FILE}: {json.dumps(content)}"
        + (parameters if by_hand is not None else "")
    )


def is_by_hand(fields: Mapping[str, Any]) -> bool:
    """Tell whether a preprocessor_config.json says that it was given by hand."""
    return fields.get(BY_HAND) is True


def lacking_fields(
    fields: Mapping[str, Any], by_hand: ByHand, where: Path, curable: tuple[str, ...]
) -> dict[str, Any]:
    """Return the ``curable`` fields that a preprocessor_config.json lacks, as ``by_hand`` gives
    them; {} if it lacks none, or none is given.

    ``fields`` are those of the file ``where``, {} without a file.

    Raises:
        BadSetting: The file lacks one that is not given, while another one is.
    """
    unused = ("image_mean", "image_std") if fields.get("do_normalize") is False else ()
    lacking = [name for name in curable if name not in unused and fields.get(name) is None]
    if not lacking or not by_hand.is_given:
        return {}
    height_width = dict(zip(("height", "width"), by_hand.size_px))
    given = {
        "size": height_width,
        "image_mean": list(by_hand.mean),
        "image_std": list(by_hand.std),
    }
    for name in lacking:
        if not given[name]:
            raise BadSetting(
                PARAMETER_OF[name],
                [],
                f"{_ACCEPTED[name]}; {where} does not say it. All that it lacks is given together: "
                f"{', '.join(PARAMETER_OF[each] for each in lacking)}",
            )
    return {name: given[name] for name in lacking}


def check_agrees(by_hand: ByHand, preprocessing: Preprocessing, source: str) -> None:
    """Check that ``by_hand`` says nothing else than the ``preprocessing`` of the checkpoint.

    Raises:
        BadSetting: It does; the message has both values.
    """
    rule = preprocessing.rule
    size_px = rule.network_size_px
    if rule.fit == "stretch_corner" and rule.resize_shortest_edge_px:
        # Before what no patch sees is cut off.
        size_px = (rule.resize_shortest_edge_px,) * 2
    own = ByHand(preprocessing.mean, preprocessing.std, size_px)
    for parameter, value, theirs in zip(("mean", "std", "size"), by_hand, own):
        if value and any(abs(a - b) > _SAME for a, b in zip(value, theirs, strict=True)):
            shown = [round(number, 6) for number in theirs]
            raise BadSetting(
                f"model.{parameter}",
                list(value),
                f"{shown}, which is what {source} is prepared with, or [] to leave it to the "
                "checkpoint. What a checkpoint says is not replaced",
            )
