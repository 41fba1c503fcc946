"""timm's Perception Encoder, ``vit_pe_*`` (arXiv:2504.13181): what it has that other ``vit_*`` do
not.

Its queries and keys turn by row and column of their patch, beside learned positions; ``core``
models pool all tokens by attention, and their head is the projection. Source:
https://github.com/huggingface/pytorch-image-models, timm/models/eva.py.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vit_perception.checkpoints.family import Converter
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import number_of, size_px, whole_number_of
from vit_perception.model.vit_config import ViTConfig

_SIZES = re.compile(r"vit_pe_\w+_patch(\d+)_(\d+)")
# Of the attention pooling, whatever the width.
_POOLING_HEADS = 8


def is_pe(architecture: str) -> bool:
    """Tell by the architecture's name."""
    return architecture.startswith("vit_pe_")


def is_core(architecture: str) -> bool:
    """Tell whether an architecture has attention pooling, a final norm and a projection."""
    return architecture.startswith("vit_pe_core_")


def accepted_arguments(files: CheckpointFiles) -> dict[str, tuple[Any, ...]]:
    """Give the values of timm's arguments that compute what is computed here."""
    has_cls = "cls_token" in files.tensors
    return {
        "attn_type": ("rope",),
        "use_pre_transformer_norm": (True,),
        "use_post_transformer_norm": ("norm.weight" in files.tensors,),
        "use_fc_norm": (False,),
        "use_abs_pos_emb": (True, None),
        "use_rot_pos_emb": (True,),
        "rope_type": ("cat",),
        "rope_rotate_half": (False,),
        "rope_grid_indexing": ("xy",),
        "rope_grid_offset": (1, 1.0) if has_cls else (0, 0.0, None),
    }


def config_fields(
    files: CheckpointFiles, architecture: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Read ViTConfig's fields of the rotary positions, the final norm and the attention pooling.

    Raises:
        ValueError: An argument is wrong.
    """
    fields: dict[str, Any] = {
        "rope_theta": float(number_of(arguments, "rope_temperature", 10_000.0, 1, 1e12)),
        "rope_places": "indices",
        "rope_grid": _learned_grid(architecture, arguments),
        "final_norm": arguments.get("use_post_transformer_norm", is_core(architecture)),
    }
    if "attn_pool.latent" in files.tensors:
        fields["pooling_heads"] = whole_number_of(
            arguments, "attn_pool_num_heads", _POOLING_HEADS, 1, 4096
        )
        fields["pooling_mlp_width"] = files.shape("attn_pool.mlp.fc1.weight")[0]
    return fields


def _learned_grid(architecture: str, arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read the grid that places are scaled to: ``ref_feat_shape``, else that of the name."""
    if "ref_feat_shape" in arguments:
        given = arguments["ref_feat_shape"]
        return None if given is None else size_px(arguments, "ref_feat_shape")
    sizes = _SIZES.fullmatch(architecture)
    return None if sizes is None else (int(sizes[2]) // int(sizes[1]),) * 2


def rotary_converters(config: ViTConfig) -> dict[str, Converter]:
    """Make converters of queries and keys, from timm's order of a head's channels to the model's.

    timm turns neighbours together, those of x first; the model turns channels half a head apart,
    those of y first. The order is free as long as queries and keys share it.
    """
    pairs = torch.arange(config.head_width // 2).roll(config.head_width // 4)
    order = torch.cat([2 * pairs, 2 * pairs + 1])

    def reorder(tensor: Tensor) -> Tensor:
        heads = tensor.unflatten(0, (config.heads, config.head_width))
        return heads[:, order].flatten(0, 1)

    return {
        f"blocks.{index}.attention.{part}.{kind}": reorder
        for index in range(config.depth)
        for part in ("query", "key")
        for kind in ("weight", "bias")
    }
