"""The image towers of Qwen2.5-VL (arXiv:2502.13923) and Qwen3-VL at a fixed grid: folders of
transformers' ``qwen2_5_vl`` and ``qwen3_vl``, whole or the tower alone.

Tokens are those of the last block, row-major; behind them stands the merger, as the connector. The
language model is known and unused, and so are Qwen3-VL's deep-stack mergers (features of earlier
blocks, which its language model adds to its own layers): the connector names these blocks. A still
picture is taken for all frames that a patch of the tower covers, so the frames' weights are summed.

The models take each picture at a grid of its own. Here every picture is stretched to the size that
the model's processor gives one of 480 x 640 px, or to ``model.network_size``. Sources:
transformers, models/qwen2_5_vl and models/qwen3_vl.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.by_hand import parameters_hint
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    Family,
    KeyMap,
    LoadPlan,
    linear_and_norm_names,
)
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    license_of,
    number_of,
    refuse_other_functions,
    side_px,
    whole_number_of,
)
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.checkpoints.language_models.qwen_merger import (
    MERGER_OF_2_5,
    MERGER_OF_3,
    Merger,
)
from vit_perception.checkpoints.policies.policy_files import refuse_unmerged
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

# What most cameras give, (height, width).
_CAMERA_PX = (480, 640)
_PREFIXES = ("model.visual.", "visual.")
_UNUSED = ("deepstack_merger_list.*", "model.*", "language_model.*", "lm_head.*")
_ATTENTION = {
    "attn.qkv": ("attention.query", "attention.key", "attention.value"),
    "attn.proj": ("attention.output",),
    "norm1": ("norm_attention",),
    "norm2": ("norm_mlp",),
}
_GATED = {
    "mlp.gate_proj": ("mlp.gate",),
    "mlp.up_proj": ("mlp.up",),
    "mlp.down_proj": ("mlp.down",),
}
_PLAIN = {"mlp.linear_fc1": ("mlp.up",), "mlp.linear_fc2": ("mlp.down",)}
_EPS = 1e-6
_FIELDS_OF_ROPE = ("rope_parameters", "rope_scaling")
_MOST_PIXELS = 1 << 28
# Of the processor alone.
_OWN_FIELDS = (
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "min_pixels",
    "max_pixels",
    "size",
)


def _theta_of(vision: Mapping[str, Any]) -> float:
    """Read the base of the rotary positions' periods."""
    given = vision.get("rope_parameters") or {}
    kind = given.get("rope_type", "axial")
    if kind != "axial" or vision.get("rope_scaling"):
        raise InvalidValue(
            f"rope_parameters of the image tower is {given!r:.80}, rope_scaling "
            f"{vision.get('rope_scaling')!r:.80}; accepted: rope_type axial, and no scaling"
        )
    return float(number_of(given, "rope_theta", 10_000.0, 1.001, 1e12))


def _shared_fields(vision: Mapping[str, Any]) -> dict[str, Any]:
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    if channels != 3:
        raise InvalidValue(f"in_channels is {channels!r:.80}; accepted: 3")
    return {
        "width": vision["hidden_size"],
        "depth": vision["depth"],
        "heads": vision["num_heads"],
        "mlp_width": vision["intermediate_size"],
        "patch_size_px": side_px(vision, "patch_size"),
        "norm_eps": _EPS,
        "cls_token": False,
        "pooling": "mean",
        "final_norm": False,
        "rope_theta": _theta_of(vision),
        "rope_places": "indices",
    }


