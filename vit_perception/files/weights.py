"""Small safetensors files of trained projections, read strictly: every name, shape, type and value
is checked.

File format: https://github.com/huggingface/safetensors (names, shapes and string metadata in a JSON
header).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from vit_perception.files.atomic import file_sha256
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import IrregularFile
from vit_perception.files.safetensors_header import BadHeader, read_header

# A shape's axis is a number, or a letter that must be the same number wherever it stands.
Shapes = dict[str, tuple[int | str, ...]]

_FLOATS = {"F16", "F32", "F64"}


class BadWeights(InvalidValue):
    """A weights file that cannot be used; the message names file, tensor, what is there and what is
    accepted.
    """


class WeightsFile(NamedTuple):
    """float32 arrays by name, the header's string metadata, and the SHA-256 of the file's bytes in
    hex.
    """

    path: str
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    sha256: str


def read_weights(path: str) -> WeightsFile:
    """Every tensor of the file. Raises BadWeights where it is absent, damaged, not floating point
    or not finite.
    """
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
    """Hold the file to exactly these tensors; returns the number behind each letter.

    Raises BadWeights that puts what is missing, unexpected or mis-shaped next to what is accepted.
    """
    wanted = {
        **required,
        **{name: shape for name, shape in (optional or {}).items() if name in file.tensors},
    }
    problems = [
        f"missing {name} {_text(shape)}"
        for name, shape in required.items()
        if name not in file.tensors
    ]
    problems += [
        f"unexpected {name} {tensor.shape}"
        for name, tensor in file.tensors.items()
        if name not in wanted
    ]
    sizes: dict[str, int] = {}
    for name, shape in wanted.items():
        if name not in file.tensors:
            continue
        found = file.tensors[name].shape
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
        names = ", ".join(
            f"{name} {_text(shape)}" for name, shape in {**required, **(optional or {})}.items()
        )
        raise BadWeights(f"{file.path}: {'; '.join(problems)}. The file must hold exactly: {names}")
    return sizes


def _text(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
