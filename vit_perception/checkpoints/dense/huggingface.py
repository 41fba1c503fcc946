"""What Hugging Face's ``dpt`` and ``depth_anything`` share: a DINOv2, and the preprocessing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vit_perception.checkpoints.by_hand import parameters_hint
from vit_perception.checkpoints.dense.names import CAMERA_SIZE_PX, size_keeping_aspect
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    CheckpointFiles,
    is_there,
)
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.config import flag_of, size_px
from vit_perception.checkpoints.huggingface.processor import (
    PROCESSOR_FILE,
    check_padding,
    preprocessing_of,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

# transformers leaves defaults of Dinov2Config out of a config inside a config.
_DINOV2_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 14,
}


class Backbone(NamedTuple):
    """The ViT under a dense head."""

    config: ViTConfig
    # The blocks whose tokens the head takes, and whether after the final norm.
    blocks: tuple[int, ...]
    norm: bool


def dinov2_backbone(fields: Mapping[str, Any]) -> Backbone:
    """Read the backbone of ``backbone_config`` in config.json.

    Raises:
        ValueError: It is no DINOv2, or a field is wrong.
    """
    given = fields.get("backbone_config")
    if not isinstance(given, Mapping) or given.get("model_type") != "dinov2":
        kind = given.get("model_type") if isinstance(given, Mapping) else fields.get("backbone")
        raise InvalidValue(
            f"the backbone is {kind!r}; accepted: backbone_config of model_type dinov2"
        )
    if given.get("reshape_hidden_states", True):
        raise InvalidValue(
            "reshape_hidden_states of backbone_config is true; accepted: false, as the "
            "head takes tokens"
        )
    config = ViTConfig(**huggingface_dinov2.config_fields(_DINOV2_DEFAULTS | dict(given)))
    return Backbone(
        config, _blocks_of(given, config.depth), flag_of(given, "apply_layernorm", True)
    )


def _blocks_of(given: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    """Read ``out_indices`` or ``out_features`` (stage1 …). 0 is what enters the first block."""
    indices = given.get("out_indices")
    if indices is None:
        names = given.get("out_features") or [f"stage{depth}"]
        indices = [int(str(name).removeprefix("stage")) for name in names]
    blocks = sorted((index if index >= 0 else depth + 1 + index) - 1 for index in indices)
    if not all(0 <= block < depth for block in blocks):
        raise InvalidValue(
            f"out_indices of backbone_config is {list(indices)}; accepted: 1 to {depth}"
        )
    return tuple(blocks)


def dense_preprocessing(files: CheckpointFiles) -> Preprocessing:
    """Read as :func:`preprocessing_of`, with ``keep_aspect_ratio`` and ``ensure_multiple_of`` for a
    camera of 4 : 3.
    """
    if not any(is_there(files.folder / name) for name in (PREPROCESSOR_FILE, PROCESSOR_FILE)):
        # Refused, or given by hand: that size is the network's, with no aspect to keep.
        hint = parameters_hint(files.by_hand)
        return preprocessing_of(
            files.folder, "bicubic", dense=True, hint=hint, by_hand=files.by_hand
        )
    given = preprocessing_of(files.folder, "bicubic", dense=True)
    fields = files.preprocessor or {}
    multiple = fields.get("ensure_multiple_of") or 1
    try:
        target = size_px(fields, "size")
        if type(multiple) is not int or multiple < 1:
            raise InvalidValue(
                f"ensure_multiple_of is {multiple!r}; accepted: a whole number of at least 1"
            )
        source = CAMERA_SIZE_PX if flag_of(fields, "keep_aspect_ratio", False) else target
        target = size_keeping_aspect(target, source, multiple)
        check_padding(fields, target)
    except ValueError as error:
        raise CheckpointError(f"{files.folder / PREPROCESSOR_FILE}: {error}") from error
    return given._replace(rule=replace(given.rule, network_size_px=target))


def required_config(files: CheckpointFiles) -> Mapping[str, Any]:
    """Give the fields of config.json.

    Raises:
        CheckpointError: There is none.
    """
    if files.config is None:
        raise CheckpointError(
            f"{files.folder}: no file {CONFIG_FILE}; accepted: one with the model's sizes"
        )
    return files.config


def tuple_of(fields: Mapping[str, Any], name: str, default: tuple) -> tuple:
    """Read a list.

    Raises:
        ValueError: The field is something else.
    """
    given = fields.get(name)
    if given is None:
        return default
    if not isinstance(given, (list, tuple)):
        raise InvalidValue(f"{name} is {given!r}; accepted: a list of numbers")
    return tuple(given)
