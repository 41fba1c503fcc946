"""timm's description of a model: config.json of its hub folders, or the name of the architecture
alone.

Formats: https://huggingface.co/docs/timm/hf_hub and ``pretrained_cfg`` of
timm/models/_pretrained.py; the evaluation transform is timm/data/transforms_factory.py's.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.defaults import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_NAME = re.compile(r"(?:.*?[._-])??((?:vit|deit3?|eva_|flexivit_)\w*)(?:\.\w+)?")
# What timm itself takes for an architecture whose config is not there: part of its name -> mean,
# std, crop_pct.
_PUBLISHED = (
    ("_clip_", CLIP_MEAN, CLIP_STD, 1.0),
    ("siglip", HALF, HALF, 0.9),
    ("dinov2", IMAGENET_MEAN, IMAGENET_STD, 1.0),
    ("dinov3", IMAGENET_MEAN, IMAGENET_STD, 1.0),
    ("deit", IMAGENET_MEAN, IMAGENET_STD, 0.9),
    ("vit_", HALF, HALF, 0.9),
)
# Activations other than GELU stand in no file: they are the architecture's.
_TANH = re.compile(
    r"vit_(base_patch32|giantopt_patch16|so400m_patch16)_siglip(_gap)?_\d+|"
    r"vit_large_patch16_siglip(_gap)?_512"
)

# Architectures whose blocks are plain; timm's other ones share the names of their tensors, not what
# is computed.
_READ = ("vit_", "deit_", "deit3_", "flexivit_", "eva_")
# Part of an architecture's name -> what it computes that stands in no tensor.
_UNREAD = {
    "_rope": "rotary positions beside or instead of the learned ones",
    "vit_pe_": "the Perception Encoder's rotary positions beside the learned ones",
    "sapiens2": "rotary positions and fewer keys than queries",
    "_rpn": "norms behind its attention and its MLP instead of before them",
}


def refuse_unread(architecture: str, source: str) -> None:
    """Raise CheckpointError for an architecture that would load and give other features; "" is
    none.
    """
    computed = next((reason for part, reason in _UNREAD.items() if part in architecture), None)
    if computed:
        raise CheckpointError(
            f"{source}: the architecture {architecture} has {computed}, with the same tensors as a "
            "model without; accepted: vit_* but for *_rope*, vit_pe_*, *_sapiens2 and *_rpn*"
        )
    if architecture and not architecture.startswith(_READ):
        raise CheckpointError(
            f"{source}: the architecture is {architecture!r}; accepted: timm's "
            f"{', '.join(f'{name}*' for name in _READ)}"
        )


def is_unread(architecture: str) -> bool:
    """Whether :func:`refuse_unread` refuses an architecture for what it computes."""
    return any(part in architecture for part in _UNREAD)


def description_of(found: Found) -> dict[str, Any]:
    """The object in config.json, where it is timm's, else {"architecture": ...} from the file's
    name ("" if none).

    timm's files are named like ``vit_base_patch16_224.augreg_in21k.safetensors``.
    """
    if is_timm(found.config):
        return dict(found.config)
    for name in (found.path.stem, found.folder.name):
        match = _NAME.fullmatch(name)
        if match:
            return {"architecture": match[1]}
    return {"architecture": ""}


def is_timm(config: Mapping[str, Any] | None) -> bool:
    """Whether a config.json is one of timm's."""
    return config is not None and isinstance(config.get("architecture"), str)


def activation_of(architecture: str) -> str:
    """The activation of an architecture, by its name."""
    if "quickgelu" in architecture:
        return "quick_gelu"
    return "gelu_tanh" if _TANH.fullmatch(architecture) else "gelu"


def preprocessing_of(found: Found, side_px: tuple[int, int]) -> tuple[Preprocessing, bool]:
    """The evaluation transform, and whether the file says it (else it is timm's default of the
    architecture).

    ``side_px`` is the size that the positions were learned at. Raises CheckpointError.
    """
    description = description_of(found)
    fields = description.get("pretrained_cfg")
    if isinstance(fields, Mapping):
        try:
            return _transform(fields), True
        except KeyError as error:
            raise CheckpointError(
                f"pretrained_cfg in {found.folder / CONFIG_FILE} has no {error.args[0]!r}; "
                "accepted: "
                "input_size, mean, std, interpolation and crop_pct as timm writes them"
            ) from error
        except (TypeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"pretrained_cfg in {found.folder / CONFIG_FILE}: {error}; accepted: input_size, "
                "mean, std, interpolation and crop_pct as timm writes them"
            ) from error
    for part, mean, std, crop in _PUBLISHED:
        if part in description["architecture"]:
            return Preprocessing(_rule(side_px, "bicubic", crop, "center"), mean, std), False
    raise CheckpointError(
        f"{found.path} does not say how its images were prepared; accepted: timm's {CONFIG_FILE} "
        "beside it "
        "(architecture and pretrained_cfg), a file named by its architecture "
        "(vit_base_patch16_224.augreg_in21k.safetensors), or model.family meta_deit or meta_dino "
        "for Meta's files"
    )


def labels_of(description: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """Class names of config.json, by ``label_descriptions`` where it has them; None without any.
    ValueError.
    """
    fields = (
        description.get("pretrained_cfg")
        if isinstance(description.get("pretrained_cfg"), Mapping)
        else {}
    )
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
    return tuple(
        str(texts.get(name, name)) if isinstance(texts, Mapping) else str(name) for name in names
    )


def _transform(fields: Mapping[str, Any]) -> Preprocessing:
    crop = fields["crop_pct"]
    if isinstance(crop, bool) or not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        raise InvalidValue(f"crop_pct is {crop!r}; accepted: a number above 0, up to 1")
    for name in ("mean", "std"):
        if not isinstance(fields[name], list) or not all(
            isinstance(value, (int, float)) for value in fields[name]
        ):
            raise InvalidValue(f"{name} is {fields[name]!r}; accepted: three numbers")
    rule = _rule(
        input_size_px(fields), fields["interpolation"], crop, fields.get("crop_mode") or "center"
    )
    return Preprocessing(rule, tuple(map(float, fields["mean"])), tuple(map(float, fields["std"])))


def input_size_px(fields: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of ``input_size`` in pretrained_cfg, which is (3, height, width). Raises
    ValueError.
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
        return ResizeRule(size_px, "stretch", None, interpolation)
    if size_px[0] != size_px[1] or mode not in ("center", "squash"):
        raise InvalidValue(
            f"crop_mode is {mode!r} with the size {size_px}; accepted: center or squash with a "
            "square, "
            "squash with crop_pct 1 otherwise"
        )
    if mode == "squash":
        return ResizeRule(
            size_px, "stretch_crop", resized[0], interpolation, crop_rounding="half_even"
        )
    return centre_crop(size_px[0], resized[0], interpolation)
