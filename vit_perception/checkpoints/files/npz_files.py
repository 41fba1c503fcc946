"""NumPy archives as tensors by name, with bounds on what their entries may declare.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.files.contents import Contents, LazyTensors
from vit_perception.checkpoints.files.zip_files import check_entries, open_zip
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import check_itself, open_regular


def read_npz(path: Path) -> Contents:
    """Open a NumPy archive; each array is read when it is asked for.

    Raises:
        CheckpointError: It is damaged, or holds Python objects (pickles).
    """
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
        raise CheckpointError(
            f"{path}: {first_line(error)}; accepted: a whole .npz file of numbers"
        ) from error
    readers = {name: partial(_array, archive, entry) for name, entry in entries.items()}
    return Contents(LazyTensors(readers, str(path), shapes))


def _checked_shape(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, ...]:
    with archive.open(entry) as file:
        shape, _, dtype = _header(file)
        declared = int(np.prod(shape, dtype=object)) * dtype.itemsize + file.tell()
    if dtype.kind not in "fiub":
        raise InvalidValue(f"{entry.filename} is of {dtype}, not numbers")
    if declared != entry.file_size or min(shape, default=0) < 0:
        raise InvalidValue(
            f"{entry.filename} declares {shape} {dtype}, which its {entry.file_size} bytes do not "
            "hold"
        )
    return tuple(shape)


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InvalidValue(f"format version {version}")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    with archive.open(entry) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
