"""timm's description of a model: config.json of its hub folders, or only the architecture's name.

Formats: https://huggingface.co/docs/timm/hf_hub and ``pretrained_cfg`` of
timm/models/_pretrained.py; the evaluation transform is timm/data/transforms_factory.py's.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vit_perception.checkpoints.clip.openai import MEAN as CLIP_MEAN
from vit_perception.checkpoints.clip.openai import STD as CLIP_STD
from vit_perception.checkpoints.defaults import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
    own_or_published,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

_NAME = re.compile(r"(?:.*?[._-])??((?:vit|deit3?|eva_|flexivit_)\w*)(?:\.\w+)?")


class _Published(NamedTuple):
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float


# What timm takes for an architecture without config.json, by the first part of its name that fits.
_PUBLISHED = {
    "_clip_": _Published(CLIP_MEAN, CLIP_STD, 1.0),
    "siglip": _Published(HALF, HALF, 0.9),
    "dinov2": _Published(IMAGENET_MEAN, IMAGENET_STD, 1.0),
    "dinov3": _Published(IMAGENET_MEAN, IMAGENET_STD, 1.0),
    "deit": _Published(IMAGENET_MEAN, IMAGENET_STD, 0.9),
    "vit_pe_": _Published(HALF, HALF, 1.0),
    "vit_": _Published(HALF, HALF, 0.9),
}
# Activations other than GELU are in no file. They belong to the architecture.
_TANH = re.compile(
    r"vit_(base_patch32|giantopt_patch16|so400m_patch16)_siglip(_gap)?_\d+|"
    r"vit_large_patch16_siglip(_gap)?_512"
)

# Architectures whose blocks are plain. timm's other ones share the names of tensors and compute
# something else.
_READ = ("vit_", "deit_", "deit3_", "flexivit_", "eva_")
# Part of an architecture's name -> what it computes and no tensor shows.
_UNREAD = {
    "_rope": "rotary positions next to or instead of the learned ones",
    "sapiens2": "rotary positions and fewer keys than queries",
    "_rpn": "norms after its attention and its MLP instead of before them",
}


def refuse_unread(architecture: str, source: str) -> None:
    """Refuse an architecture that would load and give other features; "" is none.

    Raises:
        CheckpointError: It is such an architecture.
    """
    computed = next((reason for part, reason in _UNREAD.items() if part in architecture), None)
    if computed:
        raise CheckpointError(
            f"{source}: the architecture {architecture} has {computed}, with the same tensors as a "
            "model without; accepted: vit_* but for *_rope*, *_sapiens2 and *_rpn*"
        )
    if architecture and not architecture.startswith(_READ):
        raise CheckpointError(
            f"{source}: the architecture is {architecture!r}; accepted: timm's "
            f"{', '.join(f'{name}*' for name in _READ)}"
        )


def is_unread(architecture: str) -> bool:
    """Tell whether :func:`refuse_unread` refuses an architecture for what it computes."""
    return any(part in architecture for part in _UNREAD)


def description_of(files: CheckpointFiles) -> dict[str, Any]:
    """Read timm's config.json, else make {"architecture": ...} from the file's name ("" if none).

    timm's files are named like ``vit_base_patch16_224.augreg_in21k.safetensors``.
    """
    if is_timm(files.config):
        return dict(files.config)
    for name in (files.path.stem, files.folder.name):
        match = _NAME.fullmatch(name)
        if match:
            return {"architecture": match[1]}
    return {"architecture": ""}


def is_timm(config: Mapping[str, Any] | None) -> bool:
    """Tell whether a config.json is one of timm's."""
    return config is not None and isinstance(config.get("architecture"), str)


def activation_of(architecture: str) -> str:
    """Tell the activation of an architecture by its name."""
    if "quickgelu" in architecture:
        return "quick_gelu"
    return "gelu_tanh" if _TANH.fullmatch(architecture) else "gelu"


