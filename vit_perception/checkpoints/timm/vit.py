"""timm's Vision Transformers: ``vit_*``, ``deit*``, ``flexivit_*``, ``eva_*``, as files and hub
folders.

Source: https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py,
deit.py and eva.py.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.defaults import published_unless_beside
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    PROJECTION,
    Converter,
    Family,
    Reading,
    positions_of_patches,
    zero_biases,
)
from vit_perception.checkpoints.files.labels_file import labels_beside
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.checkpoints.huggingface.config import number_of
from vit_perception.checkpoints.timm import config as timm_config
from vit_perception.checkpoints.timm.arguments import (
    activation_of,
    arguments_of,
    final_norm_of,
    image_size_of,
    norm_eps_of,
)
from vit_perception.checkpoints.timm.names import MARKS, key_map
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vision_transformer import ViTConfig

_POOLINGS = {"token": "cls", "avg": "mean", "max": "max", "map": "map"}
# Heads of the widths whose heads are not 64 channels wide; DINOv3's and others' of the same width
# differ.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}
_HEADS_DINOV3 = {4096: 32}
_HEADS_BY_NAME = {"giantopt": 16, "vit_base_patch16_gap_": 16}
# Widths of the spaces that CLIP models share with texts: a head of so many outputs and no bias is a
# projection.
_CLIP_SPACES = (384, 512, 640, 768, 1024, 1280)


def recognises(found: Found) -> bool:
    """By timm's config.json; without one by the names of the tensors."""
    return found.has(*MARKS) and (found.config is None or timm_config.is_timm(found.config))


def read(found: Found) -> Reading:
    """Sizes from the shapes, the rest from config.json or the architecture's name. Raises
    CheckpointError.
    """
    try:
        return _read(found, timm_config.description_of(found))
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{found.folder / CONFIG_FILE if found.config else found.path}: {error}"
        ) from error


def _read(found: Found, description: Mapping[str, Any]) -> Reading:
    architecture = description["architecture"]
    timm_config.refuse_unread(architecture, str(found.path))
    config = config_of(found, description)
    given, is_said = timm_config.preprocessing_of(found, config.image_size_px)
    if not is_said:
        given = published_unless_beside(found, given, f"timm's default of {architecture}")
    names = dict(key_map(config, mlp_of(found)))
    unused: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    if is_projection(found, architecture):
        names["head.weight"], unused = (PROJECTION,), ("head.bias",)
        del names["head.bias"]
        config = replace(config, head="none", classes=0)
    elif config.classes:
        labels = timm_config.labels_of(description, config.classes) or labels_beside(
            found, config.classes
        )
    fields = description.get("pretrained_cfg")
    return Reading(
        config,
        names,
        given.rule,
        given.mean,
        given.std,
        labels,
        prefixes=("module.", "model."),
        unused=unused,
        converters=converters_of(found, config),
        zeros=zeros_of(found, config),
        license=str(fields.get("license") or "") if isinstance(fields, Mapping) else "",
    )


