"""Torch's files (.bin, .pt, .pth) without running what they hold: state dicts, and archives of
TorchScript.

Both are a pickle that describes the tensors, and their bytes: in a zip archive, in that of
TorchScript beside code, which is not read; or one behind the other, as torch wrote before version
1.6. torch's own reader is not used: it believes the sizes that it reads, and takes TorchScript only
by compiling the code. Format: https://docs.pytorch.org/docs/stable/notes/serialization.html and
torch/csrc/jit/docs/serialization.md in its sources.
"""

import logging
import mmap
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.files.contents import Contents, LazyTensors
from vit_perception.checkpoints.files.pickle_guard import pickle_end
from vit_perception.checkpoints.files.torch_pickle import MOST_PICKLE_BYTES, View, unpickled
from vit_perception.checkpoints.files.zip_files import (
    LARGEST_EXPANSION,
    check_entries,
    open_zip,
    stored_at,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.files.regular_files import open_regular
from vit_perception.files.safetensors_header import LONGEST_NAME, MOST_TENSORS

# Where training scripts keep the weights in what they save; of several the first is read. A teacher
# and moving averages stand before what they were made from: they are what their authors evaluate.
WRAPPERS = ("teacher", "state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
ACCEPTED = (
    "a torch file of nothing but tensors; others can run code when opened, so they are refused"
)
_log = logging.getLogger(__name__)
_DEEPEST = 32
# What stands in front of a file of torch before version 1.6, in pickles of their own.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class ByteRange(NamedTuple):
    """Where a storage lies in the file, in bytes."""

    start: int
    length: int


def read_torch(path: Path) -> Contents:
    """The tensors of a torch file, memory-mapped. Raises CheckpointError."""
    try:
        with open_regular(path) as file:
            # Whoever changes a tensor changes the memory alone.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            is_zip = content[:4] == b"PK\x03\x04"
            views, places = (
                _read_archive(file, path, content) if is_zip else _read_old_file(path, content)
            )
        _check(views, places, path, len(content))
    except CheckpointError:
        raise
    except Exception as error:  # each kind of damage has an exception class of its own
        raise CheckpointError(f"{path}: {first_line(error)}; accepted: {ACCEPTED}") from error
    readers = {
        name: partial(_tensor, content, view, places[view.key]) for name, view in views.items()
    }
    return Contents(
        LazyTensors(readers, str(path), {name: view.size for name, view in views.items()})
    )


def unwrapped(held: Any, path: Path) -> dict[str, View]:
    """The state dict in ``held``, itself one or a wrapper of ``WRAPPERS``. Raises CheckpointError
    for other things.
    """
    for _ in range(3):
        if not isinstance(held, Mapping) or all(isinstance(value, View) for value in held.values()):
            break
        found = [name for name in WRAPPERS if isinstance(held.get(name), Mapping)]
        if not found:
            break
        others = ", ".join(str(name)[:40] for name in list(held)[:20] if name != found[0])
        _log.info("%s: reading %r%s", path, found[0], f", not {others}" if others else "")
        held = held[found[0]]
    if not isinstance(held, Mapping) or not all(
        isinstance(name, str) and isinstance(value, View) for name, value in held.items()
    ):
        raise CheckpointError(
            f"{path} holds a {type(held).__name__} of other things than tensors; accepted: "
            f"tensors by name (a state dict), as it is or under one of {', '.join(WRAPPERS)}"
        )
    return dict(held)


def _read_archive(
    file: Any, path: Path, content: mmap.mmap
) -> tuple[dict[str, View], dict[str, ByteRange]]:
    entries = open_zip(file, path).infolist()
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidValue(f"{len(pickles)} files data.pkl in the archive")
    root = pickles[0].filename.removesuffix("data.pkl")
    storages = {
        entry.filename.removeprefix(f"{root}data/"): entry
        for entry in entries
        if entry.filename.startswith(f"{root}data/")
    }
    check_entries([pickles[0], *storages.values()], path, len(content), "stored")
    order = next((entry for entry in entries if entry.filename == f"{root}byteorder"), None)
    if order is not None and _stored(file, order, content, 16) != b"little":
        raise InvalidValue("its numbers are not of little-endian order")
    pickled = _stored(file, pickles[0], content, MOST_PICKLE_BYTES)
    pickle_end(pickled)
    held = unpickled(pickled).held
    is_script = any(entry.filename == f"{root}constants.pkl" for entry in entries)
    views = dict(_named(held)) if is_script else unwrapped(held, path)
    keys = {view.key for view in views.values()}
    return views, {
        key: ByteRange(stored_at(file, entry, len(content)), entry.file_size)
        for key, entry in storages.items()
        if key in keys
    }


def _stored(file: Any, entry: Any, content: mmap.mmap, most_bytes: int) -> bytes:
    if entry.file_size > most_bytes:
        raise InvalidValue(
            f"{entry.filename} is {entry.file_size} bytes long, more than {most_bytes}"
        )
    start = stored_at(file, entry, len(content))
    return content[start : start + entry.file_size]


def _read_old_file(path: Path, content: mmap.mmap) -> tuple[dict[str, View], dict[str, ByteRange]]:
    start, pieces = 0, []
    for _ in range(
        5
    ):  # a magic number, the protocol, the machine's sizes, the object, the keys of the storages
        piece = content[start : start + MOST_PICKLE_BYTES]
        pieces.append(unpickled(piece[: pickle_end(piece)]))
        start += pickle_end(piece)
        if pieces[0].held != _MAGIC:
            raise InvalidValue("it does not begin as a torch file does")
    _, protocol, system, root, keys = (piece.held for piece in pieces)
    if (
        protocol != _PROTOCOL
        or not isinstance(system, Mapping)
        or system.get("little_endian") is not True
    ):
        raise InvalidValue(
            f"its protocol is {str(protocol)[:40]}, or its numbers are not of little-endian order"
        )
    places = {}
    for key in keys:
        count = int.from_bytes(content[start : start + 8], "little", signed=True)
        length = count * pieces[3].storages[key].itemsize
        places[key] = ByteRange(start + 8, length)
        start += 8 + length
        if count < 0 or start > len(content):
            raise InvalidValue(
                f"the storage {str(key)[:40]} of {count} numbers goes beyond the end of the file"
            )
    return unwrapped(root, path), places


def _check(
    views: Mapping[str, View], places: Mapping[str, ByteRange], path: Path, length: int
) -> None:
    """Raise CheckpointError for tensors that are more than what the file holds for them."""
    if len(views) > MOST_TENSORS or any(len(name) > LONGEST_NAME for name in views):
        raise CheckpointError(
            f"{path} holds {len(views)} tensors, or some with names of more than {LONGEST_NAME} "
            f"letters; accepted: up to {MOST_TENSORS}"
        )
    total = 0
    for name, view in views.items():
        if view.key not in places:
            raise CheckpointError(
                f"{path}: the bytes of {name} are not in it; accepted: a whole torch file"
            )
        held, size = places[view.key].length, view.dtype.itemsize
        if view.end * size > held or view.elements * size > held:
            raise CheckpointError(
                f"{path}: {name} is {view.size} {view.dtype}, more than the file's {held} bytes "
                "for "
                f"it (at {view.offset}, in steps of {view.stride}); accepted: tensors that the "
                "file "
                "holds"
            )
        total += view.elements * size
    if total > LARGEST_EXPANSION * length:
        raise CheckpointError(
            f"{path}: its tensors are {total} bytes, many of them the same, and the file {length}; "
            f"accepted: at most {LARGEST_EXPANSION} times the file's own length"
        )


def _tensor(content: mmap.mmap, view: View, place: ByteRange) -> Tensor:
    count = place.length // view.dtype.itemsize
    if not view.elements:
        return torch.empty(view.size, dtype=view.dtype)
    held = torch.frombuffer(
        content, dtype=torch.uint8, count=count * view.dtype.itemsize, offset=place.start
    )
    if place.start % view.dtype.itemsize:  # in old files; not every instruction reads from there
        held = held.clone()
    return held.view(view.dtype).as_strided(view.size, view.stride, view.offset)


def _named(module: Any) -> Iterator[tuple[str, View]]:
    """The tensors of nested objects, by the attributes that lead to them, joined by dots."""
    waiting, seen = [("", module, 0)], 0
    while waiting:
        prefix, held, depth = waiting.pop()
        for name, value in held.items():
            seen += 1
            if seen > MOST_TENSORS or depth > _DEEPEST or len(prefix) > LONGEST_NAME:
                raise InvalidValue(
                    f"more than {MOST_TENSORS} attributes, or deeper than {_DEEPEST}"
                )
            if isinstance(value, View):
                yield f"{prefix}{name}", value
            elif isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
