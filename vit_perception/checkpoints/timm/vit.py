"""timm's Vision Transformers: ``vit_*``, ``deit*``, ``flexivit_*``, ``eva_*``, as files and hub
folders.

Source: https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py,
deit.py and eva.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    PROJECTION,
    Converter,
    Family,
    LoadPlan,
    positions_of_patches,
    zero_biases,
)
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.files.labels_file import labels_for
from vit_perception.checkpoints.huggingface.config import number_of
from vit_perception.checkpoints.timm import config as timm_config
from vit_perception.checkpoints.timm import perception_encoder
from vit_perception.checkpoints.timm.arguments import (
    activation_of,
    arguments_of,
    final_norm_of,
    image_size_of,
    norm_eps_of,
)
from vit_perception.checkpoints.timm.names import SIGNATURE_KEYS, key_map
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

_POOLINGS = {"token": "cls", "avg": "mean", "max": "max", "map": "map"}
# By the width, if a head is not 64 channels wide. DINOv3's differ.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}
_HEADS_DINOV3 = {4096: 32}
_HEADS_BY_NAME = {"giantopt": 16, "vit_base_patch16_gap_": 16, "_gigantic_patch14_448": 16}
# Widths of the spaces that CLIP models share with texts: a head of that many outputs and no bias is
# a projection.
_CLIP_SPACES = (384, 512, 640, 768, 1024, 1280)


def recognises(files: CheckpointFiles) -> bool:
    """Tell by timm's config.json; without one by the names of the tensors."""
    is_timm = files.config is None or timm_config.is_timm(files.config)
    return is_timm and files.has(*SIGNATURE_KEYS)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model: sizes from the shapes, the rest from config.json or the architecture's name.

    Raises:
        CheckpointError: The architecture is not supported, or a field is wrong.
    """
    try:
        return _read(files, timm_config.description_of(files))
    except CheckpointError:
        raise
    except ValueError as error:
        path = files.folder / CONFIG_FILE if files.config else files.path
        raise CheckpointError(f"{path}: {error}") from error


def _read(files: CheckpointFiles, description: Mapping[str, Any]) -> LoadPlan:
    architecture = description["architecture"]
    timm_config.refuse_unread(architecture, str(files.path))
    config = config_of(files, description)
    preprocessing = timm_config.preprocessing_of(files, description, config.image_size_px)
    names = dict(key_map(config, mlp_of(files)))
    unused: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    if is_projection(files, architecture):
        names["head.weight"] = (PROJECTION,)
        del names["head.bias"]
        unused = ("head.bias",)
        config = replace(config, head="none", classes=0)
    elif config.classes:
        labels = timm_config.labels_of(description, config.classes) or labels_for(
            files, config.classes
        )
    return LoadPlan(
        config=config,
        key_map=names,
        preprocessing=preprocessing,
        labels=labels,
        prefixes=("module.", "model."),
        unused=unused,
        converters=converters_of(files, config)
        | (perception_encoder.rotary_converters(config) if config.rope_places == "indices" else {}),
        zeros=zeros_of(files, config),
        license=str(timm_config.pretrained_of(description).get("license") or ""),
    )


def config_of(files: CheckpointFiles, description: Mapping[str, Any]) -> ViTConfig:
    """Read the model's shape; ``description`` is that of timm/config.py.

    Raises:
        ValueError: A field is wrong.
        CheckpointError: A tensor is missing, or only DINOv3 may be as the file is.
    """
    held = files.tensors
    arguments = arguments_of(description, files)
    architecture = description["architecture"]
    width, _, patch, _ = files.shape("patch_embed.proj.weight")
    is_dinov3 = "pos_embed" not in held
    is_clip = "norm_pre.weight" in held
    if is_dinov3 and "dinov3" not in architecture:
        raise CheckpointError(
            f"{files.path} has no tensor pos_embed, and is no DINOv3 by its architecture "
            f"{architecture!r}; accepted: learned positions, or vit_*_dinov3*"
        )
    is_swiglu, mlp_width = mlp_shape(files)
    activation = timm_config.activation_of(architecture)
    is_pe = perception_encoder.is_pe(architecture)
    rotary: dict[str, Any] = {"final_norm": final_norm_of(arguments)}
    if is_dinov3:
        rotary["rope_theta"] = float(number_of(arguments, "rope_temperature", 100.0, 1, 1e12))
    elif is_pe:
        rotary = perception_encoder.config_fields(files, architecture, arguments)
    return ViTConfig(
        width=width,
        depth=files.count("blocks."),
        heads=arguments.get("num_heads", _default_heads(width, architecture, is_dinov3)),
        mlp_width=mlp_width,
        patch_size_px=patch,
        image_size_px=_size_px(files, description, arguments),
        activation=activation_of(arguments, activation, is_swiglu),
        qkv_bias=has_qkv_bias(files),
        layer_scale=files.has("blocks.0.ls1.gamma") or files.has("blocks.0.gamma_1"),
        norm_before_blocks=is_clip,
        norm_eps=norm_eps_of(arguments, architecture, is_clip, is_dinov3 or is_pe),
        cls_token="cls_token" in held,
        register_tokens=_registers(files),
        distillation_token="dist_token" in held,
        position_embedding="none" if is_dinov3 else "learned",
        position_interpolation="bicubic_antialias",
        norm_pooled="fc_norm.weight" in held,
        **rotary,
        **pooling_and_head(files, description, arguments),
    )


def _default_heads(width: int, architecture: str, is_dinov3: bool) -> int:
    for part, heads in _HEADS_BY_NAME.items():
        if part in architecture:
            return heads
    return (_HEADS_DINOV3 if is_dinov3 else _HEADS).get(width, width // 64)


def _registers(files: CheckpointFiles) -> int:
    return files.shape("reg_token")[1] if "reg_token" in files.tensors else 0


def pooling_and_head(
    files: CheckpointFiles, description: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Read ViTConfig's pooling, head and classes. ``global_pool`` of model_args comes first.

    Raises:
        ValueError: The pooling is not supported.
    """
    # DINOv3 has a CLS token and no positions; timm averages its patches.
    is_pe = perception_encoder.is_pe(description["architecture"])
    has_cls = files.has("cls_token", "pos_embed") and "fc_norm.weight" not in files.tensors
    default = "token" if has_cls and not is_pe else "avg"
    if "attn_pool.latent" in files.tensors:
        default = "map"
    given = arguments.get("global_pool")
    if given is None:
        published = timm_config.pretrained_of(description).get("global_pool")
        given = description.get("global_pool") or published or default
    if not isinstance(given, str) or given not in _POOLINGS:
        raise InvalidValue(f"global_pool is {given!r}; accepted: {', '.join(_POOLINGS)}")
    pooling = "map_all" if is_pe and given == "map" else _POOLINGS[given]
    if "head.weight" not in files.tensors:
        return {"pooling": pooling}
    return {
        "pooling": pooling,
        "head": "distilled" if "head_dist.weight" in files.tensors else "linear",
        "classes": files.shape("head.weight")[0],
    }


