"""NVIDIA's C-RADIO, v3 and v4 (arXiv:2412.07679): folders of transformers' ``radio``, and those of
NVIDIA's own code (``RADIOModel``).

A CLS token for each teacher and registers come before the patches, none with a position. The
position table is made for a large square; a grid takes the top left part of it, resized to the
grid's longer side. There is no final norm. The normalisation lies in the model and is taken from
there. ``pooled`` is the summary: the CLS tokens that ``summary_idxs`` names, side by side. The
first of them is the CLS token here; all others count as registers. Source: transformers,
models/radio.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    Converter,
    Family,
    KeyMap,
    LoadPlan,
    Preprocessing,
    linear_and_norm_names,
    positions_of_patches,
)
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import (
    activation_of,
    eps_of,
    flag_of,
    license_of,
    refuse_other_functions,
)
from vit_perception.checkpoints.huggingface.processor import preprocessing_of
from vit_perception.files.errors import InvalidValue
from vit_perception.model.vit_config import ViTConfig

_ROOT = "radio_model."
_PATCHES = f"{_ROOT}model.patch_generator."
_BLOCKS = f"{_ROOT}model.blocks."
_TOKENS = f"{_PATCHES}cls_token.token"
_POSITIONS = f"{_PATCHES}pos_embed"
_EMBEDDER = f"{_PATCHES}embedder.weight"
_SUMMARY = f"{_ROOT}summary_idxs"
_MEAN = f"{_ROOT}input_conditioner.norm_mean"
_STD = f"{_ROOT}input_conditioner.norm_std"
_BLOCK_LAYERS = {
    "norm1": ("norm_attention",),
    "attn.qkv": ("attention.query", "attention.key", "attention.value"),
    "attn.proj": ("attention.output",),
    "norm2": ("norm_mlp",),
    "mlp.fc1": ("mlp.up",),
    "mlp.fc2": ("mlp.down",),
}
_SCALES = {"layer_scale1.lambda1": "scale_attention", "layer_scale2.lambda1": "scale_mlp"}
# Of NVIDIA's config.json: windows in some blocks, and features that are normalised.
_OTHER_FUNCTIONS = (
    "vitdet_window_size",
    "feature_normalizer_config",
    "inter_feature_normalizer_config",
)
# By the width, where config.json does not say: those of B, L, SO400M, H.
_HEADS = {768: 12, 1024: 16, 1152: 16, 1280: 16}
SIGNATURE_KEYS = (
    _TOKENS,
    _POSITIONS,
    _EMBEDDER,
    _SUMMARY,
    f"{_BLOCKS}0.norm1.weight",
    f"{_BLOCKS}0.attn.qkv.weight",
    f"{_BLOCKS}0.mlp.fc1.weight",
)


def recognises(files: CheckpointFiles) -> bool:
    """Tell by ``model_type`` or ``architectures``; without a config.json by the names."""
    if files.config is None:
        return files.has(*SIGNATURE_KEYS)
    named = files.config.get("architectures")
    is_own = isinstance(named, list) and "RADIOModel" in named
    return files.config.get("model_type") == "radio" or (is_own and files.has(_TOKENS))


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model: sizes from the shapes, and heads from config.json or the width.

    Raises:
        CheckpointError: A file is missing, or a tensor or a field is none of C-RADIO.
    """
    fields = files.config or {}
    tokens = files.shape(_TOKENS)[0]
    summary = _summary_of(files, tokens)
    config = _config_of(files, fields, tokens, len(summary))
    order = [*summary, *(row for row in range(tokens) if row not in summary)]
    return LoadPlan(
        config=config,
        key_map=key_map(config),
        preprocessing=_preprocessing_of(files),
        shared=(_TOKENS,),
        # For videos.
        unused=(_SUMMARY, _MEAN, _STD, f"{_PATCHES}video_embedder.*"),
        converters=_converters(config, order),
        zeros={"patch_embedding.projection.bias": (config.width,)},
        license=license_of(files.folder),
    )


