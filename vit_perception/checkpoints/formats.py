"""Weights files of every format as tensors by name. Reading one never runs its code, and never takes more memory than
the file's own length warrants.

=================  ===========================================================================================
``.safetensors``   memory-mapped: a tensor is read when it is used, and never copied
torch files        :mod:`vit_perception.checkpoints.torch_files`
``.npz``           NumPy's archive (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
``.h5``            :mod:`vit_perception.checkpoints.hdf5_files`
=================  ===========================================================================================
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.zip_files import check_entries, open_zip
from vit_perception.errors import InvalidValue
from vit_perception.regular_files import IrregularFile, check_itself, open_regular
from vit_perception.safetensors_header import read_header

_TORCH = "a torch file"
_FORMATS = {".safetensors": "a safetensors file", ".bin": _TORCH, ".pt": _TORCH, ".pth": _TORCH,
            ".npz": "an .npz archive", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file"}
SUFFIXES = tuple(_FORMATS)
# What a file of a format begins with. Zip is that of several formats; the ones that are not read are named.
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive", (_TORCH, "an .npz archive")), (b"\x80\x02", "a pickle", (_TORCH,)),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ("an HDF5 file",)), (b"GGUF", "a GGUF file", ()),
    (b"\x93NUMPY", "a single NumPy array (.npy)", ()), (b"\x1f\x8b", "packed by gzip", ()),
    (b"\xfd7zXZ", "packed by xz", ()), (b"BZh", "packed by bzip2", ()), (b"\x28\xb5\x2f\xfd", "packed by zstd", ()),
    (b"7z\xbc\xaf", "a 7z archive", ()), (b"Rar!", "a RAR archive", ()), (b"%PDF", "a PDF document", ()),
    (b"\x80\x03", "a pickle", (_TORCH,)), (b"\x80\x04", "a pickle", (_TORCH,)), (b"\x80\x05", "a pickle", (_TORCH,)),
)
# Formats of weights that are not read, by the ending of the name.
_OTHER_SUFFIXES = {
    ".gguf": "GGUF, of llama.cpp", ".onnx": "ONNX", ".keras": "an archive of Keras 3: save_weights gives .h5",
    ".ckpt": "of Lightning or TensorFlow", ".pkl": "a pickle, which runs code when it is opened", ".pickle":
    "a pickle, which runs code when it is opened", ".msgpack": "Flax's msgpack", ".pb": "TensorFlow's", ".tflite":
    "TensorFlow Lite's", ".engine": "an engine of TensorRT", ".npy": "a single NumPy array"}


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for. An error in one becomes a CheckpointError that names it.

    ``shapes`` are those that the format tells without reading the tensor.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]], source: str,
                 shapes: Mapping[str, tuple[int, ...]] | None = None):
        self._readers, self._source, self._shapes = dict(readers), source, dict(shapes or {})

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is read only where the format does not tell it."""
        return self._shapes[name] if name in self._shapes else tuple(self[name].shape)

    def __getitem__(self, name: str) -> Tensor:
        reader = self._readers[name]
        try:
            return reader()
        except Exception as error:  # each library and each kind of damage has an exception class of its own
            raise CheckpointError(f"{self._source}: {name}: {first_line(error)}; accepted: a whole file") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor of a file, without reading it where its format allows."""
    return tensors.shape(name) if isinstance(tensors, LazyTensors) else tuple(tensors[name].shape)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a weights file holds: ``tensors`` by its own names, and the texts beside them, by name."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_contents(path: Path) -> Contents:
    """The tensors in ``path``. Raises CheckpointError for a damaged, foreign or unsafe file, or what is no file."""
    if path.suffix not in SUFFIXES:
        other = f" ({path.suffix} is {_OTHER_SUFFIXES[path.suffix]})" if path.suffix in _OTHER_SUFFIXES else ""
        raise CheckpointError(f"{path}: the file ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}{other}")
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
        from vit_perception.checkpoints.hdf5_files import read_hdf5
        return read_hdf5(path)
    from vit_perception.checkpoints.torch_files import read_torch
    return read_torch(path)


def _check_beginning(path: Path) -> None:
    """Raise CheckpointError for a file that is of another format than its name says."""
    with open_regular(path) as file:
        head = file.read(16)
    wanted = _FORMATS[path.suffix]
    kind, formats = next(((kind, formats) for beginning, kind, formats in _BEGINNINGS if head.startswith(beginning)),
                         ("", ()))
    if not kind and head[8:9] == b"{" and not any(head[4:8]):
        kind, formats = "a safetensors file", ("a safetensors file",)
    if kind and wanted not in formats:
        raise CheckpointError(f"{path} is {kind}; accepted under this name: {wanted}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors in ``path``, read at once. Raises CheckpointError as :func:`read_contents`."""
    return dict(read_contents(path).tensors)


def read_safetensors(path: Path) -> Contents:
    """A safetensors file (https://huggingface.co/docs/safetensors); its header is checked against its length."""
    try:
        header = read_header(path)
        file = safe_open(path, framework="pt")
        readers = {name: partial(file.get_tensor, name) for name in file.keys()}
        return Contents(LazyTensors(readers, str(path), header.shapes), header.metadata)
    except InvalidValue as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # the library's own, and OSError
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: a whole safetensors file") from error


def read_npz(path: Path) -> Contents:
    """A NumPy archive, each array read when it is asked for; arrays of Python objects (pickles) are refused."""
    try:
        file = open_regular(path)  # the archive reads it as long as its arrays are asked for
        length = check_itself(path)
        archive = open_zip(file, path)
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        check_entries(archive.infolist(), path, length, "deflate")
        if len(entries) != len(archive.infolist()):
            raise CheckpointError(f"{path} holds two arrays of one name; accepted: each once")
        shapes = {name: _checked_shape(archive, entry) for name, entry in entries.items()}
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: a whole .npz file of numbers") from error
    readers = {name: partial(_array, archive, entry) for name, entry in entries.items()}
    return Contents(LazyTensors(readers, str(path), shapes))


def _checked_shape(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, ...]:
    with archive.open(entry) as file:
        shape, _, dtype = _header(file)
        declared = int(np.prod(shape, dtype=object)) * dtype.itemsize + file.tell()
    if dtype.kind not in "fiub":
        raise InvalidValue(f"{entry.filename} is of {dtype}, not numbers")
    if declared != entry.file_size or min(shape, default=0) < 0:
        raise InvalidValue(f"{entry.filename} declares {shape} {dtype}, which its {entry.file_size} bytes do not hold")
    return tuple(shape)


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InvalidValue(f"format version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    with archive.open(entry) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