def mlp_of(files: CheckpointFiles) -> str:
    """Name the MLP's first layer."""
    return "mlp.fc1_g" if "blocks.0.mlp.fc1_g.weight" in files.tensors else "mlp.fc1"


def mlp_shape(files: CheckpointFiles) -> tuple[bool, int]:
    """Tell whether the MLP is a SwiGLU, and its hidden width."""
    hidden = files.shape("blocks.0.mlp.fc2.weight")[1]
    if mlp_of(files) == "mlp.fc1_g":
        return True, hidden
    return files.shape("blocks.0.mlp.fc1.weight")[0] == 2 * hidden, hidden


def has_qkv_bias(files: CheckpointFiles) -> bool:
    """Tell whether queries and values have a bias; a missing one of the keys is then zero."""
    return files.has("blocks.0.attn.qkv.bias") or files.has("blocks.0.attn.q_bias")


def is_projection(files: CheckpointFiles, architecture: str) -> bool:
    """Tell whether the head is CLIP's or PE's projection, to which timm gives a bias of zeros."""
    return (
        ("_clip_" in architecture or perception_encoder.is_core(architecture))
        and "head.bias" in files.tensors
        and files.shape("head.weight")[0] in _CLIP_SPACES
        and not files.tensors["head.bias"].any()
    )


def converters_of(files: CheckpointFiles, config: ViTConfig) -> dict[str, Converter]:
    """Convert positions of the patches alone, or with those of registers, added to the tokens."""
    if config.position_embedding == "none":
        return {}
    patches = config.grid[0] * config.grid[1]
    prefix = config.prefix_tokens
    registers = config.register_tokens
    covered = files.shape("pos_embed")[1]
    if covered == patches and prefix:
        return {"position_embedding": positions_of_patches(config)}
    if not registers or covered != prefix + registers + patches:
        return {}
    of_registers = files.tensors["pos_embed"][:, prefix : prefix + registers]
    return {
        "position_embedding": _without(range(prefix, prefix + registers)),
        "register_tokens": lambda tokens: tokens + of_registers,
    }


def _without(rows: range) -> Callable[[Tensor], Tensor]:
    def convert(positions: Tensor) -> Tensor:
        return positions[:, [row for row in range(positions.shape[1]) if row not in rows]]

    return convert


def zeros_of(files: CheckpointFiles, config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Give the biases that CLIP's patch embedding and DINOv3's keys do not have."""
    zeros: dict[str, tuple[int, ...]] = {}
    if "patch_embed.proj.bias" not in files.tensors:
        zeros["patch_embedding.projection.bias"] = (config.width,)
    if "blocks.0.attn.q_bias" in files.tensors:
        zeros |= zero_biases(config, "attention.key")
    return zeros


def _size_px(
    files: CheckpointFiles, description: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[int, int]:
    """Read (height, width) that the positions were learned at: the config's if it fits, else a
    square.
    """
    patch = files.shape("patch_embed.proj.weight")[2]
    fields = timm_config.pretrained_of(description)
    given = image_size_of(arguments)
    if not given and "input_size" in fields:
        given = timm_config.input_size_px(fields)
    if "pos_embed" not in files.tensors:
        return given or (256, 256)
    covered = files.shape("pos_embed")[1]
    prefix = sum(name in files.tensors for name in ("cls_token", "dist_token"))
    counts = [covered - extra for extra in (prefix, 0, prefix + _registers(files))]
    if given and (given[0] // patch) * (given[1] // patch) in counts:
        return given[0] // patch * patch, given[1] // patch * patch
    for count in counts:
        if count > 0 and math.isqrt(count) ** 2 == count:
            return math.isqrt(count) * patch, math.isqrt(count) * patch
    raise CheckpointError(
        f"{files.path}: pos_embed has {covered} positions for {prefix} prefix tokens; accepted: "
        "those of a square grid, or an input_size in config.json that they fit"
    )


FAMILY = Family("timm", recognises, read, SIGNATURE_KEYS)
