"""The user's cache: files there are run by engines, so they are used only where nobody else can
have put them.

Nobody else is: everyone but this user and root. A folder or file in the cache that belongs to
somebody else, that group or world may write, or that is a link, is refused with the way to mend it;
nothing is deleted. Checks are made on opened descriptors, from the root of the file system down.
What passes can be changed by this user and root alone, so its files may then be opened by name.
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

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ELSEWHERE = "or point XDG_CACHE_HOME to a folder that is yours alone"


@dataclass(frozen=True)
class _Place:
    """How messages speak of where a file lies: folders ``above``, what is accepted ``inside``, the
    other way out.
    """

    above: str
    inside: str
    elsewhere: str


_CACHE = _Place("above the cache", "in the cache", ELSEWHERE)
_OUTSIDE = _Place("above an engine", "as an engine", "or copy it to a folder that is yours alone")


class Untrusted(OperationFailed):
    """Somebody else may have written what lies in the cache; the message names it, the cause and
    the cure.
    """


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/vit_perception``, or the same below ``~/.cache`` (XDG base directories)."""
    named = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "vit_perception"


@contextmanager
def opened_folder(folder: Path, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder of the cache, every part of whose path only this user and root can
    change.

    With ``make`` what is missing is made, for this user alone (0700). A folder of this user's that
    others may read, not write, is made 0700. Raises Untrusted, FileNotFoundError, and OSError where
    it cannot be made or read.
    """
    folder = Path(os.path.abspath(folder))
    root = cache_root()
    own = (
        folder.relative_to(root.parent) if root in (folder, *folder.parents) else Path(folder.name)
    )
    # The user's own folders above may be links, to a larger disk say; those of the cache may not.
    above = Path(os.path.realpath(folder.parents[len(own.parts) - 1]))
    descriptor, at = os.open("/", _LOOK), Path("/")
    try:
        _check_above(at, descriptor)
        for part in above.parts[1:]:
            entered, at = _enter(descriptor, part, _LOOK, make), at / part
            os.close(descriptor)
            descriptor = entered
            _check_above(at, descriptor)
        for part in own.parts:
            entered, at = _enter(descriptor, part, _READ, make), at / part
            os.close(descriptor)
            descriptor = entered
            _check_own(at, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder of the cache, for this user alone, or check the one that is there; see
    :func:`opened_folder`.
    """
    with opened_folder(folder, make=True):
        pass


@contextmanager
def opened_file(name: str, folder: int, where: Path) -> Iterator[BinaryIO]:
    """A file of the opened ``folder``, which only this user and root can have written; ``where`` is
    that folder's path.

    Raises Untrusted, and OSError where it is missing or cannot be read.
    """
    descriptor = _open_checked(name, folder, where / name)
    with open(descriptor, "rb") as file:
        yield file


@contextmanager
def opened_outside(path: Path) -> Iterator[BinaryIO]:
    """A file outside the cache that is as trusted as one in it, such as an engine that was carried
    to this machine.

    Only this user and root can have written it, or put another in its place. The folders above may
    be links; none of them is changed. Raises Untrusted, and OSError where it is missing or cannot
    be read.
    """
    path = Path(os.path.abspath(path))
    descriptor, at = os.open("/", _LOOK), Path("/")
    try:
        _check_above(at, descriptor, _OUTSIDE)
        for part in Path(os.path.realpath(path.parent)).parts[1:]:
            entered, at = _enter(descriptor, part, _LOOK, make=False), at / part
            os.close(descriptor)
            descriptor = entered
            _check_above(at, descriptor, _OUTSIDE)
        file = open(_open_checked(path.name, descriptor, path, _OUTSIDE), "rb")  # noqa: SIM115
    finally:
        os.close(descriptor)
    with file:
        yield file


def check_files(folder: int, where: Path) -> list[str]:
    """The names of what lies in the opened ``folder``, every one a file as :func:`opened_file`
    wants it. Untrusted.
    """
    names = sorted(os.listdir(folder))
    for name in names:
        os.close(_open_checked(name, folder, where / name))
    return names


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
    """A descriptor of the folder ``part`` of ``folder``; made where it is missing and ``make`` says
    so.
    """
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


def _check_above(path: Path, descriptor: int, place: _Place = _CACHE) -> None:
    """A folder above the cache: whoever may rename in it could put another cache in its place."""
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
    """Who stands for root in a container that has only this user: the kernel shows all others as
    one.
    """
    try:
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if any(int(first) == 0 for first, _, _ in mapped):
            return ()
        return (int(Path("/proc/sys/kernel/overflowuid").read_text()),)
    except (OSError, ValueError):
        return ()


def _is_users_own_group(gid: int) -> bool:
    """Whether the group has this user alone, as each user's first group on Debian and Ubuntu."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
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
