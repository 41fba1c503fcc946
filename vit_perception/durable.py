"""Files that are whole or not there, whatever ends the process or fills the disk."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 1 << 20


def sync(path: Path) -> None:
    """Have the content of a file, or the renames in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, and give it that name when it is on the disk.

    Raises what ``write`` raises, or OSError, with nothing left behind, where it does not fit.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        sync(partial)
        # safetensors makes files that only their owner may read; a node often runs as somebody else.
        umask = os.umask(0)
        os.umask(umask)
        with suppress(PermissionError):  # some network and USB file systems allow everything but this
            partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def ends_digest(path: Path) -> str:
    """SHA-256 of a file's first and last MiB: tells recordings apart without reading terabytes."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with open(path, "rb") as file:
        digest.update(file.read(BLOCK_BYTES))
        file.seek(max(0, size - BLOCK_BYTES))
        digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()
