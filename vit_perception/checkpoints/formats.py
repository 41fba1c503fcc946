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
from vit_perception.errors import InvalidValue

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".npz", ".h5", ".hdf5")
# Trained float32 weights hardly compress; what unpacks to more than this many times its file is no checkpoint.
LARGEST_EXPANSION = 4


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
    """The tensors in ``path``. Raises CheckpointError for a damaged, foreign or unsafe file."""
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: the file ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix in (".h5", ".hdf5"):
        from vit_perception.checkpoints.hdf5_files import read_hdf5
        return read_hdf5(path)
    from vit_perception.checkpoints.torch_files import read_torch
    return read_torch(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors in ``path``, read at once. Raises CheckpointError as :func:`read_contents`."""
    return dict(read_contents(path).tensors)


def read_safetensors(path: Path) -> Contents:
    """A safetensors file (https://huggingface.co/docs/safetensors); its header is checked against its length."""
    try:
        file = safe_open(path, framework="pt")
        readers = {name: partial(file.get_tensor, name) for name in file.keys()}
        return Contents(LazyTensors(readers, str(path)), file.metadata() or {})
    except Exception as error:
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: a whole safetensors file") from error


def read_npz(path: Path) -> Contents:
    """A NumPy archive, each array read when it is asked for; arrays of Python objects (pickles) are refused."""
    try:
        archive = zipfile.ZipFile(path)
        check_zip(archive, archive.infolist(), path)
        readers = {entry.filename.removesuffix(".npy"): partial(_array, archive, entry)
                   for entry in archive.infolist()}
        shapes = {entry.filename.removesuffix(".npy"): _checked_shape(archive, entry) for entry in archive.infolist()}
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: a whole .npz file of numbers") from error
    return Contents(LazyTensors(readers, str(path), shapes))


def check_zip(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Raise CheckpointError where ``entries`` would unpack to more than the file's length warrants, or are twice."""
    length, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > LARGEST_EXPANSION * length:
        raise CheckpointError(f"{path}: its {length} bytes would unpack to {unpacked}; accepted: at most "
                              f"{LARGEST_EXPANSION} times the file's own length")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} holds two entries of one name; accepted: each once")


def _checked_shape(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, ...]:
    with archive.open(entry) as file:
        shape, _, dtype = _header(file)
        declared = int(np.prod(shape, dtype=object)) * dtype.itemsize + file.tell()
    if dtype.kind not in "fiub":
        raise InvalidValue(f"{entry.filename} is of {dtype}, not numbers")
    if declared != entry.file_size:
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