def _config_of(
    files: CheckpointFiles, fields: Mapping[str, Any], tokens: int, summary: int
) -> ViTConfig:
    refuse_other_functions(fields)
    for name in _OTHER_FUNCTIONS:
        if fields.get(name):
            raise InvalidValue(f"{name} is {fields[name]!r:.80}; accepted: a model without")
    if flag_of(fields, "use_swiglu_ffn", False):
        raise InvalidValue("use_swiglu_ffn is true; accepted: false, as in B, L, SO400M and H")
    width, per_patch = files.shape(_EMBEDDER)
    patch = math.isqrt(per_patch // 3)
    positions = files.shape(_POSITIONS)[1]
    side = math.isqrt(positions)
    if 3 * patch * patch != per_patch or side * side != positions:
        raise CheckpointError(
            f"{files.path}: {_EMBEDDER} takes {per_patch} values a patch and {_POSITIONS} has "
            f"{positions} positions; accepted: square patches of 3 channels, and a square"
        )
    heads = fields.get("num_attention_heads", _HEADS.get(width))
    if heads is None:
        raise CheckpointError(
            f"{files.path} is {width} wide, and config.json has no num_attention_heads; accepted: "
            f"one with it, or a width of {', '.join(map(str, _HEADS))}"
        )
    return ViTConfig(
        width=width,
        depth=files.count(_BLOCKS),
        heads=heads,
        mlp_width=files.shape(f"{_BLOCKS}0.mlp.fc1.weight")[0],
        patch_size_px=patch,
        image_size_px=(side * patch, side * patch),
        activation=activation_of(fields),
        qkv_bias=f"{_BLOCKS}0.attn.qkv.bias" in files.tensors,
        norm_eps=eps_of(fields, 1e-6),
        layer_scale=f"{_BLOCKS}0.layer_scale1.lambda1" in files.tensors,
        register_tokens=tokens - 1,
        position_interpolation="bilinear_cut",
        final_norm=False,
        pooling="cls_set",
        cls_set=summary,
    )


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    names: dict[str, tuple[str, ...]] = {
        _TOKENS: ("cls_token", "register_tokens"),
        _POSITIONS: ("position_embedding",),
        _EMBEDDER: ("patch_embedding.projection.weight",),
    }
    layers = {}
    for index in range(config.depth):
        for theirs, ours in _BLOCK_LAYERS.items():
            layers[f"{_BLOCKS}{index}.{theirs}"] = tuple(f"blocks.{index}.{part}" for part in ours)
        for theirs, layer in _SCALES.items():
            names[f"{_BLOCKS}{index}.{theirs}"] = (f"blocks.{index}.{layer}.factor",)
    return names | linear_and_norm_names(layers)


def _converters(config: ViTConfig, order: list[int]) -> dict[str, Converter]:
    patch = config.patch_size_px

    def kernel(weight: Tensor) -> Tensor:
        return weight.reshape(-1, 3, patch, patch)

    return {
        "cls_token": lambda tokens: tokens[order[:1]][None],
        "register_tokens": lambda tokens: tokens[order[1:]][None],
        "position_embedding": positions_of_patches(config),
        "patch_embedding.projection.weight": kernel,
    }


def _summary_of(files: CheckpointFiles, tokens: int) -> list[int]:
    """Read which tokens make the summary."""
    tensor = files.tensors[_SUMMARY]
    summary = tensor.flatten().tolist()
    if (
        tensor.is_floating_point()
        or not 1 <= len(summary) <= tokens
        or len(set(summary)) < len(summary)
        or not all(0 <= row < tokens for row in summary)
    ):
        raise CheckpointError(
            f"{files.path}: {_SUMMARY} is {str(summary)[:80]}; accepted: different indices of the "
            f"{tokens} tokens before the patches"
        )
    return summary


def _preprocessing_of(files: CheckpointFiles) -> Preprocessing:
    """Join the processor's normalisation, if any, with the model's own, which comes after it."""
    rule, mean, std = preprocessing_of(files.folder, "bicubic")
    inner = [files.tensors[name].double().flatten() for name in (_MEAN, _STD)]
    first = [torch.tensor(values, dtype=torch.float64) for values in (mean, std)]
    joined = (first[0] + inner[0] * first[1], first[1] * inner[1])
    return Preprocessing(rule, *(tuple(values.tolist()) for values in joined))


FAMILY = Family(
    name="radio",
    recognises=recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type="radio",
)
