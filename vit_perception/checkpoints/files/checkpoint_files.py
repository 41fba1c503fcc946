"""The files of a checkpoint: the weights, and the files next to them that describe them."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.contents import Contents, LazyTensors, shape_of
from vit_perception.checkpoints.files.formats import SUFFIXES, read_contents
from vit_perception.checkpoints.files.left_out import no_tensor, shards_left_out
from vit_perception.config.by_hand import ByHand
from vit_perception.files.regular_files import IrregularFile, check_regular, read_text_bounded
from vit_perception.files.safetensors_header import MOST_TENSORS

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
# In the order of preference if a folder holds several.
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
_INDEX = ".index.json"
# The largest open models are in some two hundred.
_MOST_SHARDS = 500
# Of a folder's names: that many are looked at, and that many shown.
_MOST_LISTED = 10_000
_SHOWN = 20


@dataclass(frozen=True, eq=False)
class CheckpointFiles:
    """An opened checkpoint, before its family is known."""

    # The weights file, or the index of a sharded one.
    path: Path
    # For the model card.
    name: str
    source: str
    # Under the file's own names; read when they are used.
    tensors: Mapping[str, Tensor]
    # All files of weights.
    weights_files: tuple[Path, ...] = ()
    # The texts in the weights file, by name.
    metadata: Mapping[str, str] = field(default_factory=dict)
    # The JSON files next to the weights; None for a missing one.
    config: dict[str, Any] | None = None
    preprocessor: dict[str, Any] | None = None
    # What the user gives of the preprocessing; None where that is not possible.
    by_hand: ByHand | None = None

    @property
    def folder(self) -> Path:
        """The folder of ``path``."""
        return self.path.parent

    @property
    def suffix(self) -> str:
        """The suffix of the weights file, ``.safetensors`` for a sharded one."""
        return (*self.weights_files, self.path)[0].suffix

    def has(self, *names: str) -> bool:
        """Tell whether the file holds all of ``names``."""
        return all(name in self.tensors for name in names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor.

        Raises:
            CheckpointError: The file has no tensor of that name.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.path} has no tensor {name}; accepted: a whole checkpoint")
        return shape_of(self.tensors, name)

    def count(self, prefix: str) -> int:
        """Count numbered parts without a gap: 12 for ``blocks.0.…`` to ``blocks.11.…``."""
        rests = (name[len(prefix) :] for name in self.tensors if name.startswith(prefix))
        numbers = {rest.split(".", 1)[0] for rest in rests}
        return next(index for index in range(len(numbers) + 1) if str(index) not in numbers)


def open_files(path: Path, name: str, source: str) -> CheckpointFiles:
    """Open a weights file or the index of a sharded one, and read the JSON files next to it.

    Raises:
        CheckpointError: A file cannot be used.
    """
    folder = path.parent
    config = optional_json(folder / CONFIG_FILE, "the model's sizes")
    if path.name.endswith(_INDEX):
        weights_files, contents = _open_shards(path, config)
    else:
        weights_files = (path,)
        contents = read_contents(path)
    return CheckpointFiles(
        path=path,
        name=name,
        source=source,
        tensors=contents.tensors,
        weights_files=weights_files,
        metadata=contents.metadata,
        config=config,
        preprocessor=optional_json(folder / PREPROCESSOR_FILE, "the model's preprocessing"),
    )


def weights_in(folder: Path) -> Path:
    """Find the weights file of a folder: one of ``WEIGHTS_FILES``, or its only file of weights.

    Raises:
        CheckpointError: There is none, or several of other names.
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
    """Tell whether a file exists.

    Raises:
        CheckpointError: It is no regular file, or a link to nothing.
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
    """Read the object in a JSON file.

    Raises:
        CheckpointError: It cannot be read; the error says what it ``holds``.
    """
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
    """Read as :func:`read_json`; give None if there is no such file."""
    return read_json(path, holds) if is_there(path) else None


def unneeded_shards(folder: Path) -> frozenset[str]:
    """Name the shards of a policy's folder that hold no part of its encoder, by config.json and the
    index; none without an index.

    Raises:
        CheckpointError: One of the two cannot be read.
    """
    for name in WEIGHTS_FILES:
        if name.endswith(_INDEX) and is_there(folder / name):
            config = optional_json(folder / CONFIG_FILE, "the model's sizes")
            return shards_left_out(config, _weight_map(folder / name))
    return frozenset()


def _open_shards(
    index: Path, config: Mapping[str, Any] | None
) -> tuple[tuple[Path, ...], Contents]:
    """Open a checkpoint in several files, by its index's ``weight_map``: tensor -> file."""
    shard_of = _weight_map(index)
    unneeded = shards_left_out(config, shard_of)
    shards: dict[str, Mapping[str, Tensor]] = {}
    for shard in sorted(set(shard_of.values())):
        path = index.parent / shard
        if Path(shard).name != shard or "\0" in shard or path.suffix not in SUFFIXES:
            raise CheckpointError(
                f"weight_map in {index} names the file {shard[:100]!r}; accepted: weights files "
                "beside it"
            )
        if not is_there(path):
            if shard in unneeded:
                continue
            raise CheckpointError(
                f"{index.parent}: no file {shard}, which {index.name} names; accepted: all shards"
            )
        shards[shard] = read_contents(path).tensors
    readers: dict[str, Callable[[], Tensor]] = {}
    shapes = {}
    for name, shard in shard_of.items():
        if shard not in shards:  # its names are known all the same: an adapter's among them
            readers[name] = partial(no_tensor, shard)
            continue
        if name not in shards[shard]:
            raise CheckpointError(
                f"{index.parent / shard} has no tensor {name}, which {index.name} places there"
            )
        readers[name] = partial(shards[shard].__getitem__, name)
        shapes[name] = shape_of(shards[shard], name)
    surplus = [
        f"{name} in {shard}"
        for shard, held in shards.items()
        for name in held
        if shard_of.get(name) != shard
    ]
    if surplus:
        raise CheckpointError(
            f"{index} does not name {', '.join(surplus[:5])}; accepted: an index of all tensors"
        )
    paths = tuple(index.parent / shard for shard in shards)
    return paths, Contents(LazyTensors(readers, str(index), shapes))


def _weight_map(index: Path) -> dict[str, str]:
    given = read_json(index, "weight_map").get("weight_map")
    is_map = isinstance(given, dict) and all(isinstance(shard, str) for shard in given.values())
    if not is_map or not given:
        raise CheckpointError(
            f"weight_map in {index} is {str(given)[:80]!r}; accepted: each tensor's name and its "
            "file"
        )
    count = len(set(given.values()))
    if len(given) > MOST_TENSORS or count > _MOST_SHARDS:
        raise CheckpointError(
            f"weight_map in {index} names {len(given)} tensors in {count} files; accepted: up to "
            f"{MOST_TENSORS} tensors in {_MOST_SHARDS} files"
        )
    return given
