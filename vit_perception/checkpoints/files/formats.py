"""Weights files of every format as tensors by name. LoadPlan one never runs its code, and never
takes more memory than the file's own length warrants.

=================  ============================================================
``.safetensors``   memory-mapped: a tensor is read when it is used, and never copied
torch files        :mod:`vit_perception.checkpoints.files.torch_files`
``.npz``           :mod:`vit_perception.checkpoints.files.npz_files`
``.h5``            :mod:`vit_perception.checkpoints.files.hdf5_files`
=================  ============================================================
"""

from functools import partial
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.files.contents import Contents, LazyTensors
from vit_perception.checkpoints.files.hdf5_files import read_hdf5
from vit_perception.checkpoints.files.npz_files import read_npz
from vit_perception.checkpoints.files.torch_files import read_torch
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import IrregularFile, check_itself, open_regular
from vit_perception.files.safetensors_header import read_header

_TORCH = "a torch file"
_FORMATS = {
    ".safetensors": "a safetensors file",
    ".bin": _TORCH,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".npz": "an .npz archive",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
}
SUFFIXES = tuple(_FORMATS)
# What files begin with, what that is, and the formats that begin so.
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive", (_TORCH, "an .npz archive")),
    (b"\x80\x02", "a pickle", (_TORCH,)),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ("an HDF5 file",)),
    (b"GGUF", "a GGUF file", ()),
    (b"\x93NUMPY", "a single NumPy array (.npy)", ()),
    (b"\x1f\x8b", "packed by gzip", ()),
    (b"\xfd7zXZ", "packed by xz", ()),
    (b"BZh", "packed by bzip2", ()),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", ()),
    (b"7z\xbc\xaf", "a 7z archive", ()),
    (b"Rar!", "a RAR archive", ()),
    (b"%PDF", "a PDF document", ()),
    (b"\x80\x03", "a pickle", (_TORCH,)),
    (b"\x80\x04", "a pickle", (_TORCH,)),
    (b"\x80\x05", "a pickle", (_TORCH,)),
)
# Formats of weights that are not read, by the ending of the name.
_OTHER_SUFFIXES = {
    ".gguf": "GGUF, of llama.cpp",
    ".onnx": "ONNX",
    ".keras": "an archive of Keras 3: save_weights gives .h5",
    ".ckpt": "of Lightning or TensorFlow",
    ".pkl": "a pickle, which runs code when it is opened",
    ".pickle": "a pickle, which runs code when it is opened",
    ".msgpack": "Flax's msgpack",
    ".pb": "TensorFlow's",
    ".tflite": "TensorFlow Lite's",
    ".engine": "an engine of TensorRT",
    ".npy": "a single NumPy array",
}


def read_contents(path: Path) -> Contents:
    """Open the tensors in ``path``.

    Raises:
        CheckpointError: The file is damaged, foreign or unsafe, or no file.
    """
    if path.suffix not in SUFFIXES:
        other = (
            f" ({path.suffix} is {_OTHER_SUFFIXES[path.suffix]})"
            if path.suffix in _OTHER_SUFFIXES
            else ""
        )
        raise CheckpointError(
            f"{path}: the file ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}{other}"
        )
    try:
        check_itself(path)
        _check_beginning(path)
    except (IrregularFile, OSError) as error:
        raise CheckpointError(str(error)) from error
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix in (".h5", ".hdf5"):
        return read_hdf5(path)
    return read_torch(path)


def _check_beginning(path: Path) -> None:
    """Refuse a file of another format than its name says (CheckpointError)."""
    with open_regular(path) as file:
        head = file.read(16)
    wanted = _FORMATS[path.suffix]
    kind, formats = next(
        ((kind, formats) for beginning, kind, formats in _BEGINNINGS if head.startswith(beginning)),
        ("", ()),
    )
    if not kind and head[8:9] == b"{" and not any(head[4:8]):
        kind, formats = "a safetensors file", ("a safetensors file",)
    if kind and wanted not in formats:
        raise CheckpointError(f"{path} is {kind}; accepted under this name: {wanted}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors in ``path`` at once; raises as :func:`read_contents`."""
    return dict(read_contents(path).tensors)


def read_safetensors(path: Path) -> Contents:
    """Open a safetensors file (https://huggingface.co/docs/safetensors); its header is checked.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        header = read_header(path)
        file = safe_open(path, framework="pt")
        readers = {name: partial(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118
        return Contents(LazyTensors(readers, str(path), header.shapes), header.metadata)
    except InvalidValue as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # the library's own, and OSError
        raise CheckpointError(
            f"{path}: {first_line(error)}; accepted: a whole safetensors file"
        ) from error
