"""Files of this package: complete or absent, however the process ends or the disk fills up.

Every file that the package writes is made here. The folder that the user names may be a symbolic
link. Links inside it are never followed: writing a complete file replaces a link, opening one is
refused.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from vit_perception.files.errors import InvalidValue

BLOCK_BYTES = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# An earlier version gave no random part.
_HALF_MADE = r"\.({})(\.[0-9a-f]{{16}})?\.partial"
# Results of kind_of() for paths that may be overwritten.
REPLACEABLE = ("", "a file", "a symbolic link")
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlain(OSError):
    """A path should be a file, and is a link, a pipe, a device, a folder, or has a second name."""


def sync(path: Path) -> None:
    """Make the content of a file, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(descriptor: int, wait: bool = False) -> None:
    """Lock an open file or folder until it is closed; the kernel frees it when a process dies.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is False.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def put_in_place(made: Path, path: Path) -> None:
    """Rename a finished, synced file or folder to ``path`` in one step that survives a power cut.

    A file at ``path`` is replaced; a folder must not exist there.
    """
    made.replace(path)
    sync(path.parent)


def check_new_file(path: Path, force: bool, *, argument: str) -> None:
    """Check that :func:`write_whole` can make the file ``path``, before the work for it is done.

    With ``force`` a file that is there may be replaced. ``argument`` is what the caller calls
    ``path``.

    Raises:
        InvalidValue: the folder does not exist or may not be written, or ``path`` is there.
    """
    if not path.parent.is_dir():
        raise InvalidValue(
            f" is {path}; accepted: a file in a folder that exists", argument=argument
        )
    if not os.access(path.parent, os.W_OK):
        raise InvalidValue(
            f" is {path}; accepted: a file in a folder that you may write", argument=argument
        )
    kind = kind_of(path)
    if kind not in REPLACEABLE:
        raise InvalidValue(
            f" is {path}, {kind}; accepted: a file, new or to be replaced", argument=argument
        )
    if kind and not force:
        raise InvalidValue(
            f" is {path}, which is there already; accepted: a new file",
            argument=argument,
            hint=" replaces it",
            hint_argument="force",
        )


def write_whole(path: Path, write: Callable[[Path], object], mode: int = 0o666) -> None:
    """Let ``write`` make a temporary file, sync it to disk, and rename it to ``path``.

    ``mode`` is its permissions, minus the umask. A link at ``path`` is replaced; its target stays.

    Raises:
        OSError: the file does not fit. Nothing is left; the same holds for errors of ``write``.
    """
    with whole_file(path, mode) as partial:
        write(partial)


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """As :func:`write_whole`, for files written in parts: the block gets the temporary path.

    An error in the block leaves ``path`` unchanged.

    Raises:
        NotPlain: ``path`` is a folder, a pipe or a device.
    """
    kind = kind_of(path)
    if kind not in REPLACEABLE:
        raise NotPlain(f"{path} is {kind}; accepted: a file, new or to be replaced")
    partial = _partial_name(path)
    # The name cannot be guessed and the file must be new: no other file is opened or emptied.
    held = os.open(partial, _CREATE, mode)
    try:
        with suppress(OSError):  # some network file systems have no locks
            take_lock(held)  # shows sweep() that this process is alive
        mode = stat.S_IMODE(os.fstat(held).st_mode)
        yield partial
        _finish(partial, mode)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(held)
    sync(path.parent)


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def working_folder(path: Path) -> Path:
    """Create a private folder next to ``path`` for its parts; :func:`sweep` knows its name."""
    folder = _partial_name(path)
    folder.mkdir(mode=0o700)
    return folder


def _finish(partial: Path, mode: int) -> None:
    """Sync the file at ``partial``; a library such as safetensors may have replaced it."""
    descriptor = open_plain(partial)
    try:
        # Some network and USB file systems refuse only this.
        with suppress(PermissionError):
            # safetensors makes files that only their owner may read; nodes often run as others.
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: str) -> None:
    """Delete unfinished files that killed processes of this user left in ``folder``.

    ``names`` is a pattern of the finished files' names. Links, files of other users, files with a
    second name, and files still being written stay.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if is_half_made(path, names):
            with suppress(OSError):
                _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid():
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        descriptor = open_plain(path)
        try:
            take_lock(descriptor)
            path.unlink()
        finally:
            os.close(descriptor)


def is_half_made(path: Path, names: str) -> bool:
    """Whether ``path`` has the name of an unfinished file, as :func:`sweep` looks for."""
    return bool(re.fullmatch(_HALF_MADE.format(names), path.name)) and not path.is_symlink()


def fresh_file(path: Path) -> TextIO:
    """Create a text file that others can read while it grows, replacing an existing file.

    Raises:
        NotPlain: ``path`` is a link, a folder, a pipe or a device.
        OSError: it cannot be created.
    """
    kind = kind_of(path)
    if kind not in ("", "a file"):
        raise NotPlain(f"{path} is {kind}; accepted: a file, new or to be replaced")
    path.unlink(missing_ok=True)
    return open(os.open(path, _CREATE, 0o666), "w", encoding="utf-8", buffering=1)


def open_plain(
    path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o666, folder: int | None = None
) -> int:
    """Open a file, never something else, and return its descriptor. It does not wait for a pipe.

    ``folder`` is a descriptor that ``path`` is relative to.

    Raises:
        NotPlain: it is a link, a pipe, a device, a folder, or, to be written, has a hard link.
        OSError: as os.open does.
    """
    safe = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, safe, mode, dir_fd=folder)
    except OSError as error:
        kind = kind_of(path, folder)
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR) and kind:
            raise NotPlain(f"{path} is {kind}; accepted: a file") from error
        raise
    status = os.fstat(descriptor)
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    if stat.S_ISREG(status.st_mode) and not (writes and status.st_nlink > 1):
        return descriptor
    os.close(descriptor)
    kind = kind_of(path, folder)
    kind = "a file with a second name (a hard link)" if kind == "a file" else kind
    raise NotPlain(f"{path} is {kind}; accepted: a file of its own")


def read_plain(path: Path) -> str:
    """Return the UTF-8 text of a file. Raises as :func:`open_plain`, and UnicodeDecodeError."""
    with open(open_plain(path), encoding="utf-8") as file:
        return file.read()


def kind_of(path: Path | str, folder: int | None = None) -> str:
    """Return "a file", "a symbolic link" (not followed), ...; "" if nothing is there."""
    try:
        mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return ""
    return next((name for test, name in _KINDS if test(mode)), "a file")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file in hex."""
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def ends_digest(path: Path) -> str:
    """Hash a file's first and last MiB: tells recordings apart without reading terabytes."""
    with open(path, "rb") as file:
        return ends_digest_of(file, path.stat().st_size)


def ends_digest_of(file: BinaryIO, size_bytes: int) -> str:
    """As :func:`ends_digest`, of an open file, which may be on object storage."""
    digest = hashlib.sha256()
    digest.update(file.read(BLOCK_BYTES))
    file.seek(max(0, size_bytes - BLOCK_BYTES))
    digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()