def config_of(found: Found, description: Mapping[str, Any]) -> ViTConfig:
    """The model's shape; ``description`` is that of timm_config. Raises ValueError and
    CheckpointError.
    """
    arguments = arguments_of(description, found)
    width, _, patch, _ = found.shape("patch_embed.proj.weight")
    is_dinov3, is_clip = "pos_embed" not in found.tensors, "norm_pre.weight" in found.tensors
    architecture = description["architecture"]
    default_heads = (_HEADS_DINOV3 if is_dinov3 else _HEADS).get(width, width // 64)
    if is_dinov3 and "dinov3" not in architecture:
        raise CheckpointError(
            f"{found.path} has no tensor pos_embed, and is no DINOv3 by its architecture "
            f"{architecture!r}; accepted: learned positions, or vit_*_dinov3*"
        )
    named_heads = (heads for part, heads in _HEADS_BY_NAME.items() if part in architecture)
    default_heads = next(named_heads, default_heads)
    activation, mlp_width = mlp_shape(found)
    prefix = int("cls_token" in found.tensors) + int("dist_token" in found.tensors)
    registers = found.shape("reg_token")[1] if "reg_token" in found.tensors else 0
    return ViTConfig(
        width,
        found.count("blocks."),
        arguments.get("num_heads", default_heads),
        mlp_width,
        patch,
        _size_px(found, description, arguments, patch, prefix, registers),
        activation=activation_of(
            arguments, timm_config.activation_of(architecture), bool(activation)
        ),
        qkv_bias=has_qkv_bias(found),
        layer_scale=found.has("blocks.0.ls1.gamma") or found.has("blocks.0.gamma_1"),
        norm_before_blocks=is_clip,
        norm_eps=norm_eps_of(arguments, architecture, is_clip, is_dinov3),
        final_norm=final_norm_of(arguments),
        cls_token="cls_token" in found.tensors,
        register_tokens=registers,
        distillation_token="dist_token" in found.tensors,
        position_embedding="none" if is_dinov3 else "learned",
        position_interpolation="bicubic_antialias",
        rope_theta=float(number_of(arguments, "rope_temperature", 100.0, 1, 1e12))
        if is_dinov3
        else None,
        norm_pooled="fc_norm.weight" in found.tensors,
        **pooling_and_head(found, description, arguments),
    )


def pooling_and_head(
    found: Found, description: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """ViTConfig's pooling, head and classes; ``global_pool`` of model_args stands before that of
    the architecture.
    """
    of_token = (
        found.has("cls_token", "pos_embed") and "fc_norm.weight" not in found.tensors
    )  # DINOv3: avg in timm
    default = "token" if of_token else "avg"
    if "attn_pool.latent" in found.tensors:
        default = "map"
    fields = (
        description.get("pretrained_cfg")
        if isinstance(description.get("pretrained_cfg"), Mapping)
        else {}
    )
    given = arguments.get("global_pool")
    if given is None:
        given = description.get("global_pool") or fields.get("global_pool") or default
    if not isinstance(given, str) or given not in _POOLINGS:
        raise InvalidValue(f"global_pool is {given!r}; accepted: {', '.join(_POOLINGS)}")
    if "head.weight" not in found.tensors:
        return {"pooling": _POOLINGS[given]}
    return {
        "pooling": _POOLINGS[given],
        "head": "distilled" if "head_dist.weight" in found.tensors else "linear",
        "classes": found.shape("head.weight")[0],
    }


def mlp_of(found: Found) -> str:
    """The name of the MLP's first layer."""
    return "mlp.fc1_g" if "blocks.0.mlp.fc1_g.weight" in found.tensors else "mlp.fc1"


def mlp_shape(found: Found) -> tuple[str, int]:
    """("swiglu" or "" for the architecture's activation, hidden width)."""
    hidden = found.shape("blocks.0.mlp.fc2.weight")[1]
    is_swiglu = (
        mlp_of(found) == "mlp.fc1_g" or found.shape("blocks.0.mlp.fc1.weight")[0] == 2 * hidden
    )
    return ("swiglu" if is_swiglu else ""), hidden


def has_qkv_bias(found: Found) -> bool:
    """Of all three or of query and value (the key's is then zero)."""
    return found.has("blocks.0.attn.qkv.bias") or found.has("blocks.0.attn.q_bias")


def is_projection(found: Found, architecture: str) -> bool:
    """Whether the head is CLIP's projection into the space of texts: timm gives it a bias of
    zeros.
    """
    return (
        "_clip_" in architecture
        and "head.bias" in found.tensors
        and found.shape("head.weight")[0] in _CLIP_SPACES
        and not found.tensors["head.bias"].any()
    )


def converters_of(found: Found, config: ViTConfig) -> dict[str, Converter]:
    """For positions of the patches alone, and for those of register tokens, which are added to the
    tokens.
    """
    if config.position_embedding == "none":
        return {}
    patches = config.grid[0] * config.grid[1]
    prefix, registers = config.prefix_tokens, config.register_tokens
    covered = found.shape("pos_embed")[1]
    if covered == patches and prefix:
        return {"position_embedding": positions_of_patches(config)}
    if registers and covered == prefix + registers + patches:
        of_registers = found.tensors["pos_embed"][:, prefix : prefix + registers]

        def without_registers(positions: Tensor) -> Tensor:
            return positions[:, [*range(prefix), *range(prefix + registers, covered)]]

        return {
            "position_embedding": without_registers,
            "register_tokens": lambda tokens: tokens + of_registers,
        }
    return {}


def zeros_of(found: Found, config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """The biases that CLIP's patch embedding and DINOv3's keys lack."""
    zeros: dict[str, tuple[int, ...]] = {}
    if "patch_embed.proj.bias" not in found.tensors:
        zeros["patch_embedding.projection.bias"] = (config.width,)
    if "blocks.0.attn.q_bias" in found.tensors:
        zeros |= zero_biases(config, "attention.key")
    return zeros


def _size_px(
    found: Found,
    description: Mapping[str, Any],
    arguments: Mapping[str, Any],
    patch: int,
    prefix: int,
    registers: int,
) -> tuple[int, int]:
    """(height, width) that the positions were learned at: the config's where they fit it, else a
    square.
    """
    fields = (
        description.get("pretrained_cfg")
        if isinstance(description.get("pretrained_cfg"), Mapping)
        else {}
    )
    given = image_size_of(arguments) or (
        timm_config.input_size_px(fields) if "input_size" in fields else ()
    )
    if "pos_embed" not in found.tensors:
        return given or (256, 256)
    covered = found.shape("pos_embed")[1]
    counts = [covered - extra for extra in (prefix, 0, prefix + registers)]
    if given and (given[0] // patch) * (given[1] // patch) in counts:
        return given[0] // patch * patch, given[1] // patch * patch
    side = next(
        (math.isqrt(count) for count in counts if count > 0 and math.isqrt(count) ** 2 == count),
        None,
    )
    if side is None:
        raise CheckpointError(
            f"{found.path}: pos_embed has {covered} positions for {prefix} prefix tokens; "
            "accepted: "
            "those of a square grid, or an input_size in config.json that they fit"
        )
    return side * patch, side * patch


FAMILY = Family("timm", recognises, read, MARKS)
