"""The user's cache: engines run its files, so only this user and root may have written them.

A cache folder or file that belongs to somebody else, that group or world may write, or that is a
link, is refused with a remedy; nothing is deleted. Checks run on opened descriptors, from the root
of the file system down. Only this user and root can change what passes, so its files may then be
opened by name.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vit_perception.files.atomic import NotPlain, kind_of, open_plain
from vit_perception.files.errors import OperationFailed

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ELSEWHERE = "or point XDG_CACHE_HOME to a folder that is yours alone"


@dataclass(frozen=True)
class _Place:
    """Words of error messages about one kind of place."""

    above: str  # the folders above it
    inside: str  # the files in it
    elsewhere: str  # the other remedy


_CACHE = _Place("above the cache", "in the cache", ELSEWHERE)
_OUTSIDE = _Place("above an engine", "as an engine", "or copy it to a folder that is yours alone")


class Untrusted(OperationFailed):
    """Somebody else may have written a file; the message names it, the cause and the remedy."""


def cache_root() -> Path:
    """Return ``$XDG_CACHE_HOME/vit_perception``, by default in ``~/.cache`` (XDG base directories).

    Not the library `platformdirs` (4.14): it ignores ``XDG_CACHE_HOME=~/cache``, which launch files
    and systemd units pass on unexpanded, so caches would move.
    """
    named = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "vit_perception"


@contextmanager
def opened_folder(folder: Path, make: bool = False) -> Iterator[int]:
    """Open a cache folder that only this user and root can change or move; yield its descriptor.

    ``make`` creates missing folders, private (0700). The user's own folders that others may read
    become 0700.

    Raises:
        Untrusted: somebody else can change it.
        OSError: it is missing or cannot be created or read.
    """
    folder = Path(os.path.abspath(folder))
    root = cache_root()
    own = (
        folder.relative_to(root.parent) if root in (folder, *folder.parents) else Path(folder.name)
    )
    # The user's folders above may be links, for example to a larger disk; the cache's may not.
    above = Path(os.path.realpath(folder.parents[len(own.parts) - 1]))
    descriptor = _descend(above, _CACHE, make)
    try:
        for part in own.parts:
            above /= part
            entered = _enter(descriptor, part, _READ, make)
            os.close(descriptor)
            descriptor = entered
            _check_own(above, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a private cache folder, or check the existing one; see :func:`opened_folder`."""
    with opened_folder(folder, make=True):
        pass


@contextmanager
def opened_file(name: str, folder: int, where: Path) -> Iterator[BinaryIO]:
    """Open a file of the opened ``folder`` (its path is ``where``).

    Raises:
        Untrusted: others than this user and root may have written it.
        OSError: it is missing or cannot be read.
    """
    descriptor = _open_checked(name, folder, where / name)
    with open(descriptor, "rb") as file:
        yield file


@contextmanager
def opened_outside(path: Path) -> Iterator[BinaryIO]:
    """Open a file outside the cache with the same trust, such as an engine copied to this machine.

    Folders above it may be links; none is changed.

    Raises:
        Untrusted: others than this user and root may have written or replaced it.
        OSError: it is missing or cannot be read.
    """
    path = Path(os.path.abspath(path))
    descriptor = _descend(Path(os.path.realpath(path.parent)), _OUTSIDE, make=False)
    try:
        file = open(_open_checked(path.name, descriptor, path, _OUTSIDE), "rb")  # noqa: SIM115
    finally:
        os.close(descriptor)
    with file:
        yield file


def check_files(folder: int, where: Path) -> list[str]:
    """Return the file names in the opened ``folder``, each checked as by :func:`opened_file`."""
    names = sorted(os.listdir(folder))
    for name in names:
        os.close(_open_checked(name, folder, where / name))
    return names


def _descend(folder: Path, place: _Place, make: bool) -> int:
    """Open ``folder``, after checking it and every folder above it, from the root down."""
    at = Path("/")
    descriptor = os.open(at, _LOOK)
    try:
        _check_above(at, descriptor, place)
        for part in folder.parts[1:]:
            at /= part
            entered = _enter(descriptor, part, _LOOK, make)
            os.close(descriptor)
            descriptor = entered
            _check_above(at, descriptor, place)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_checked(name: str, folder: int, path: Path, place: _Place = _CACHE) -> int:
    try:
        descriptor = open_plain(name, folder=folder)
    except NotPlain as error:
        raise Untrusted(
            f"{path} is {kind_of(name, folder) or 'no file'}; accepted {place.inside}: files; "
            f"remove it, {place.elsewhere}"
        ) from error
    try:
        _check(path, os.fstat(descriptor), place)
        if os.fstat(descriptor).st_nlink > 1:
            raise Untrusted(
                f"{path} has a second name (a hard link), through which it can be changed; "
                f"accepted {place.inside}: files of one name; remove it, {place.elsewhere}"
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _enter(folder: int, part: str, flags: int, make: bool) -> int:
    """Open the folder ``part`` of ``folder``, created if missing and ``make`` is set."""
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, FOLDER_MODE, dir_fd=folder)
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        error.filename = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), part)
        if kind_of(part, folder) == "a symbolic link":
            raise Untrusted(
                f"{error.filename} is a symbolic link; accepted in the cache: folders; remove it, "
                f"{ELSEWHERE}"
            ) from error
        raise


def _check_above(path: Path, descriptor: int, place: _Place) -> None:
    """Check a folder above the cache: whoever may rename in it could replace the cache."""
    status = os.fstat(descriptor)
    if status.st_uid not in (*_trusted_users(), *_unmapped_root()):
        raise Untrusted(
            f"{path}, {place.above}, belongs to {_user(status.st_uid)}; accepted: folders of yours "
            f"or of root; {place.elsewhere.removeprefix('or ')}"
        )
    if status.st_mode & stat.S_ISVTX:  # as in /tmp: nobody else renames what is ours
        return
    if status.st_mode & stat.S_IWOTH or (
        status.st_mode & stat.S_IWGRP and not _is_users_own_group(status.st_gid)
    ):
        raise Untrusted(
            f"{path}, {place.above}, may be written by others; accepted: folders that only you and "
            f"root may write; chmod go-w {path}, {place.elsewhere}"
        )


def _check_own(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    _check(path, status)
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        with suppress(OSError):  # a read-only image: what others may read there they have read
            os.fchmod(descriptor, FOLDER_MODE)


def _check(path: Path, status: os.stat_result, place: _Place = _CACHE) -> None:
    if status.st_uid not in _trusted_users():
        raise Untrusted(
            f"{path} belongs to {_user(status.st_uid)}; accepted {place.inside}: what belongs to "
            f"you or to root; chown it or remove it, {place.elsewhere}"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise Untrusted(
            f"{path} may be written by others (mode {stat.S_IMODE(status.st_mode):04o}); accepted "
            f"{place.inside}: what only you and root may write; remove it or, where you trust its "
            f"content, chmod go-w {path}, {place.elsewhere}"
        )


def _trusted_users() -> tuple[int, int]:
    return os.geteuid(), 0


def _unmapped_root() -> tuple[int, ...]:
    """Return the user that stands for root in a container that maps no root."""
    try:
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if any(int(first) == 0 for first, _, _ in mapped):
            return ()
        return (int(Path("/proc/sys/kernel/overflowuid").read_text()),)
    except (OSError, ValueError):
        return ()


def _is_users_own_group(gid: int) -> bool:
    """Whether this user is the group's only member, as on Debian and Ubuntu by default."""
    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return (
        user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    )


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
