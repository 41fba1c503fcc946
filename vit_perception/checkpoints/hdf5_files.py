"""HDF5 files (.h5), which Keras writes, as tensors by the path of each data set; https://docs.h5py.org."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.formats import LARGEST_EXPANSION, Contents, LazyTensors


def read_hdf5(path: Path) -> Contents:
    """Data sets of numbers by ``group/name``, each read when it is asked for; texts of the root are metadata.

    Links, virtual data sets and data kept in other files are refused: they would read what is no part of the file; so
    is what lies in the file once and is named twice, or would unpack to more than the file's length warrants.
    Raises CheckpointError, also where the package h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(f"{path} needs the package h5py: pip install h5py") from error
    try:
        file = h5py.File(path, "r")
        datasets = dict(_datasets(file, path, h5py))
        readers = {name: partial(_tensor, dataset) for name, dataset in datasets.items()}
        metadata = {name: value for name, value in ((n, _text(file.attrs, n)) for n in file.attrs) if value is not None}
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: a whole HDF5 file of weights") from error
    return Contents(LazyTensors(readers, str(path), {name: dataset.shape for name, dataset in datasets.items()}),
                    metadata)


def _datasets(file: Any, path: Path, h5py: Any) -> Iterator[tuple[str, Any]]:
    length, unpacked, waiting, visited = path.stat().st_size, 0, [("", file)], {h5py.h5o.get_info(file.id).addr}
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            link, full = group.get(name, getlink=True), f"{prefix}{name}"
            if not isinstance(link, h5py.HardLink):
                raise CheckpointError(f"{path}: {full} is a link to {getattr(link, 'filename', '')}{link.path}; "
                                      "accepted: data sets that lie in the file itself")
            held = group[name]
            address = h5py.h5o.get_info(held.id).addr
            if address in visited:
                raise CheckpointError(f"{path}: {full} is in the file twice, by another name; accepted: a tree of "
                                      "groups, with each data set once")
            visited.add(address)
            if isinstance(held, h5py.Group):
                waiting.append((f"{full}/", held))
                continue
            _check(held, full, path, length)
            unpacked += held.nbytes
            if unpacked > LARGEST_EXPANSION * length:
                raise CheckpointError(f"{path}: its {length} bytes would unpack to more than {unpacked}; accepted: at "
                                      f"most {LARGEST_EXPANSION} times the file's own length")
            yield full, held


def _check(dataset: Any, name: str, path: Path, length: int) -> None:
    if getattr(dataset, "is_virtual", False) or getattr(dataset, "external", None):
        raise CheckpointError(f"{path}: {name} is kept in other files; accepted: data sets that lie in the file itself")
    if dataset.dtype.kind not in "fiub":
        raise CheckpointError(f"{path}: {name} is of {dataset.dtype}; accepted: numbers")
    stored, unpacked = dataset.id.get_storage_size(), dataset.nbytes
    if stored > length or unpacked > LARGEST_EXPANSION * stored:
        raise CheckpointError(f"{path}: {name} would unpack from {stored} bytes to {unpacked}; accepted: at most "
                              f"{LARGEST_EXPANSION} times what the file of {length} bytes holds")


def _tensor(dataset: Any) -> Tensor:
    array = dataset[()]
    return torch.as_tensor(array.astype(array.dtype.newbyteorder("="), copy=False))


def _text(attributes: Any, name: str) -> str | None:
    value = attributes[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None