def fields_of_2_5(vision: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields of Qwen2.5-VL: RMSNorm, SwiGLU, and windows in most blocks."""
    if vision.get("hidden_act", "silu") != "silu":
        raise InvalidValue(f"hidden_act is {vision['hidden_act']!r:.80}; accepted: silu")
    shared = _shared_fields(vision)
    patch = shared["patch_size_px"]
    merge = whole_number_of(vision, "spatial_merge_size", 2, 1, 64)
    window = whole_number_of(vision, "window_size", 112, merge * patch, 1 << 14)
    blocks = vision.get("fullatt_block_indexes", (7, 15, 23, 31))
    if not isinstance(blocks, (list, tuple)):
        raise InvalidValue(f"fullatt_block_indexes is {blocks!r:.80}; accepted: a list of blocks")
    return {
        **shared,
        "image_size_px": (patch, patch),
        "activation": "swiglu",
        "norm": "rms",
        "position_embedding": "none",
        # A window is a whole number of merged patches.
        "window_patches": window // merge // patch * merge,
        "full_blocks": tuple(blocks),
    }


def fields_of_3(vision: Mapping[str, Any]) -> dict[str, Any]:
    """Read ViTConfig's fields of Qwen3-VL: learned positions beside the rotary ones."""
    shared = _shared_fields(vision)
    learned = whole_number_of(vision, "num_position_embeddings", 2304, 1, 1 << 20)
    side = math.isqrt(learned)
    if side * side != learned:
        raise InvalidValue(f"num_position_embeddings is {learned}; accepted: a square number")
    return {
        **shared,
        "image_size_px": (side * shared["patch_size_px"],) * 2,
        "activation": activation_of({"hidden_act": "gelu_pytorch_tanh", **vision}),
        "position_interpolation": "bilinear_corners",
    }


def processor_fields(fields: Mapping[str, Any], patch: int, merge: int) -> dict[str, Any]:
    """Turn bounds on the number of pixels into the size of a picture of 480 x 640 px.

    Raises:
        ValueError: A field is wrong, or patches or squares of patches are not the model's.
    """
    for name, own in (("patch_size", patch), ("merge_size", merge)):
        if whole_number_of(fields, name, own, 1, 1024) != own:
            raise InvalidValue(f"{name} is {fields[name]}; accepted: {own}, the model's")
    factor = patch * merge
    size = fields.get("size") or {}
    bounds = {
        "min_pixels": size.get("shortest_edge", 56 * 56),
        "max_pixels": size.get("longest_edge", 28 * 28 * 1280),
        **{name: fields[name] for name in ("min_pixels", "max_pixels") if fields.get(name)},
    }
    least = whole_number_of(bounds, "min_pixels", 1, 1, _MOST_PIXELS)
    most = whole_number_of(bounds, "max_pixels", 1, least, _MOST_PIXELS)
    height, width = (round(side / factor) * factor for side in _CAMERA_PX)
    ratio = 1.0
    if height * width > most:
        ratio = math.sqrt(most / (_CAMERA_PX[0] * _CAMERA_PX[1]))
        height, width = (max(1, int(side * ratio // factor)) * factor for side in _CAMERA_PX)
    elif height * width < least:
        ratio = math.sqrt(least / (_CAMERA_PX[0] * _CAMERA_PX[1]))
        height, width = (math.ceil(side * ratio / factor) * factor for side in _CAMERA_PX)
    others = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    return {**others, "size": {"height": height, "width": width}}


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    layers = {"patch_embed.proj": ("patch_embedding.projection",)}
    block_layers = _ATTENTION | (_GATED if config.activation == "swiglu" else _PLAIN)
    for index in range(config.depth):
        block = f"blocks.{index}"  # here the file and the model agree
        for theirs, targets in block_layers.items():
            layers[f"{block}.{theirs}"] = tuple(f"{block}.{target}" for target in targets)
    names = linear_and_norm_names(layers)
    return names | {"pos_embed.weight": ("position_embedding",)}


def _frames_summed(weight: Tensor) -> Tensor:
    return weight.sum(dim=2)  # (D, 3, frames, side, side)


@dataclass(frozen=True)
class _Qwen:
    model_type: str
    config_fields: Callable[[Mapping[str, Any]], dict[str, Any]]
    signature_keys: tuple[str, ...]
    merger: Merger

    def recognises(self, files: CheckpointFiles) -> bool:
        """Tell by ``model_type``; without a config.json by the names."""
        if files.config is not None:
            types = (self.model_type, f"{self.model_type}_vision")
            return files.config.get("model_type") in types
        return any(
            files.has(*(f"{prefix}{key}" for key in self.signature_keys))
            for prefix in ("", *_PREFIXES)
        )

    def read(self, files: CheckpointFiles) -> LoadPlan:
        """Plan the model.

        Raises:
            CheckpointError: A file is missing, a field is wrong, or a whole model has an adapter
                or no merger.
        """
        refuse_unmerged(files)
        path = files.folder / CONFIG_FILE
        if files.config is None:
            raise CheckpointError(
                f"{files.folder}: no file {CONFIG_FILE}; accepted: one with the model's sizes"
            )
        try:
            vision = files.config.get("vision_config", files.config)
            for fields in (files.config, vision):
                # Rotary positions of the whole model are the language model's.
                refuse_other_functions(
                    {name: fields[name] for name in fields if name not in _FIELDS_OF_ROPE}
                )
            config = ViTConfig(**self.config_fields(vision))
            merge = whole_number_of(vision, "spatial_merge_size", 2, 1, 16)
            connector = self.merger.read(files, config, merge, vision)
        except KeyError as error:
            raise CheckpointError(
                f"{path} has no {error.args[0]!r}; accepted: all sizes of a {self.model_type} model"
            ) from error
        except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        zeros = {}
        if config.norm == "rms":
            zeros["patch_embedding.projection.bias"] = (config.width,)
        names = dict(key_map(config))
        if connector is not None:
            names |= self.merger.names()
        return LoadPlan(
            config=config,
            key_map=names,
            preprocessing=preprocessing_of(
                files.folder,
                "bicubic",
                as_known=lambda fields: processor_fields(fields, config.patch_size_px, merge),
                hint=parameters_hint(files.by_hand),
                by_hand=files.by_hand,
            ),
            prefixes=_PREFIXES,
            unused=_UNUSED,
            converters={
                "patch_embedding.projection.weight": _frames_summed,
                "position_embedding": lambda tensor: tensor[None],
            },
            zeros=zeros,
            license=license_of(files.folder),
            connector=connector,
        )

    def family(self) -> Family:
        """Make the entry of the table of families."""
        return Family(
            name=self.model_type,
            recognises=self.recognises,
            read=self.read,
            signature_keys=self.signature_keys,
            model_type=self.model_type,
        )


_SHARED_KEYS = (
    "patch_embed.proj.weight",
    "blocks.0.norm1.weight",
    "blocks.0.attn.qkv.weight",
    "blocks.0.attn.proj.weight",
)
_KEYS_OF_2_5 = (*_SHARED_KEYS, "blocks.0.mlp.gate_proj.weight")
_KEYS_OF_3 = (*_SHARED_KEYS, "blocks.0.mlp.linear_fc1.weight", "pos_embed.weight")
FAMILIES = (
    _Qwen("qwen2_5_vl", fields_of_2_5, _KEYS_OF_2_5, MERGER_OF_2_5).family(),
    _Qwen("qwen3_vl", fields_of_3, _KEYS_OF_3, MERGER_OF_3).family(),
)
