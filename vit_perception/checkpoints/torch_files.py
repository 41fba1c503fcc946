"""Torch's files (.bin, .pt, .pth) without running what they hold: state dicts, and archives of TorchScript.

A state dict is read by torch with ``weights_only=True``, which refuses a pickle that would run code. A TorchScript
archive holds code and a pickle of the module; torch reads it only by compiling the code. Here the pickle alone is
read, by an unpickler that knows tensors and inert objects and nothing else. Format:
https://docs.pytorch.org/docs/stable/jit.html and torch/csrc/jit/docs/serialization.md in torch's sources.
"""

import argparse
import io
import logging
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.formats import Contents, check_zip
from vit_perception.errors import InvalidValue

# Where training scripts keep the weights in what they save; of several the first is read. A teacher and moving
# averages stand before what they were made from: they are what their authors evaluate.
WRAPPERS = ("teacher", "state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
ACCEPTED = "a torch file of nothing but tensors; others can run code when opened, so they are refused"
_log = logging.getLogger(__name__)

_DTYPES = {"FloatStorage": torch.float32, "HalfStorage": torch.float16, "DoubleStorage": torch.float64,
           "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
           "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
           "BoolStorage": torch.bool}
# More than any checkpoint has, and few enough that a pickle that refers to itself ends soon.
_MOST_NAMES, _DEEPEST = 100_000, 32


def read_torch(path: Path) -> Contents:
    """The tensors of a torch file, memory-mapped where its format allows. Raises CheckpointError."""
    try:
        held = _read_torchscript(path) if _is_torchscript(path) else _read_state_dict(path)
    except CheckpointError:
        raise
    except Exception as error:  # each kind of damage has an exception class of its own
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: {ACCEPTED}") from error
    tensors = unwrapped(held, path)
    length = path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > length:
            raise CheckpointError(f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, more than the file's "
                                  f"{length} bytes; accepted: tensors that the file holds")
    return Contents(tensors)


def unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in ``held``, itself one or a wrapper of ``WRAPPERS``. Raises CheckpointError for other things."""
    for _ in range(3):
        if not isinstance(held, Mapping) or all(isinstance(value, Tensor) for value in held.values()):
            break
        found = [name for name in WRAPPERS if isinstance(held.get(name), Mapping)]
        if not found:
            break
        others = ", ".join(str(name) for name in held if name != found[0])
        _log.info("%s: reading %r%s", path, found[0], f", not {others}" if others else "")
        held = held[found[0]]
    if not isinstance(held, Mapping) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in held.items()):
        raise CheckpointError(f"{path} holds a {type(held).__name__} of other things than tensors; accepted: "
                              f"tensors by name (a state dict), as it is or under one of {', '.join(WRAPPERS)}")
    return dict(held)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_state_dict(path: Path) -> Any:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, archive.infolist(), path)
            compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if compressed:  # torch would take the compressed bytes of a memory-mapped file for the weights
            raise CheckpointError(f"{path}: {compressed[0]} is compressed; accepted: an archive as torch writes it, "
                                  "uncompressed")
    # Command-line arguments, which training scripts save beside the weights, are data of their own kind.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InvalidValue(f"{len(pickles)} files data.pkl in the archive")
        root = pickles[0].filename.removesuffix("data.pkl")
        storages = {entry.filename.removeprefix(f"{root}data/"): entry for entry in archive.infolist()
                    if entry.filename.startswith(f"{root}data/")}
        check_zip(archive, [pickles[0], *storages.values()], path)
        module = _ModuleUnpickler(archive, archive.read(pickles[0]), storages).load()
    return dict(_named_tensors(module))


class _Inert(dict):
    """Stands for every class of an archive's own: it keeps the attributes and does nothing."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.update(state)


class _ModuleUnpickler(pickle.Unpickler):
    """Knows the tensors and the containers of a TorchScript module; any other name in the pickle is refused."""

    def __init__(self, archive: zipfile.ZipFile, content: bytes, storages: Mapping[str, zipfile.ZipInfo]):
        super().__init__(io.BytesIO(content))
        self._archive, self._storages, self._read = archive, storages, {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Inert
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle":  # typed lists: the list alone
            return _first_argument
        raise pickle.UnpicklingError(f"the archive names {module}.{name}, which is no part of a module of tensors")

    def persistent_load(self, identifier: Any) -> Tensor:
        kind, dtype, key, _, _ = identifier
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"the archive refers to a {kind}")
        if key not in self._read:
            content = bytearray(self._archive.read(self._storages[key]))
            self._read[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._read[key]


def _strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)  # torch refuses what lies outside the storage


def _first_argument(value: Any, *_: Any) -> Any:
    return value


def _named_tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested objects, by the attributes that lead to them, joined by dots."""
    waiting, seen = [("", module, 0)], 0
    while waiting:
        prefix, held, depth = waiting.pop()
        for name, value in held.items():
            seen += 1
            if seen > _MOST_NAMES or depth > _DEEPEST:
                raise InvalidValue(f"more than {_MOST_NAMES} attributes, or deeper than {_DEEPEST}")
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
