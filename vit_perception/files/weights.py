"""Read small safetensors files of trained projections; names, shapes and values are checked.

File format: https://github.com/huggingface/safetensors.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from vit_perception.files.atomic import file_sha256
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import IrregularFile
from vit_perception.files.safetensors_header import BadHeader, read_header

# An axis is a number, or a letter that stands for the same number everywhere.
Shapes = dict[str, tuple[int | str, ...]]

_FLOATS = {"F16", "F32", "F64"}


class BadWeights(InvalidValue):
    """A weights file is unusable; the message names file, tensor, fault and what is accepted."""


class WeightsFile(NamedTuple):
    """One file of trained weights."""

    path: str
    tensors: dict[str, np.ndarray]  # float32, by name
    metadata: dict[str, str]  # texts of the header
    sha256: str  # of the file's bytes, in hex


def read_weights(path: str) -> WeightsFile:
    """Read every tensor. Raises BadWeights if the file is unusable or holds other than floats."""
    tensors = {}
    try:
        header = read_header(path)
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - a safe_open, which is not a mapping
                kind = file.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    raise BadWeights(
                        f"{path}: {name} is {kind}; accepted: {', '.join(sorted(_FLOATS))}"
                    )
                tensors[name] = file.get_tensor(name).astype(np.float32)
    except FileNotFoundError as error:
        raise BadWeights(f"{path!r} is not a file; accepted: a safetensors file") from error
    except IrregularFile as error:
        raise BadWeights(str(error)) from error
    except (BadHeader, SafetensorError) as error:
        raise BadWeights(f"{path} is no whole safetensors file ({error}); accepted: one") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadWeights(
                f"{path}: {name} holds {tensor[~np.isfinite(tensor)].flat[0]}; accepted: finite "
                "float32"
            )
    return WeightsFile(path, tensors, header.metadata, file_sha256(Path(path)))


def check_shapes(
    file: WeightsFile, required: Shapes, optional: Shapes | None = None
) -> dict[str, int]:
    """Check that the file holds exactly these tensors; return the number of each letter.

    Raises:
        BadWeights: it lists missing, unexpected and mis-shaped tensors, and what is accepted.
    """
    known = {**required, **(optional or {})}
    tensors = file.tensors
    missing = [name for name in required if name not in tensors]
    unexpected = [name for name in tensors if name not in known]
    problems = [f"missing {name} {_text(required[name])}" for name in missing]
    problems += [f"unexpected {name} {tensors[name].shape}" for name in unexpected]
    sizes: dict[str, int] = {}
    for name, shape in known.items():
        if name not in tensors:
            continue
        found = tensors[name].shape
        accepted = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in shape)
        if len(found) != len(shape) or any(
            isinstance(a, int) and a != f for a, f in zip(accepted, found)
        ):
            problems.append(f"{name} is {found}, accepted: {_text(accepted)}")
        elif 0 in found:
            problems.append(f"{name} is {found}, which is empty, accepted: {_text(accepted)}")
        else:
            sizes.update({axis: f for axis, f in zip(shape, found) if isinstance(axis, str)})
    if problems:
        names = ", ".join(f"{name} {_text(shape)}" for name, shape in known.items())
        raise BadWeights(f"{file.path}: {'; '.join(problems)}. The file must hold exactly: {names}")
    return sizes


def _text(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
