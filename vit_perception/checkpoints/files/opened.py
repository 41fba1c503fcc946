"""What lies where a checkpoint was named: the weights, and the files beside them that describe
them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.contents import LazyTensors, shape_of
from vit_perception.checkpoints.files.formats import SUFFIXES, read_contents
from vit_perception.files.regular_files import IrregularFile, check_regular, read_text_bounded
from vit_perception.files.safetensors_header import MOST_TENSORS

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
# In the order of preference where a folder holds several.
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
_INDEX = ".index.json"
# The largest open models are in some two hundred; of a folder's names, some are shown and no more
# than these looked at.
_MOST_SHARDS, _SHOWN, _MOST_LISTED = 500, 20, 10_000


@dataclass(frozen=True, eq=False)
class Found:
    """A checkpoint before anything is known of its family.

    ``path`` is the weights file (the index of a sharded one), ``files`` all files of weights;
    ``tensors`` are under the file's own names and read when they are used; ``metadata`` are the
    texts inside the weights file. ``config`` and ``preprocessor`` are the JSON files beside it,
    None where there is none. ``name`` and ``source`` are for the model card.
    """

    path: Path
    name: str
    source: str
    tensors: Mapping[str, Tensor]
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    preprocessor: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """Where ``path`` lies."""
        return self.path.parent

    @property
    def suffix(self) -> str:
        """The ending of the weights file, ``.safetensors`` for a sharded one."""
        return self.files[0].suffix if self.files else self.path.suffix

    def has(self, *names: str) -> bool:
        """Whether the file holds all of ``names``."""
        return all(name in self.tensors for name in names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises CheckpointError naming it where the file has none of that
        name.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} has no tensor {name}; accepted: a whole checkpoint")
        return shape_of(self.tensors, name)

    def count(self, prefix: str) -> int:
        """How many numbered parts follow ``prefix`` without a gap: 12 for ``blocks.0.…`` to
        ``blocks.11.…``.
        """
        numbers = {
            rest.split(".", 1)[0]
            for rest in (name[len(prefix) :] for name in self.tensors if name.startswith(prefix))
        }
        return next(index for index in range(len(numbers) + 1) if str(index) not in numbers)


def open_found(path: Path, name: str, source: str) -> Found:
    """The checkpoint of a weights file or of a sharded one's index. Raises CheckpointError."""
    if path.name.endswith(_INDEX):
        tensors, files = _shards(path)
        metadata: Mapping[str, str] = {}
    else:
        contents = read_contents(path)
        tensors, metadata, files = contents.tensors, contents.metadata, (path,)
    return Found(
        path,
        name,
        source,
        tensors,
        files,
        metadata,
        optional_json(path.parent / CONFIG_FILE, "the model's sizes"),
        optional_json(path.parent / PREPROCESSOR_FILE, "the model's preprocessing"),
    )


def weights_in(folder: Path) -> Path:
    """The weights file of a folder: one of ``WEIGHTS_FILES``, or else its only file of weights.
    CheckpointError.
    """
    for name in WEIGHTS_FILES:
        if is_there(folder / name):
            return folder / name
    names = sorted(file.name for file in islice(folder.iterdir(), _MOST_LISTED))
    others = [name for name in names if Path(name).suffix in SUFFIXES and is_there(folder / name)]
    if len(others) == 1:
        return folder / others[0]
    surplus = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise CheckpointError(
        f"{folder} holds {', '.join(names[:_SHOWN]) or 'nothing'}{surplus}; accepted: one weights "
        f"file, {WEIGHTS_FILES[0]} or {WEIGHTS_FILES[3]}, or a single one that ends in "
        f"{', '.join(SUFFIXES)}"
    )


def is_there(path: Path) -> bool:
    """Whether there is something at ``path``. Raises CheckpointError where that is no file, or a
    link to nothing.
    """
    try:
        check_regular(path)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise CheckpointError(
                f"{path} is a link to {os.readlink(path)}, where nothing is; accepted: a whole "
                "checkpoint"
            ) from error
        return False
    except (IrregularFile, OSError) as error:
        raise CheckpointError(str(error)) from error
    return True


def read_json(path: Path, holds: str) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError naming the file and what it ``holds``."""
    try:
        fields = json.loads(read_text_bounded(path))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: no file {path.name}; accepted: one with {holds}"
        ) from error
    except IrregularFile as error:
        raise CheckpointError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {error}; accepted: JSON with {holds}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(
            f"{path} holds a {type(fields).__name__}; accepted: a JSON object with {holds}"
        )
    return fields


def optional_json(path: Path, holds: str) -> dict[str, Any] | None:
    """As :func:`read_json`, None where there is no such file."""
    return read_json(path, holds) if is_there(path) else None


def _shards(index: Path) -> tuple[LazyTensors, tuple[Path, ...]]:
    """The tensors of a checkpoint in several files, by ``weight_map`` of its index: tensor's name
    -> file's name.
    """
    places = read_json(index, "weight_map").get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(shard, str) for shard in places.values())
    ):
        raise CheckpointError(
            f"weight_map in {index} is {str(places)[:80]!r}; accepted: each tensor's name and its "
            "file"
        )
    names = sorted(set(places.values()))
    if len(places) > MOST_TENSORS or len(names) > _MOST_SHARDS:
        raise CheckpointError(
            f"weight_map in {index} names {len(places)} tensors in {len(names)} files; accepted: "
            "up "
            f"to {MOST_TENSORS} tensors in {_MOST_SHARDS} files"
        )
    files: dict[str, Mapping[str, Tensor]] = {}
    for shard in names:
        path = index.parent / shard
        if Path(shard).name != shard or "\0" in shard or path.suffix not in SUFFIXES:
            raise CheckpointError(
                f"weight_map in {index} names the file {shard[:100]!r}; accepted: weights files "
                "beside it"
            )
        if not is_there(path):
            raise CheckpointError(
                f"{index.parent}: no file {shard}, which {index.name} names; accepted: all shards"
            )
        files[shard] = read_contents(path).tensors
    readers, shapes = {}, {}
    for name, shard in places.items():
        if name not in files[shard]:
            raise CheckpointError(
                f"{index.parent / shard} has no tensor {name}, which {index.name} places there"
            )
        readers[name] = lambda held=files[shard], name=name: held[name]
        shapes[name] = shape_of(files[shard], name)
    surplus = [
        f"{name} in {shard}"
        for shard, held in files.items()
        for name in held
        if places.get(name) != shard
    ]
    if surplus:
        raise CheckpointError(
            f"{index} does not name {', '.join(surplus[:5])}; accepted: an index of all tensors"
        )
    return LazyTensors(readers, str(index), shapes), tuple(index.parent / shard for shard in files)
