"""What the policies' files share: which policy one is, and where in it its parts are."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles, is_there
from vit_perception.files.errors import InvalidValue

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_ADAPTERS = (".lora_", "lora_A", "lora_B", "lora_embedding")
_MERGE = (
    "accepted: the policy with the adapter merged into it (peft: "
    "model.merge_and_unload().save_pretrained(folder)), without the adapter's files"
)
# What quantising libraries put beside or in place of a weight.
_QUANTISED = (".SCB", ".weight_format", ".absmax", ".quant_map", ".qweight", ".qzeros", ".scales")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def policy_type(files: CheckpointFiles) -> str:
    """Give LeRobot's ``type`` of a policy's config.json; empty without one."""
    given = (files.config or {}).get("type")
    return given if isinstance(given, str) else ""


def tower_prefix(files: CheckpointFiles, parts: tuple[str, ...], end: str) -> str:
    """Find what the tower's tensors begin with: before ``end``, holding each of ``parts``.

    Raises:
        CheckpointError: The file holds no such tower, or several.
    """
    found = [
        name.removesuffix(end)
        for name in files.tensors
        if name.endswith(f".{end}") and all(part in name for part in parts)
    ]
    if len(found) == 1:
        return found[0]
    held = f"{len(found)} vision towers ({', '.join(found[:3])})" if found else "no vision tower"
    raise CheckpointError(
        f"{files.path} holds {held}: no one tensor *{'*'.join(parts)}*{end}; accepted: the "
        "policy's complete file, with the tower that it was trained with"
    )


def refuse_unmerged(files: CheckpointFiles) -> None:
    """Refuse a policy with an adapter beside it, or in it: its tower alone is another model.

    Raises:
        CheckpointError: There is one.
    """
    beside = [name for name in ADAPTER_FILES if is_there(files.folder / name)]
    inside = [name for name in files.tensors if any(part in name for part in _ADAPTERS)]
    if beside or inside:
        raise CheckpointError(
            f"{files.path} has a LoRA adapter ({(beside or inside)[0]}), which changes what the "
            f"policy computes; {_MERGE}"
        )


def refuse_quantised(files: CheckpointFiles, scope: tuple[str, ...]) -> None:
    """Refuse quantised weights among the tensors that are read.

    Raises:
        CheckpointError: There are some.
    """
    of_scope = [name for name in files.tensors if name.startswith(scope)]
    found = [name for name in of_scope if name.endswith(_QUANTISED)]
    if not found:
        # A tensor of a mapped file: its bytes are not read for its type.
        found = [name for name in of_scope if files.tensors[name].dtype not in _FLOATS]
    if found or (files.config or {}).get("quantization_config"):
        what = found[0] if found else "quantization_config in config.json"
        raise CheckpointError(
            f"{files.path} is quantised ({what}); accepted: the policy in float32, bfloat16 or "
            "float16, as it was before it was quantised"
        )


def square_grid(files: CheckpointFiles, positions: str) -> int:
    """Give the side of the square of patches that the tower's positions stand for.

    Raises:
        CheckpointError: They are no square.
    """
    count = files.shape(positions)[0]
    side = math.isqrt(count)
    if side**2 != count:
        raise CheckpointError(
            f"{files.path}: {positions} has {count} positions; accepted: those of a square"
        )
    return side


def require(files: CheckpointFiles, name: str, what: str) -> None:
    """Check that the file holds the tensor ``name``, a part of ``what``.

    Raises:
        CheckpointError: It does not.
    """
    if name not in files.tensors:
        raise CheckpointError(
            f"{files.path} has no {name}, a part of {what}; accepted: the policy's complete file"
        )


def pair_of(fields: Mapping[str, Any], name: str, default: tuple[int, int]) -> tuple[int, int]:
    """Read two numbers of pixels from config.json.

    Raises:
        ValueError: The field is something else.
    """
    given = fields.get(name, default)
    is_pair = isinstance(given, (list, tuple)) and len(given) == 2
    if not is_pair or not all(type(side) is int and side > 0 for side in given):
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: two numbers of pixels")
    return given[0], given[1]


def count_of(fields: Mapping[str, Any], name: str, default: int) -> int:
    """Read a number from 1 from config.json.

    Raises:
        ValueError: The field is something else.
    """
    given = fields.get(name, default)
    if type(given) is not int or given < 1:
        raise InvalidValue(f"{name} is {given!r:.80}; accepted: an integer of at least 1")
    return given


def config_path(files: CheckpointFiles) -> str:
    """Name config.json in errors."""
    return str(files.folder / CONFIG_FILE)
