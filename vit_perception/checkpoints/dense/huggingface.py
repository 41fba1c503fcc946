"""What Hugging Face's ``dpt`` and ``depth_anything`` have in common: a DINOv2 inside, and the
preprocessing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vit_perception.checkpoints.dense.names import CAMERA_SIZE_PX, size_keeping_aspect
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.opened import CONFIG_FILE, PREPROCESSOR_FILE, Found
from vit_perception.checkpoints.huggingface import dinov2 as huggingface_dinov2
from vit_perception.checkpoints.huggingface.config import flag_of, size_px
from vit_perception.checkpoints.huggingface.processor import check_padding, preprocessing_of
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

# transformers leaves what is a Dinov2Config's default out of a config inside a config.
_DINOV2_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 14,
}


class Backbone(NamedTuple):
    """The ViT inside, which blocks' tokens the head takes, and whether behind the final norm."""

    config: ViTConfig
    blocks: tuple[int, ...]
    norm: bool


def dinov2_backbone(fields: Mapping[str, Any]) -> Backbone:
    """The backbone of ``backbone_config`` in config.json. Raises ValueError for one that is no
    DINOv2.
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
    config = ViTConfig(**huggingface_dinov2.shape_of(_DINOV2_DEFAULTS | dict(given)))
    return Backbone(
        config, _blocks_of(given, config.depth), flag_of(given, "apply_layernorm", True)
    )


def _blocks_of(given: Mapping[str, Any], depth: int) -> tuple[int, ...]:
    """``out_indices`` or ``out_features`` (stage1 …) count what enters the first block as 0."""
    indices = given.get("out_indices")
    if indices is None:
        indices = [
            int(str(name).removeprefix("stage"))
            for name in given.get("out_features") or [f"stage{depth}"]
        ]
    blocks = sorted((index if index >= 0 else depth + 1 + index) - 1 for index in indices)
    if not all(0 <= block < depth for block in blocks):
        raise InvalidValue(
            f"out_indices of backbone_config is {list(indices)}; accepted: 1 to {depth}"
        )
    return tuple(blocks)


def dense_preprocessing(
    found: Found, interpolation: str
) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    """As :func:`preprocessing_of`, with ``keep_aspect_ratio`` and ``ensure_multiple_of`` for a
    camera of 4 : 3.
    """
    rule, mean, std = preprocessing_of(found.folder, interpolation, dense=True)
    fields, path = found.preprocessor or {}, found.folder / PREPROCESSOR_FILE
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
        raise CheckpointError(f"{path}: {error}") from error
    return replace(rule, network_size_px=target), mean, std


def required_config(found: Found) -> Mapping[str, Any]:
    """The fields of config.json. Raises CheckpointError where there is none."""
    if found.config is None:
        raise CheckpointError(
            f"{found.folder}: no file {CONFIG_FILE}; accepted: one with the model's sizes"
        )
    return found.config


def tuple_of(fields: Mapping[str, Any], name: str, default: tuple) -> tuple:
    """A list of config.json. Raises ValueError where the field holds something else."""
    given = fields.get(name)
    if given is None:
        return default
    if not isinstance(given, (list, tuple)):
        raise InvalidValue(f"{name} is {given!r}; accepted: a list of numbers")
    return tuple(given)
