"""What Meta's own files share: prefixes of training checkpoints, and sizes from shapes."""

import re
from dataclasses import replace
from functools import partial

from vit_perception.checkpoints.defaults import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
)
from vit_perception.checkpoints.family import KeyMap, without_prefix
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.contents import LazyTensors

PREFIXES = ("module.backbone.", "backbone.", "module.")
# DINO's and DINOv2's evaluation transform.
EVALUATION = Preprocessing(centre_crop(224, 256), IMAGENET_MEAN, IMAGENET_STD)
# Training splits the blocks among processes; the first index is the process's.
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+\.)")


def bare_name(name: str) -> str:
    """Turn a training checkpoint's name into that of released weights."""
    return _CHUNKED.sub(r"blocks.\1", without_prefix(name, PREFIXES))


def bare(files: CheckpointFiles) -> CheckpointFiles:
    """Rename tensors by :func:`bare_name`; if two names become one, all keep their own."""
    names = {bare_name(name): name for name in files.tensors}
    if len(names) != len(files.tensors):
        return files
    readers = {new: partial(files.tensors.__getitem__, name) for new, name in names.items()}
    return replace(files, tensors=LazyTensors(readers, str(files.path)))


def with_aliases(files: CheckpointFiles, key_map: KeyMap) -> KeyMap:
    """Give ``key_map`` by the names that the file uses."""
    bare_names = {name: bare_name(name) for name in files.tensors}
    return {name: key_map[bare] for name, bare in bare_names.items() if bare in key_map}


def unused_names(*patterns: str) -> tuple[str, ...]:
    """Put each of the prefixes that a file may use before ``patterns``."""
    return tuple(f"{prefix}{pattern}" for prefix in ("", *PREFIXES) for pattern in patterns)
