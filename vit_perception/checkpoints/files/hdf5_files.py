"""HDF5 files (.h5), which Keras writes, as tensors by the path of each data set;
https://docs.h5py.org.
"""

import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.files.contents import Contents, LazyTensors
from vit_perception.checkpoints.files.zip_files import LARGEST_EXPANSION
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import check_regular
from vit_perception.files.safetensors_header import LONGEST_NAME, MOST_TENSORS

# Filters of h5py's writers that are undone here. Others do not tell the unpacked size first.
_GZIP = 1
_SHUFFLE = 2
_CHECKSUM = 3
_MOST_CHUNKS = 100_000
# A damaged file can send the library into a loop without an end, or crash it. So a process of its
# own looks first, for some seconds of computing time, however busy the machine is.
_LOOK = """
import resource, sys, time, h5py
most_s = int(time.process_time()) + 2
resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))
def look(name, held):
    if isinstance(held, h5py.Dataset):
        held.id.get_storage_size(), held.chunks and held.id.get_num_chunks()
with h5py.File(sys.argv[1], "r") as file:
    for name in file.attrs:
        file.attrs.get_id(name).shape == () and file.attrs[name]
    file.visititems(look)
"""


def read_hdf5(path: Path) -> Contents:
    """Open data sets of numbers by ``group/name``; texts of the root are metadata.

    Each data set is read when it is asked for. Links, virtual data sets and data in other files are
    refused: they would read something that is no part of the file. So is data with two names, or
    that would unpack to more than the file's length warrants.

    Raises:
        CheckpointError: The file is refused or damaged, or the package h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError(f"{path} needs the package h5py: pip install h5py") from error
    _look_first(path)
    try:
        file = h5py.File(path, "r")
        datasets = dict(_datasets(file, path, h5py))
        readers = {name: partial(_tensor, dataset) for name, dataset in datasets.items()}
        metadata = dict(_texts(file.attrs, h5py))
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: {first_line(error)}; accepted: a whole HDF5 file of weights"
        ) from error
    return Contents(
        LazyTensors(
            readers, str(path), {name: dataset.shape for name, dataset in datasets.items()}
        ),
        metadata,
    )


def _look_first(path: Path) -> None:
    """Refuse a file on which the library crashes or hangs (CheckpointError)."""
    run = subprocess.run([sys.executable, "-c", _LOOK, str(path)], capture_output=True)
    if run.returncode < 0:
        raise CheckpointError(
            f"{path}: the library of HDF5 crashes on it, or does not come to an end; accepted: a "
            "whole HDF5 file of weights"
        )


def _datasets(file: Any, path: Path, h5py: Any) -> Iterator[tuple[str, Any]]:
    length = check_regular(path)
    unpacked = 0
    waiting = [("", file)]
    visited = {h5py.h5o.get_info(file.id).addr}
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            full = f"{prefix}{name}"
            if not isinstance(link, h5py.HardLink):
                raise CheckpointError(
                    f"{path}: {full} is a link to {getattr(link, 'filename', '')}{link.path}; "
                    "accepted: data sets that lie in the file itself"
                )
            held = group[name]
            address = h5py.h5o.get_info(held.id).addr
            if address in visited:
                raise CheckpointError(
                    f"{path}: {full} is in the file twice, by another name; accepted: a tree of "
                    "groups, with each data set once"
                )
            visited.add(address)
            if len(visited) > MOST_TENSORS or len(full) > LONGEST_NAME:
                raise CheckpointError(
                    f"{path} holds more than {MOST_TENSORS} groups and data sets, or a path of "
                    f"more than {LONGEST_NAME} letters; accepted: up to these"
                )
            if isinstance(held, h5py.Group):
                waiting.append((f"{full}/", held))
                continue
            _check(held, full, path, length)
            unpacked += held.nbytes
            if unpacked > LARGEST_EXPANSION * length:
                raise CheckpointError(
                    f"{path}: its {length} bytes would unpack to more than {unpacked}; accepted: "
                    f"at most {LARGEST_EXPANSION} times the file's own length"
                )
            yield full, held


def _check(dataset: Any, name: str, path: Path, length: int) -> None:
    if getattr(dataset, "is_virtual", False) or getattr(dataset, "external", None):
        raise CheckpointError(
            f"{path}: {name} is kept in other files; accepted: data sets that lie in the file "
            "itself"
        )
    if getattr(dataset, "dtype", None) is None or dataset.dtype.kind not in "fiub":
        raise CheckpointError(
            f"{path}: {name} is of {getattr(dataset, 'dtype', 'no type')}; accepted: numbers"
        )
    stored = dataset.id.get_storage_size()
    unpacked = dataset.nbytes
    if stored > length or unpacked > LARGEST_EXPANSION * stored:
        raise CheckpointError(
            f"{path}: {name} would unpack from {stored} bytes to {unpacked}; accepted: at most "
            f"{LARGEST_EXPANSION} times what the file of {length} bytes holds"
        )
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if not set(filters) <= {_GZIP, _SHUFFLE, _CHECKSUM} or filters.count(_GZIP) > 1:
        raise CheckpointError(
            f"{path}: {name} is packed by the filters {filters} of HDF5; accepted: none, or gzip "
            f"({_GZIP}) with shuffle ({_SHUFFLE}) and checksums ({_CHECKSUM})"
        )


def _tensor(dataset: Any) -> Tensor:
    _check_chunks(dataset)
    array = dataset[()]
    return torch.as_tensor(array.astype(array.dtype.newbyteorder("="), copy=False))


def _check_chunks(dataset: Any) -> None:
    """Refuse a packed chunk that holds more than a chunk (ValueError): all would be unpacked."""
    if dataset.chunks is None or dataset.compression is None:
        return
    chunk_bytes = dataset.dtype.itemsize
    for side in dataset.chunks:
        chunk_bytes *= side
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    # Each filter before gzip that adds something adds a checksum of four bytes.
    chunk_bytes += 4 * filters.index(_GZIP)
    count = dataset.id.get_num_chunks()
    if count > _MOST_CHUNKS or chunk_bytes > 2 * LARGEST_EXPANSION * max(dataset.nbytes, 1 << 20):
        raise InvalidValue(f"{count} chunks of {chunk_bytes} bytes for data of {dataset.nbytes}")
    for index in range(count):
        place = dataset.id.get_chunk_info(index).chunk_offset
        mask, packed = dataset.id.read_direct_chunk(place)
        if mask & (1 << filters.index(_GZIP)):  # this chunk was left as it was
            continue
        packed = packed[:-4] if _CHECKSUM in filters[filters.index(_GZIP) :] else packed
        unpacker = zlib.decompressobj()
        if len(unpacker.decompress(packed, chunk_bytes + 1)) > chunk_bytes:
            raise InvalidValue(f"a chunk of {chunk_bytes} bytes would unpack to more")


def _texts(attributes: Any, h5py: Any) -> Iterator[tuple[str, str]]:
    """Read single texts: an attribute of many may name one long text a thousand times."""
    for name in attributes:
        held = attributes.get_id(name)
        if held.shape == () and (
            h5py.check_string_dtype(held.dtype) is not None or held.dtype.kind == "S"
        ):
            value = attributes[name]
            yield (
                name,
                value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value),
            )
