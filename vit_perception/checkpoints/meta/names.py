"""What Meta's own files have in common: prefixes of training checkpoints, and sizes from shapes."""

import re
from dataclasses import replace
from functools import partial

from vit_perception.checkpoints.family import without_prefix
from vit_perception.checkpoints.files.contents import LazyTensors
from vit_perception.checkpoints.files.opened import Found

PREFIXES = ("module.backbone.", "backbone.", "module.")
# Training splits the blocks among processes; the index in front is the process's.
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+\.)")


def bare_name(name: str) -> str:
    """A training checkpoint's name as released weights have it."""
    return _CHUNKED.sub(r"blocks.\1", without_prefix(name, PREFIXES))


def bare(found: Found) -> Found:
    """``found`` with :func:`bare_name`; where two names become one, the file's own are kept."""
    names = {bare_name(name): name for name in found.tensors}
    if len(names) != len(found.tensors):
        return found
    return replace(
        found,
        tensors=LazyTensors(
            {new: partial(found.tensors.__getitem__, name) for new, name in names.items()},
            str(found.path),
        ),
    )


def spelled(found: Found, key_map: dict) -> dict:
    """``key_map`` by the names that the file uses."""
    return {name: key_map[bare_name(name)] for name in found.tensors if bare_name(name) in key_map}


def unused_names(*patterns: str) -> tuple[str, ...]:
    """``patterns`` behind each of the prefixes that a file may have."""
    return tuple(f"{prefix}{pattern}" for prefix in ("", *PREFIXES) for pattern in patterns)