def preprocessing_of(
    files: CheckpointFiles, description: Mapping[str, Any], learned_size_px: tuple[int, int]
) -> Preprocessing:
    """Read the evaluation transform; without one, take timm's default of the architecture.

    ``learned_size_px`` (height, width) is the size that the positions were learned at.

    Raises:
        CheckpointError: A field is wrong, or neither a config nor the architecture is known.
    """
    fields = description.get("pretrained_cfg")
    if isinstance(fields, Mapping):
        try:
            return _transform(fields)
        except KeyError as error:
            raise CheckpointError(
                f"pretrained_cfg in {files.folder / CONFIG_FILE} has no {error.args[0]!r}; "
                "accepted: input_size, mean, std, interpolation and crop_pct as timm writes them"
            ) from error
        except (TypeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"pretrained_cfg in {files.folder / CONFIG_FILE}: {error}; accepted: input_size, "
                "mean, std, interpolation and crop_pct as timm writes them"
            ) from error
    architecture = description["architecture"]
    for part, published in _PUBLISHED.items():
        if part in architecture:
            rule = _rule(learned_size_px, "bicubic", published.crop_pct, "center")
            default = Preprocessing(rule, published.mean, published.std)
            return own_or_published(files, default, f"timm's default of {architecture}")
    raise CheckpointError(
        f"{files.path} does not say how its images were prepared; accepted: timm's {CONFIG_FILE} "
        "beside it (architecture and pretrained_cfg), a file named by its architecture "
        "(vit_base_patch16_224.augreg_in21k.safetensors), or model.family meta_deit or meta_dino "
        "for Meta's files"
    )


def labels_of(description: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """Read the class names of config.json, by ``label_descriptions`` if there are any; else None.

    Raises:
        ValueError: They are not as many as ``classes``.
    """
    fields = pretrained_of(description)
    names = description.get("label_names") or fields.get("label_names")
    if not names:
        return None
    texts = description.get("label_descriptions") or fields.get("label_descriptions") or {}
    if not isinstance(names, list):
        raise InvalidValue(f"label_names is {names!r:.80}; accepted: a list of {classes} names")
    if len(names) != classes:
        raise InvalidValue(
            f"label_names holds {len(names)} names; accepted: {classes}, as many as the head has "
            "classes"
        )
    if not isinstance(texts, Mapping):
        texts = {}
    return tuple(str(texts.get(name, name)) for name in names)


def pretrained_of(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give ``pretrained_cfg``, empty if there is none."""
    given = description.get("pretrained_cfg")
    return given if isinstance(given, Mapping) else {}


def _transform(fields: Mapping[str, Any]) -> Preprocessing:
    crop = fields["crop_pct"]
    if isinstance(crop, bool) or not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        raise InvalidValue(f"crop_pct is {crop!r}; accepted: a number above 0, up to 1")
    for name in ("mean", "std"):
        given = fields[name]
        if not isinstance(given, list) or not all(isinstance(v, (int, float)) for v in given):
            raise InvalidValue(f"{name} is {given!r}; accepted: three numbers")
    mode = fields.get("crop_mode") or "center"
    rule = _rule(input_size_px(fields), fields["interpolation"], crop, mode)
    return Preprocessing(rule, tuple(map(float, fields["mean"])), tuple(map(float, fields["std"])))


def input_size_px(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Read (height, width) of ``input_size`` in pretrained_cfg, which is (3, height, width).

    Raises:
        ValueError: It is something else.
    """
    given = fields["input_size"]
    if (
        not isinstance(given, (list, tuple))
        or len(given) != 3
        or given[0] != 3
        or not all(type(side) is int and side > 0 for side in given)
    ):
        raise InvalidValue(f"input_size is {given!r}; accepted: 3 channels, height and width")
    return given[1], given[2]


def _rule(size_px: tuple[int, int], interpolation: str, crop: float, mode: str) -> ResizeRule:
    resized = tuple(math.floor(side / crop) for side in size_px)
    if mode == "squash" and resized == size_px:
        return ResizeRule(size_px, "stretch", interpolation=interpolation)
    if size_px[0] != size_px[1] or mode not in ("center", "squash"):
        raise InvalidValue(
            f"crop_mode is {mode!r} with the size {size_px}; accepted: center or squash with a "
            "square, squash with crop_pct 1 otherwise"
        )
    rule = centre_crop(size_px[0], resized[0], interpolation)
    return replace(rule, fit="stretch_crop") if mode == "squash" else rule
