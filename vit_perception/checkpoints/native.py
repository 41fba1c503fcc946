"""The package's own checkpoint folder, which `vit-perception fit` writes: nothing is renamed and
nothing guessed.

config.json has ``model_type`` "vit_perception", a format number, every field of ViTConfig, the
labels and what makes scores of logits; preprocessor_config.json the resize rule, mean and std;
model.safetensors the weights by the model's own names; the front matter of README.md the licence.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import CONFIG_FILE, PREPROCESSOR_FILE, Found
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.model_card import SCORES
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import ViTConfig

MODEL_TYPE = "vit_perception"
FORMAT = 1


def config_json(config: ViTConfig, labels: tuple[str, ...], scores: str = "softmax") -> str:
    """The text of config.json."""
    return (
        json.dumps(
            {
                "model_type": MODEL_TYPE,
                "format": FORMAT,
                "model": asdict(config),
                "labels": list(labels),
                "scores": scores,
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


def preprocessor_json(rule: ResizeRule, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """The text of preprocessor_config.json."""
    return (
        json.dumps(
            {"rule": asdict(rule), "image_mean": list(mean), "image_std": list(std)}, indent=1
        )
        + "\n"
    )


def recognises(found: Found) -> bool:
    """Whether config.json says so."""
    return found.config is not None and found.config.get("model_type") == MODEL_TYPE


def read(found: Found) -> Reading:
    """The model of a folder that this package wrote. Raises CheckpointError naming the file and the
    field.
    """
    path = found.folder / CONFIG_FILE
    if found.config is None or found.preprocessor is None:
        missing = CONFIG_FILE if found.config is None else PREPROCESSOR_FILE
        raise CheckpointError(
            f"{found.folder}: no file {missing}; accepted: all files that `vit-perception fit` "
            "wrote"
        )
    try:
        config = config_of(found.config)
        labels, scores = labels_of(found.config, config), found.config.get("scores")
        if scores not in SCORES:
            raise InvalidValue(f"scores is {scores!r}; accepted: {', '.join(SCORES)}")
        path = found.folder / PREPROCESSOR_FILE
        rule, mean, std = preprocessing_of(found.preprocessor)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with torch.device("meta"):
        names = VisionTransformer(config).state_dict()
    return Reading(
        config,
        {name: (name,) for name in names},
        rule,
        mean,
        std,
        labels,
        scores,
        license=license_of(found.folder),
    )


def config_of(found: Mapping[str, Any]) -> ViTConfig:
    """The model's shape from the object in config.json. Raises ValueError naming the field."""
    if found.get("format") != FORMAT:
        raise InvalidValue(
            f"format is {found.get('format')!r}; accepted: {FORMAT}, the one that this version "
            "writes"
        )
    return _dataclass_of(ViTConfig, found.get("model"), "model")


def labels_of(found: Mapping[str, Any], config: ViTConfig) -> tuple[str, ...]:
    """The class names, as many as the head has classes. Raises ValueError."""
    labels = found.get("labels")
    if (
        not isinstance(labels, list)
        or not all(isinstance(la, str) for la in labels)
        or len(labels) != config.classes
    ):
        raise InvalidValue(f"labels is {labels!r}; accepted: a list of {config.classes} names")
    return tuple(labels)


def preprocessing_of(
    found: Mapping[str, Any],
) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    """Resize rule, mean and std from the object in preprocessor_config.json. Raises ValueError."""
    rule = _dataclass_of(ResizeRule, found.get("rule"), "rule")
    values = []
    for name in ("image_mean", "image_std"):
        given = found.get(name)
        if (
            not isinstance(given, list)
            or len(given) != 3
            or not all(isinstance(v, (int, float)) for v in given)
        ):
            raise InvalidValue(f"{name} is {given!r}; accepted: three numbers")
        values.append(tuple(map(float, given)))
    return rule, *values


FAMILY = Family(
    MODEL_TYPE,
    recognises,
    read,
    model_type=MODEL_TYPE,
    marks=(
        "patch_embedding.projection.weight",
        "blocks.0.attention.query.weight",
        "blocks.0.norm_attention.weight",
        "blocks.0.mlp.up.weight",
        "norm.weight",
    ),
)


def _dataclass_of(kind: type, given: Any, name: str) -> Any:
    """An instance from a JSON object: a field that is unknown or wrong is refused, a new one has
    its default.
    """
    if not isinstance(given, Mapping):
        raise InvalidValue(
            f"{name} is {given!r}; accepted: an object with the fields of {kind.__name__}"
        )
    known = {field.name for field in fields(kind)}
    if set(given) - known:
        raise InvalidValue(
            f"{name} has the fields {', '.join(sorted(set(given) - known))}; accepted: "
            f"{', '.join(sorted(known))}"
        )
    try:
        return kind(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in given.items()
            }
        )
    except TypeError as error:
        raise InvalidValue(f"{name}: {error}; accepted: the fields of {kind.__name__}") from error
