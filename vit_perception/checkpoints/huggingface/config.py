"""What the Hugging Face families share: reading config.json, field by field, and the licence.

Format: https://huggingface.co/docs/transformers/main_classes/configuration. A file may hold
anything under a name: each field is read by its type and in bounds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import IrregularFile, open_regular

_ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
# Far above ImageNet-21k; a config.json may claim any number, and each class gets a name.
_MOST_CLASSES = 1_000_000
# The front matter stands first.
_MOST_README_BYTES, _LONGEST_LICENSE = 1 << 16, 100


def activation_of(fields: Mapping[str, Any]) -> str:
    """The model's name of config.json's ``hidden_act``."""
    given = fields.get("hidden_act", "gelu")
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        raise InvalidValue(f"hidden_act is {given!r:.80}; accepted: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[given]


def number_of(
    fields: Mapping[str, Any], name: str, default: float, low: float, high: float
) -> float:
    """A field of config.json that is a number from ``low`` to ``high``. Raises ValueError naming
    it.
    """
    given = fields.get(name, default)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not low <= given <= high:
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: a number from {low} to {high}")
    return given


def numbers_of(fields: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    """A field that is a list of ``count`` finite numbers. Raises ValueError, KeyError where there
    is none.
    """
    given = fields[name]
    if (
        not isinstance(given, (list, tuple))
        or len(given) != count
        or not all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30
            for value in given
        )
    ):
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: {count} numbers")
    return tuple(map(float, given))


def refuse_other_functions(fields: Mapping[str, Any]) -> None:
    """Raise ValueError for what makes another function of the same tensors, and is not known
    here.
    """
    for name in (
        "quantization_config",
        "rope_scaling",
        "rope_parameters",
        "head_mask",
        "pruned_heads",
    ):
        if fields.get(name):
            raise InvalidValue(
                f"{name} is {fields[name]!r:.80}, which changes what the weights compute; "
                "accepted: a "
                "model without"
            )


def eps_of(fields: Mapping[str, Any], default: float) -> float:
    """config.json's ``layer_norm_eps``. Raises ValueError naming it."""
    given = fields.get("layer_norm_eps", default)
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < 1:
        raise InvalidValue(f"layer_norm_eps is {given!r:.80}; accepted: a number between 0 and 1")
    return given


def flag_of(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """A field of config.json that is true or false. Raises ValueError naming it."""
    given = fields.get(name, default)
    if not isinstance(given, bool):
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: true or false")
    return given


def scores_of(fields: Mapping[str, Any], default: str) -> str:
    """What makes scores of logits: by config.json's ``problem_type``, then its
    ``function_to_apply``, else ``default``.

    Raises ValueError for heads of regression: what they give is no score.
    """
    problem, function = fields.get("problem_type"), fields.get("function_to_apply")
    if problem is not None and problem not in _PROBLEM_TYPES:
        raise InvalidValue(
            f"problem_type is {problem!r:.80}; accepted: none, {', '.join(_PROBLEM_TYPES[1:])}"
        )
    if problem == "regression" or (problem is None and function == "none"):
        name = "problem_type is 'regression'" if problem else "function_to_apply is 'none'"
        raise InvalidValue(
            f"{name}: the head measures, and what it gives is no score of a class; accepted: "
            f"{', '.join(_PROBLEM_TYPES[1:])}, or the model without its classifier (AutoModel's "
            "save_pretrained)"
        )
    if function is not None and function not in ("softmax", "sigmoid"):
        raise InvalidValue(f"function_to_apply is {function!r:.80}; accepted: softmax, sigmoid")
    if problem is not None:
        return "sigmoid" if problem == "multi_label_classification" else "softmax"
    return function or default


def size_px(fields: Mapping[str, Any], name: str) -> tuple[int, int]:
    """(height, width) of a field that holds one integer for a square, two, or a height and a width
    by name.
    """
    given = fields[name]
    if isinstance(given, Mapping) and set(given) == {"height", "width"}:
        given = (given["height"], given["width"])
    pair = tuple(given) if isinstance(given, (list, tuple)) else (given, given)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise InvalidValue(
            f"{name} is {given!r:.80}; accepted: a number of pixels, or height and width"
        )
    return pair


def side_px(fields: Mapping[str, Any], name: str) -> int:
    """The side of a field that holds a square size."""
    height, width = size_px(fields, name)
    if height != width:
        raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: a square")
    return height


def labels_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of config.json, in order of their index; transformers' own defaults where it
    has none.
    """
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
        raise InvalidValue(
            f"id2label has the indices {str(sorted(labels))[:80]}; accepted: 0 to "
            f"{len(labels) - 1}, "
            "each once"
        )
    return tuple(labels[index] for index in range(len(labels)))


def license_of(folder: Path) -> str:
    """The ``license`` in the front matter of the folder's README.md (a hub model card); '' where
    there is none.
    """
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
