"""Message classes by their names in a recording, which may name anything: only installed interfaces
are imported.

A package counts as one where the ament index says so, and is imported only from the prefix whose
index says it, never from the folder that the command was started in.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import rclpy

from vit_perception.recordings.reader import BagError

INDEX = "share/ament_index/resource_index/rosidl_interfaces"
LONGEST_NAME = 255
_NAME = re.compile(r"(?P<package>[a-z][a-z0-9]*(_[a-z0-9]+)*)/msg/(?P<message>[A-Z][A-Za-z0-9]*)")
_SHOWN = 80


def message_class(type_name: str) -> type:
    """The Python class of e.g. ``sensor_msgs/msg/Image``.

    Raises BagError where ``type_name`` is no name of a message, or its package is no installed
    interface package with such a message; then nothing was imported.
    """
    match = _NAME.fullmatch(type_name) if len(type_name) <= LONGEST_NAME else None
    if match is None:
        raise BagError(
            f"message type {type_name[:_SHOWN]!r} is no name of a message; accepted: "
            "package/msg/Name"
        )
    package, message = match["package"], match["message"]
    prefixes = [
        prefix for prefix in _prefixes() if f"msg/{message}" in _listed(prefix / INDEX / package)
    ]
    if not prefixes:
        raise BagError(
            f"message type {type_name} is not installed here; accepted: one that the ament index "
            "has "
            "(AMENT_PREFIX_PATH)"
        )
    with _without_current_folder():
        try:
            spec = find_spec(package)  # of a package at the top this imports nothing
        except (ImportError, ValueError):
            spec = None
        if (
            spec is None
            or not spec.origin
            or not any(_is_below(Path(spec.origin), prefix) for prefix in prefixes)
        ):
            found = spec.origin if spec and spec.origin else "nowhere"
            raise BagError(
                f"message type {type_name} is installed in {prefixes[0]}, and Python finds "
                f"{package} "
                f"{found}; accepted: a shell in which that installation was sourced"
            )
        try:
            return getattr(importlib.import_module(f"{package}.msg"), message)
        except (ImportError, AttributeError) as error:
            raise BagError(
                f"message type {type_name} is not whole in {prefixes[0]}: {error}; accepted: an "
                "installation with its Python modules"
            ) from error


def _prefixes() -> Iterator[Path]:
    """The folders that ROS packages are installed in: what was sourced, then where rclpy itself
    is.
    """
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if os.path.isabs(prefix):
            yield Path(prefix)
    for folder in Path(rclpy.__file__).parents:
        if (folder / INDEX).is_dir():
            yield folder
            return


def _listed(resource: Path) -> set[str]:
    """What the index says of one package, without the endings of the files."""
    try:
        return {
            line.strip().rpartition(".")[0] for line in resource.read_text("utf-8").splitlines()
        }
    except (OSError, ValueError):
        return set()


def _is_below(path: Path, folder: Path) -> bool:
    # What is linked into a prefix counts as in it, and so does what a prefix that is a link leads
    # to.
    return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """``python -m`` puts the current folder first, where anybody's files may lie."""
    before = list(sys.path)
    here = os.path.realpath(os.curdir)
    sys.path[:] = [entry for entry in before if entry and os.path.realpath(entry) != here]
    try:
        yield
    finally:
        sys.path[:] = before
