"""What every storage folder can do, and the rules for names of files in it.

A folder is on local disk or on object storage. :func:`vit_perception.files.storage.urls.folder_of`
opens either. The objects can be pickled: a worker process opens its own connection.
"""

from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from vit_perception.files.errors import InvalidValue, OperationFailed, shown

# A listing of more files than this is refused, so that a wrong prefix cannot fill the memory.
MOST_FILES = 1_000_000
MOST_NAME_BYTES = 1024  # the limit of S3 for a key


class StorageError(OperationFailed):
    """The storage did not do what was asked; the message names the file, the answer, the remedy."""


class FileChanged(StorageError):
    """A file was written again while it was read."""


class StoredFile(NamedTuple):
    """One file of a folder."""

    # Relative to the folder; parts are joined by "/".
    name: str
    size_bytes: int


class StorageFolder(Protocol):
    """A folder of files. A reader sees a committed file completely or not at all.

    Names are relative to the folder and may have several parts, ``commits/000001.json``.

    Every method raises StorageError, or for a local folder also OSError, if the storage fails.
    """

    @property
    def url(self) -> str:
        """What messages call the folder: a path, or a URL without credentials."""

    def below(self, name: str) -> "StorageFolder":
        """Return the folder ``name`` in this one. Nothing is created."""

    def files(self) -> list[StoredFile]:
        """List all files here and in folders below, by name; [] if there is no such folder.

        Raises:
            StorageError: There are more than ``MOST_FILES``.
        """

    def find(self, name: str) -> StoredFile | None:
        """Return the file, None if there is none."""

    def tag(self, name: str) -> str:
        """Return a text that changes when the file is written again: the ETag of object storage.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading at any position. On object storage each read is a request.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def read(self, name: str, most_bytes: int) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: There is no such file.
            StorageError: It is longer than ``most_bytes``.
        """

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to the new local file ``path``, which is complete or absent.

        Memory: one block of 8 MiB.

        Raises:
            FileNotFoundError: There is no such file.
            FileChanged: It was written again in the meantime.
        """

    def commit(self, made: Path, name: str) -> StoredFile:
        """Put the finished local file ``made`` under ``name`` in one atomic step, and remove it.

        A file that is there is replaced. After an error it is as it was before, and ``made`` is
        still there, so the same call can be made again.
        """

    def commit_bytes(self, content: bytes, name: str) -> StoredFile:
        """As :meth:`commit`, for a small file whose content is in memory."""

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens if there is none."""


def checked_name(name: str) -> str:
    """Return ``name`` if it can be a file's name on every storage.

    Raises:
        InvalidValue: It cannot.
    """
    parts = name.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or not name.isprintable()
    if bad or "\\" in name or len(name.encode("utf-8", "replace")) > MOST_NAME_BYTES:
        raise InvalidValue(
            f"{shown(name)} is no name of a file in a folder; accepted: parts joined by /, none of "
            f"them empty, . or .., up to {MOST_NAME_BYTES} bytes in all"
        )
    return name
