"""What the Hugging Face families share: the fields of config.json, and the licence.

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
# Far above ImageNet-21k. A config.json may claim any number, and each class gets a name.
_MOST_CLASSES = 1_000_000
# The front matter comes first.
_MOST_README_BYTES = 1 << 16
_LONGEST_LICENSE = 100
# They make another function of the same tensors.
_OTHER_FUNCTIONS = (
    "quantization_config",
    "rope_scaling",
    "rope_parameters",
    "head_mask",
    "pruned_heads",
)


def activation_of(fields: Mapping[str, Any]) -> str:
    """Read ``hidden_act``, and give the model's name of it."""
    given = fields.get("hidden_act", "gelu")
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        raise InvalidValue(f"hidden_act is {given!r:.80}; accepted: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[given]


def number_of(
    fields: Mapping[str, Any], name: str, default: float, low: float, high: float
) -> float:
    """Read a number from ``low`` to ``high``.

    Raises:
        ValueError: The field is something else.
    """
    given = fields.get(name, default)
    if not _is_number(given) or not low <= given <= high:
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: a number from {low} to {high}")
    return given


def whole_number_of(fields: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """Read an integer from ``low`` to ``high``.

    Raises:
        ValueError: The field is something else.
    """
    given = fields.get(name, default)
    if type(given) is not int or not low <= given <= high:
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: an integer from {low} to {high}")
    return given


def numbers_of(fields: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    """Read a list of ``count`` finite numbers.

    Raises:
        ValueError: The field is something else.
        KeyError: There is no such field.
    """
    given = fields[name]
    if (
        not isinstance(given, (list, tuple))
        or len(given) != count
        or not all(_is_number(value) and abs(value) < 1e30 for value in given)
    ):
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: {count} numbers")
    return tuple(map(float, given))


def refuse_other_functions(fields: Mapping[str, Any]) -> None:
    """Refuse what makes an unknown function of the same tensors.

    Raises:
        ValueError: Such a field is set.
    """
    for name in _OTHER_FUNCTIONS:
        if fields.get(name):
            raise InvalidValue(
                f"{name} is {fields[name]!r:.80}, which changes what the weights compute; "
                "accepted: a model without"
            )


def eps_of(fields: Mapping[str, Any], default: float) -> float:
    """Read ``layer_norm_eps``.

    Raises:
        ValueError: It is no number between 0 and 1.
    """
    given = fields.get("layer_norm_eps", default)
    if not _is_number(given) or not 0 < given < 1:
        raise InvalidValue(f"layer_norm_eps is {given!r:.80}; accepted: a number between 0 and 1")
    return given


def flag_of(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """Read a field that is true or false.

    Raises:
        ValueError: It is something else.
    """
    given = fields.get(name, default)
    if not isinstance(given, bool):
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: true or false")
    return given


def scores_of(fields: Mapping[str, Any], default: str) -> str:
    """Tell what makes scores of logits: ``problem_type``, then ``function_to_apply``, then
    ``default``.

    Raises:
        ValueError: A field is wrong, or the head is one of regression, which gives no scores.
    """
    problem = fields.get("problem_type")
    function = fields.get("function_to_apply")
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
    """Read (height, width): one integer for a square, two integers, or height and width by name.

    Raises:
        ValueError: The field is something else.
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
    """Read the side of a square size.

    Raises:
        ValueError: The field is something else.
    """
    height, width = size_px(fields, name)
    if height != width:
        raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: a square")
    return height


def labels_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the class names in the order of their index; without any, take transformers' defaults.

    Raises:
        ValueError: The fields are something else.
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
            f"{len(labels) - 1}, each once"
        )
    return tuple(labels[index] for index in range(len(labels)))


def license_of(folder: Path) -> str:
    """Read ``license`` in the front matter of the folder's README.md (a hub model card), else
    "".
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
