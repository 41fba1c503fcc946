"""What the Hugging Face families share: reading config.json, preprocessor_config.json and the licence.

Formats: https://huggingface.co/docs/transformers/main_classes/configuration and .../image_processor; the
numbers of ``resample`` are those of Pillow's ``Image.Resampling``.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.found import PREPROCESSOR_FILE, is_there, read_json
from vit_perception.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.regular_files import IrregularFile, open_regular

_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
PROCESSOR_FILE = "processor_config.json"
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
# Far above ImageNet-21k; a config.json may claim any number, and each class gets a name.
_MOST_CLASSES = 1_000_000
# The front matter stands first.
_MOST_README_BYTES, _LONGEST_LICENSE = 1 << 16, 100
_RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def activation_of(fields: Mapping[str, Any]) -> str:
    """The model's name of config.json's ``hidden_act``."""
    given = fields.get("hidden_act", "gelu")
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        raise InvalidValue(f"hidden_act is {given!r}; accepted: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[given]


def eps_of(fields: Mapping[str, Any], default: float) -> float:
    """config.json's ``layer_norm_eps``. Raises ValueError naming it."""
    given = fields.get("layer_norm_eps", default)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < 1:
        raise InvalidValue(f"layer_norm_eps is {given!r}; accepted: a number between 0 and 1")
    return given


def flag_of(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """A field of config.json that is true or false. Raises ValueError naming it."""
    given = fields.get(name, default)
    if not isinstance(given, bool):
        raise InvalidValue(f"{name} is {given!r}; accepted: true or false")
    return given


def scores_of(fields: Mapping[str, Any], default: str) -> str:
    """What makes scores of logits, by config.json's ``problem_type``; ``default`` unless it says several labels."""
    given = fields.get("problem_type")
    if given is not None and given not in _PROBLEM_TYPES:
        raise InvalidValue(f"problem_type is {given!r}; accepted: none, {', '.join(_PROBLEM_TYPES)}")
    return "sigmoid" if given == "multi_label_classification" else default


def size_px(fields: Mapping[str, Any], name: str) -> tuple[int, int]:
    """(height, width) of a field that holds one integer for a square, two, or a height and a width by name."""
    given = fields[name]
    if isinstance(given, Mapping) and set(given) == {"height", "width"}:
        given = (given["height"], given["width"])
    pair = tuple(given) if isinstance(given, (list, tuple)) else (given, given)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise InvalidValue(f"{name} is {given!r}; accepted: a number of pixels, or height and width")
    return pair


def side_px(fields: Mapping[str, Any], name: str) -> int:
    """The side of a field that holds a square size."""
    height, width = size_px(fields, name)
    if height != width:
        raise InvalidValue(f"{name} is {fields[name]!r}; accepted: a square")
    return height


def labels_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of config.json, in order of their index; transformers' own defaults where it has none."""
    names = fields.get("id2label")
    if names is None:
        count = fields.get("num_labels", 2)
        if type(count) is not int or not 1 <= count <= _MOST_CLASSES:
            raise InvalidValue(f"num_labels is {count!r}; accepted: 1 to {_MOST_CLASSES}")
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(names, Mapping):
        raise InvalidValue(f"id2label is {names!r:.80}; accepted: an object of indices and names")
    labels = {int(index): str(name) for index, name in names.items()}
    if sorted(labels) != list(range(len(labels))):
        raise InvalidValue(f"id2label has the indices {sorted(labels)}; accepted: 0 to {len(labels) - 1}, each once")
    return tuple(labels[index] for index in range(len(labels)))


def preprocessing_of(folder: Path, interpolation: str) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    """Resize rule, mean and std of preprocessor_config.json; ``interpolation`` where ``resample`` is not given.

    Raises CheckpointError when the file is missing: a guess would give features that look right and are not.
    """
    path = folder / PREPROCESSOR_FILE
    if not is_there(path) and is_there(folder / PROCESSOR_FILE):
        # transformers 5 writes what image and text processor share a folder with into one file.
        path = folder / PROCESSOR_FILE
        fields = read_json(path, "the fields of an image processor").get("image_processor") or {}
    else:
        fields = read_json(path, "size, image_mean and image_std (for crops also do_center_crop and crop_size), as "
                                 "the model's author published it")
    try:
        return _resize_rule(fields, interpolation), *_mean_and_std(fields)
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error.args[0]!r}; accepted: size, image_mean and image_std") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _resize_rule(fields: Mapping[str, Any], interpolation: str) -> ResizeRule:
    if not fields.get("do_resize", True):
        raise InvalidValue("do_resize is false; accepted: true, since an engine's input has one size")
    resample = fields.get("resample")
    if resample is not None and resample not in _RESAMPLES:
        raise InvalidValue(f"resample is {resample!r}; accepted: {_RESAMPLES}")
    interpolation = interpolation if resample is None else _RESAMPLES[resample]
    size, crop = fields["size"], fields.get("do_center_crop", False)
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if not crop and shortest is not None and isinstance(size, Mapping):
        raise InvalidValue(f"size is {size!r} without do_center_crop; accepted: height and width, or shortest_edge "
                           "with a crop")
    if not crop:
        return ResizeRule(size_px(fields, "size"), fit="stretch", interpolation=interpolation)
    cut = size_px(fields, "crop_size")
    if isinstance(size, Mapping) and shortest is None or _is_deit(fields):
        if size_px(fields, "size") == cut:
            return ResizeRule(cut, fit="stretch", interpolation=interpolation)
        return ResizeRule(cut, "stretch_crop", side_px(fields, "size"), interpolation)
    return ResizeRule(cut, fit="crop", resize_shortest_edge_px=shortest, interpolation=interpolation)


def _is_deit(fields: Mapping[str, Any]) -> bool:
    """Whether a size of one number is both edges before the crop, not the shortest one."""
    return str(fields.get("image_processor_type") or fields.get("feature_extractor_type", "")).startswith("DeiT")


def _mean_and_std(fields: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    factor = fields.get("rescale_factor", 1 / 255)
    if not fields.get("do_rescale", True) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise InvalidValue(f"do_rescale is {fields.get('do_rescale', True)} with rescale_factor {factor!r}; accepted: "
                           "pixels scaled by 1/255")
    if not fields.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tuple(map(float, fields["image_mean"])), tuple(map(float, fields["image_std"]))


def license_of(folder: Path) -> str:
    """The ``license`` in the front matter of the folder's README.md (a hub model card); '' where there is none."""
    try:
        with open_regular(folder / "README.md") as file:
            lines = file.read(_MOST_README_BYTES).decode("utf-8", errors="replace").splitlines()
    except (IrregularFile, OSError):
        return ""
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.split(":", 1)[1].strip().strip("'\"")[:_LONGEST_LICENSE]
    return ""
