"""Tensors from files, and into a model: every name and shape must fit, or all that does not is printed."""

import hashlib
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vit_perception.model.vision_transformer import ViTConfig, VisionTransformer

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong, and what is accepted."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a torch file (.bin, .pt, .pth) that holds tensors by name.

    Torch files are read with ``weights_only=True``, which refuses a pickle that would run code. Raises
    CheckpointError for a damaged, foreign or unsafe file.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: the file ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library and each kind of damage has an exception class of its own
        accepted = "a whole safetensors file" if path.suffix == ".safetensors" else (
            "a torch file of nothing but tensors; others can run code when opened, so they are refused")
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: {accepted}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(f"{path} holds a {type(tensors).__name__} of other things than tensors; accepted: "
                              "tensors by name (a state dict)")
    return dict(tensors)


def build_strict(config: ViTConfig, tensors: Mapping[str, Tensor], source: str,
                 unexpected: Mapping[str, Tensor] | None = None) -> VisionTransformer:
    """A model of ``config`` with the weights ``tensors``, float32, in evaluation mode, without gradients.

    It is made on the meta device and takes the tensors over, so that no weight is initialised first or
    copied twice. Raises CheckpointError as :func:`load_strict`.
    """
    with torch.device("meta"):
        model = VisionTransformer(config)
    load_strict(model, tensors, source, unexpected)
    return model.eval().requires_grad_(False)


def load_strict(model: torch.nn.Module, tensors: Mapping[str, Tensor], source: str,
                unexpected: Mapping[str, Tensor] | None = None) -> None:
    """Give ``model`` the weights ``tensors`` (by the model's names), cast to float32.

    ``unexpected`` are tensors of the file that no name of the model stands for. ``source`` names the file in
    errors. Raises CheckpointError when a name is missing, unexpected or mis-shaped (all are printed, side by
    side), and when a tensor is not of floating point or holds NaN or infinity; the model is then unchanged.
    """
    wanted = model.state_dict()
    missing = [f"{name} {_shape(wanted[name])}" for name in wanted if name not in tensors]
    surplus = {**{name: t for name, t in tensors.items() if name not in wanted}, **(unexpected or {})}
    extra = [f"{name} {_shape(tensor)}" for name, tensor in surplus.items()]
    shared = [name for name in wanted if name in tensors]
    misshaped = [name for name in shared if wanted[name].shape != tensors[name].shape]
    if missing or extra or misshaped:
        raise CheckpointError("\n".join([
            f"{source} does not fit the model: {len(missing)} missing, {len(extra)} unexpected, "
            f"{len(misshaped)} mis-shaped; accepted: exactly the model's names and shapes",
            *side_by_side("missing in the file", missing, "unexpected in the file", extra),
            *side_by_side("mis-shaped: the model's", [f"{n} {_shape(wanted[n])}" for n in misshaped],
                          "the file's", [f"{n} {_shape(tensors[n])}" for n in misshaped])]))
    for name in shared:
        if not tensors[name].is_floating_point():
            raise CheckpointError(f"{source}: {name} is of {tensors[name].dtype}; accepted: floating point weights")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{source}: {name} holds NaN or infinity; accepted: finite weights")
    model.load_state_dict({name: tensors[name].to(torch.float32) for name in shared}, assign=True)


def side_by_side(left_title: str, left: list[str], right_title: str, right: list[str]) -> list[str]:
    """Two columns as lines of text, with their titles; nothing where both are empty."""
    if not left and not right:
        return []
    width = max(map(len, [left_title, *left]))
    return [f"  {a:<{width}} | {b}".rstrip() for a, b in
            [(left_title, right_title), *zip_longest(left, right, fillvalue="")]]


def first_line(error: Exception) -> str:
    """What an exception says first, or its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
