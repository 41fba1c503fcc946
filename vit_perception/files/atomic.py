"""Files that are whole or not there, whatever ends the process or fills the disk, and that lie
where their name says.

Every file that this package writes is made here. The folder that the user names may be a symbolic
link. A link that lies in it is never followed: a file that is written whole takes its place, and
one that is opened is refused.
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

BLOCK_BYTES = 1 << 20
# An earlier version gave no random part.
_HALF_MADE = r"\.({})(\.[0-9a-f]{{16}})?\.partial"
# What kind_of() says of a path that a whole file may be given to.
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
    """What has the name of a file is none: a link, a pipe, a device, a folder, or a file with a
    second name.
    """


def sync(path: Path) -> None:
    """Have the content of a file, or the renames in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], object], mode: int = 0o666) -> None:
    """Let ``write`` make a temporary file beside ``path``, and give it that name when it is on the
    disk.

    ``mode`` is what its users may do, less the umask. A link at ``path`` is replaced, and its
    target stays. Raises what ``write`` raises, or OSError, with nothing left behind, where it does
    not fit.
    """
    with whole_file(path, mode) as partial:
        write(partial)


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """As :func:`write_whole`, for a file that is written bit by bit: the block gets the temporary
    file's path.

    An error in the block leaves ``path`` as it was. Raises NotPlain where ``path`` is a folder, a
    pipe or a device.
    """
    kind = kind_of(path)
    if kind not in REPLACEABLE:
        raise NotPlain(f"{path} is {kind}; accepted: a file, new or to be replaced")
    partial = _partial_name(path)
    # A name that nobody can guess, and a file that was not there: nothing else is ever opened or
    # emptied.
    held = os.open(
        partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(held, fcntl.LOCK_EX)  # tells sweep() that this process lives
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
    """A new folder beside ``path`` for what ``path`` is made of, for this user alone; :func:`sweep`
    knows its name.
    """
    folder = _partial_name(path)
    folder.mkdir(mode=0o700)
    return folder


def _finish(partial: Path, mode: int) -> None:
    """Sync what lies there now: a library may have put a file of its own there, such as
    safetensors.
    """
    descriptor = open_plain(partial)
    try:
        # safetensors makes files that only their owner may read; a node often runs as somebody
        # else.
        with suppress(
            PermissionError
        ):  # some network and USB file systems allow everything but this
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: str) -> None:
    """Remove what killed processes of this user left half made in ``folder`` of files named as the
    pattern ``names``.

    What has another name, another owner, a second name or is a link stays, and so does what a
    process still writes.
    """
    pattern = re.compile(_HALF_MADE.format(names))
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if not pattern.fullmatch(path.name):
            continue
        with suppress(OSError):
            status = path.lstat()
            if status.st_uid != os.geteuid():
                continue
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(path)
            elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                descriptor = open_plain(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)


def is_half_made(path: Path, names: str) -> bool:
    """Whether :func:`sweep` would look at ``path``, by its name."""
    return bool(re.fullmatch(_HALF_MADE.format(names), path.name)) and not path.is_symlink()


def fresh_file(path: Path) -> TextIO:
    """A new text file that others read while it grows, line by line. A file that was there is gone.

    Raises NotPlain for a link, a folder, a pipe or a device, OSError where it cannot be made.
    """
    kind = kind_of(path)
    if kind not in ("", "a file"):
        raise NotPlain(f"{path} is {kind}; accepted: a file, new or to be replaced")
    path.unlink(missing_ok=True)
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    return open(descriptor, "w", encoding="utf-8", buffering=1)


def open_plain(
    path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o666, folder: int | None = None
) -> int:
    """A descriptor of a file that is none but this one; ``folder`` is a descriptor that ``path`` is
    relative to.

    Raises NotPlain for a link, a pipe, a device or a folder, and for writing to a file that has a
    second name (a hard link); OSError as os.open does. A pipe is not waited for.
    """
    try:
        descriptor = os.open(
            path,
            flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
            mode,
            dir_fd=folder,
        )
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
    raise NotPlain(
        f"{path} is {'a file with a second name (a hard link)' if kind == 'a file' else kind}; "
        "accepted: a file of its own"
    )


def read_plain(path: Path) -> str:
    """The text (UTF-8) of a file that is none but this one. Raises as :func:`open_plain`,
    UnicodeDecodeError.
    """
    with open(open_plain(path), encoding="utf-8") as file:
        return file.read()


def kind_of(path: Path | str, folder: int | None = None) -> str:
    """What ``path`` is, links not followed: "a file", "a symbolic link", ..., "" where there is
    nothing.
    """
    try:
        mode = os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return ""
    return next((name for test, name in _KINDS if test(mode)), "a file")


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, made where it is missing, never emptied; the kernel frees it
    when the process dies.

    Where another process holds it, ``waiting`` is called once and this one waits; without
    ``waiting`` BlockingIOError is raised. Raises NotPlain where ``path`` is no file of its own.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of what is still to be read of ``file``, as hexadecimal digits."""
    digest = hashlib.sha256()
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
