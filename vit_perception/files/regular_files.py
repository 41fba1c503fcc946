"""Files of others, opened so that nothing that lies there instead can stop the process or fill its
memory.

A name in a folder that somebody else made may be a FIFO, whose reader waits for ever, a device that
never ends, or a stand-in for the file: a Git LFS pointer, or the page that a server sent in its
place.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from vit_perception.files.errors import InvalidValue

# Enough for a text such as labels or a configuration, by far; weights have limits of their own.
MOST_TEXT_BYTES = 16 << 20
_HEAD_BYTES = 512
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# How a stand-in begins, in lower case -> what it is, and what brings the file itself.
_STAND_INS = (
    (
        (
            b"version https://git-lfs.github.com/",
            b"version https://hawser.github.com/",
            b"version http://git-media.io/",
        ),
        "a Git LFS pointer",
        "`git lfs pull` fetches it",
    ),
    (
        (b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/"),
        "a git-annex pointer",
        "`git annex get` fetches it",
    ),
    ((b"# xet version",), "a Git Xet pointer", "`git xet pull` fetches it"),
    (
        (b"<!doctype html", b"<html", b"<!-- ", b"<head"),
        "an HTML page",
        "the address that it was fetched from shows a page, perhaps to sign in",
    ),
    ((b"<?xml",), "an XML page", "the server that it was fetched from reports an error in it"),
)


class IrregularFile(InvalidValue):
    """What lies under a file's name is no file that can be read; the message names the path and
    what it is.
    """


def check_regular(path: str | Path) -> int:
    """The size in bytes of the regular file at ``path``, or at the end of a symbolic link, without
    opening it.

    For files that a library opens itself. Raises IrregularFile for a folder, FIFO, socket or
    device, and OSError (FileNotFoundError where there is nothing).
    """
    status = os.stat(path)
    _refuse_irregular(path, status)
    return status.st_size


def open_regular(path: str | Path) -> BinaryIO:
    """The regular file at ``path``, or at the end of a symbolic link, opened for reading bytes.
    Errors as above.
    """
    check_regular(path)  # opening a device can already do something to it
    # Somebody may have put a FIFO there since: without O_NONBLOCK, opening it waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _refuse_irregular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a regular file of at most ``most_bytes``. Raises IrregularFile for a longer
    one; else as above.
    """
    with open_regular(path) as file:
        # A file of /proc says that it is empty, and one that grows is longer than it said.
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise IrregularFile(
            f"{path} is longer than {most_bytes} bytes; accepted: up to {most_bytes} bytes"
        )
    return content


def read_text_bounded(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The UTF-8 text of a regular file, which is no stand-in. Raises IrregularFile, also for other
    than UTF-8.
    """
    content = read_bounded(path, most_bytes)
    _refuse_stand_in(path, content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise IrregularFile(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); accepted: UTF-8"
        ) from error


def check_itself(path: str | Path) -> int:
    """As :func:`check_regular`; also refuses a file whose first bytes say that it only stands for
    another one.
    """
    with open_regular(path) as file:
        _refuse_stand_in(path, file.read(_HEAD_BYTES))
        return os.fstat(file.fileno()).st_size


def _refuse_irregular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no file")
        raise IrregularFile(f"{path} is {kind}; accepted: a regular file")


def _refuse_stand_in(path: str | Path, content: bytes) -> None:
    head = content[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginnings, kind, remedy in _STAND_INS:
        if head.startswith(beginnings):
            raise IrregularFile(
                f"{path} is {kind}, not the file itself; accepted: the file itself ({remedy})"
            )
