"""Open other people's files so that they cannot block the process or fill its memory.

A name in such a folder may be a FIFO, whose reader waits forever, an endless device, or a stand-in
for the file: a Git LFS pointer, or a web page that a server sent instead.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vit_perception.files.errors import InvalidValue

# Ample for texts such as labels or a configuration; weights have their own limits.
MOST_TEXT_BYTES = 16 << 20
_HEAD_BYTES = 512
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _StandIn(NamedTuple):
    """A file that only stands for another one."""

    kind: str
    remedy: str  # how to get the file itself
    beginnings: tuple[bytes, ...]  # its first bytes in lower case


_LFS = (
    b"version https://git-lfs.github.com/",
    b"version https://hawser.github.com/",
    b"version http://git-media.io/",
)
_ANNEX = (b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")
_HTML = (b"<!doctype html", b"<html", b"<!-- ", b"<head")
_SIGN_IN = "the address that it was fetched from shows a page, perhaps to sign in"
_SERVER_ERROR = "the server that it was fetched from reports an error in it"
_STAND_INS = (
    _StandIn("a Git LFS pointer", "`git lfs pull` fetches it", _LFS),
    _StandIn("a git-annex pointer", "`git annex get` fetches it", _ANNEX),
    _StandIn("a Git Xet pointer", "`git xet pull` fetches it", (b"# xet version",)),
    _StandIn("an HTML page", _SIGN_IN, _HTML),
    _StandIn("an XML page", _SERVER_ERROR, (b"<?xml",)),
)


class IrregularFile(InvalidValue):
    """A path does not lead to a readable file; the message names it and what it is instead."""


def check_regular(path: str | Path) -> int:
    """Return the size in bytes of a regular file, links followed, without opening it.

    For files that a library opens itself.

    Raises:
        IrregularFile: it is a folder, FIFO, socket or device.
        OSError: it is missing or cannot be looked at.
    """
    status = os.stat(path)
    _refuse_irregular(path, status)
    return status.st_size


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, links followed, for reading bytes. Raises as :func:`check_regular`."""
    check_regular(path)  # opening a device can already have effects
    # A FIFO may have taken its place since: without O_NONBLOCK, opening it waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _refuse_irregular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """Return the content of a regular file. Raises IrregularFile above ``most_bytes``."""
    with open_regular(path) as file:
        # Files in /proc say that they are empty, and a growing file exceeds its stated size.
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise IrregularFile(
            f"{path} is longer than {most_bytes} bytes; accepted: up to {most_bytes} bytes"
        )
    return content


def read_text_bounded(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Return the UTF-8 text of a regular file. Raises IrregularFile, also for a stand-in."""
    content = read_bounded(path, most_bytes)
    _refuse_stand_in(path, content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IrregularFile(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); accepted: UTF-8"
        ) from error


def check_itself(path: str | Path) -> int:
    """As :func:`check_regular`; also refuses stand-ins, by their first bytes."""
    with open_regular(path) as file:
        _refuse_stand_in(path, file.read(_HEAD_BYTES))
        return os.fstat(file.fileno()).st_size


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no file")
        raise IrregularFile(f"{path} is {kind}; accepted: a regular file")


def _refuse_stand_in(path: str | Path, content: bytes) -> None:
    head = content[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for stand_in in _STAND_INS:
        if head.startswith(stand_in.beginnings):
            raise IrregularFile(
                f"{path} is {stand_in.kind}, not the file itself; "
                f"accepted: the file itself ({stand_in.remedy})"
            )
