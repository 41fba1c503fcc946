"""The package's own checkpoint folder, which `vit-perception fit` and `extract` write: nothing is
renamed or guessed.

config.json has ``model_type`` "vit_perception", a format number, every field of ViTConfig, the
labels, and what makes scores of logits; preprocessor_config.json the resize rule, mean and std;
model.safetensors the weights by the model's own names; the front matter of README.md the licence.
What was extracted from a policy also has ``connector``, ``state`` and ``second`` (an encoder beside
the first), the shapes of these, and ``origin``, where it comes from.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    CONNECTOR,
    SECOND,
    STATE,
    Family,
    LoadPlan,
    Preprocessing,
    SecondPlan,
)
from vit_perception.checkpoints.files.checkpoint_files import (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    CheckpointFiles,
)
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.connectors import ConnectorSpec, make_connector
from vit_perception.heads.policy_state import StateSpec, make_state_projection
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.model_card import SCORES
from vit_perception.model.second_encoder import check_pair
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.model.vit_config import ViTConfig

MODEL_TYPE = "vit_perception"
FORMAT = 1


def config_json(
    config: ViTConfig, labels: tuple[str, ...], scores: str = "softmax", **of_policy: object
) -> str:
    """Write the text of config.json; ``of_policy`` are the keys of what was extracted."""
    content = {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        "model": asdict(config),
        "labels": list(labels),
        "scores": scores,
        **of_policy,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def preprocessor_json(
    rule: ResizeRule, mean: tuple[float, ...], std: tuple[float, ...], **marks: bool
) -> str:
    """Write the text of preprocessor_config.json; ``marks`` are further keys."""
    content = {"rule": rule.fields(), "image_mean": list(mean), "image_std": list(std), **marks}
    return json.dumps(content, indent=1) + "\n"


def recognises(files: CheckpointFiles) -> bool:
    """Tell by config.json."""
    return files.config is not None and files.config.get("model_type") == MODEL_TYPE


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model of a folder that this package wrote.

    Raises:
        CheckpointError: A file is missing, or a field is wrong.
    """
    path = files.folder / CONFIG_FILE
    if files.config is None or files.preprocessor is None:
        missing = CONFIG_FILE if files.config is None else PREPROCESSOR_FILE
        raise CheckpointError(
            f"{files.folder}: no file {missing}; accepted: all files that `vit-perception fit` "
            "wrote"
        )
    try:
        config = config_of(files.config)
        labels = labels_of(files.config, config)
        scores = files.config.get("scores")
        if scores not in SCORES:
            raise InvalidValue(f"scores is {scores!r}; accepted: {', '.join(SCORES)}")
        connector = _optional(ConnectorSpec, files.config, "connector")
        second = _second_of(files.config, config)
        if connector is not None:
            connector.check_tower(config.width + (second.config.width if second else 0))
        state = _optional(StateSpec, files.config, "state")
        path = files.folder / PREPROCESSOR_FILE
        preprocessing = preprocessing_of(files.preprocessor)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with torch.device("meta"):
        names = [*VisionTransformer(config).state_dict()]
    if connector is not None:
        names += [f"{CONNECTOR}{name}" for name in make_connector(connector).state_dict()]
    if second is not None:
        with torch.device("meta"):
            names += [f"{SECOND}{name}" for name in VisionTransformer(second.config).state_dict()]
    if state is not None:
        names += [f"{STATE}{name}" for name in make_state_projection(state).state_dict()]
    return LoadPlan(
        config=config,
        key_map={name: (name,) for name in names},
        preprocessing=preprocessing,
        labels=labels,
        scores=scores,
        license=license_of(files.folder),
        connector=connector,
        state=state,
        second=second,
    )


def config_of(content: Mapping[str, Any]) -> ViTConfig:
    """Read the model's shape from config.json.

    Raises:
        ValueError: A field is wrong.
    """
    if content.get("format") != FORMAT:
        raise InvalidValue(
            f"format is {content.get('format')!r}; accepted: {FORMAT}, the one that this version "
            "writes"
        )
    return _dataclass_of(ViTConfig, content.get("model"), "model")


def labels_of(content: Mapping[str, Any], config: ViTConfig) -> tuple[str, ...]:
    """Read the class names from config.json.

    Raises:
        ValueError: They are not as many as the head has classes.
    """
    labels = content.get("labels")
    is_list = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not is_list or len(labels) != config.classes:
        raise InvalidValue(f"labels is {labels!r}; accepted: a list of {config.classes} names")
    return tuple(labels)


def preprocessing_of(content: Mapping[str, Any]) -> Preprocessing:
    """Read preprocessor_config.json.

    Raises:
        ValueError: A field is wrong.
    """
    rule = _dataclass_of(ResizeRule, content.get("rule"), "rule")
    return Preprocessing(rule, _three(content, "image_mean"), _three(content, "image_std"))


def _three(content: Mapping[str, Any], name: str) -> tuple[float, ...]:
    given = content.get(name)
    is_list = isinstance(given, list) and all(isinstance(value, (int, float)) for value in given)
    if not is_list or len(given) != 3:
        raise InvalidValue(f"{name} is {given!r}; accepted: three numbers")
    return tuple(map(float, given))


def _second_of(content: Mapping[str, Any], first: ViTConfig) -> SecondPlan | None:
    given = content.get("second")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidValue(f"second is {given!r:.80}; accepted: an object")
    config = _dataclass_of(ViTConfig, given.get("model"), "model of second")
    check_pair(first, config)
    return SecondPlan(config, _three(given, "image_mean"), _three(given, "image_std"))


def _optional(kind: type, content: Mapping[str, Any], name: str) -> Any:
    return None if content.get(name) is None else _dataclass_of(kind, content[name], name)


def _dataclass_of(kind: type, given: Any, name: str) -> Any:
    """Make an instance from a JSON object; a missing field has its default."""
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
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidValue(f"{name}: {error}; accepted: the fields of {kind.__name__}") from error


FAMILY = Family(
    name=MODEL_TYPE,
    recognises=recognises,
    read=read,
    model_type=MODEL_TYPE,
    signature_keys=(
        "patch_embedding.projection.weight",
        "blocks.0.attention.query.weight",
        "blocks.0.norm_attention.weight",
        "blocks.0.mlp.up.weight",
        "norm.weight",
    ),
)
