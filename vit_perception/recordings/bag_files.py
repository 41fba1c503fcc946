"""The files of a recording. Each is opened for one pass: a bag may have more than can be open."""

import os
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from vit_perception.files.regular_files import open_regular
from vit_perception.recordings.bag_folder import BagFolder, read_folder
from vit_perception.recordings.kind import MCAP_MAGIC
from vit_perception.recordings.mcap.file import McapFile
from vit_perception.recordings.sqlite_file import SQLITE_MAGIC, SqliteFile
from vit_perception.recordings.storage import (
    StoredMessage,
    Summary,
    Unreadable,
    most_unpacked,
    shown,
)
from vit_perception.recordings.unpacking import named_briefly, unpacked_file

STORAGE = {".mcap": "mcap", ".db3": "sqlite3"}
_MAGIC = {"mcap": MCAP_MAGIC, "sqlite3": SQLITE_MAGIC}


class OpenFile(Protocol):
    """One file while it is read."""

    summary: Summary

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[StoredMessage]:
        """Yield messages of the channels ``wanted`` from ``start_ns`` until before ``stop_ns``."""


class PlainFile:
    """A file of ``storage`` mcap or sqlite3, as it is on the disk."""

    def __init__(self, path: Path, storage: str):
        self.path = path
        self._storage = storage

    @contextmanager
    def opened(self) -> Iterator[OpenFile]:
        """Open the file for one pass.

        Raises:
            Unreadable, InvalidValue, OSError: it cannot be read.
        """
        if self._storage == "mcap":
            with open_regular(self.path) as file:
                yield McapFile(file)
        else:
            with open_regular(self.path) as file:
                if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
                    raise Unreadable("it is no SQLite database")
            with closing(SqliteFile(self.path)) as file:
                yield file

    def close(self) -> None:
        """Nothing is kept open."""


class PackedFile:
    """A file that is packed as a whole, unpacked once into a temporary file without a name.

    Raises:
        Unreadable: it unpacks to more than ``left_bytes``, or is damaged.
    """

    def __init__(self, path: Path, storage: str, left_bytes: int):
        self.path = path
        log = path.with_name(path.stem + "-wal")
        if storage == "sqlite3" and os.path.lexists(log) and log.stat().st_size:
            raise Unreadable(
                f"{shown(log.name)} beside it holds messages that are not in it; accepted: the "
                "recording as it was before it was packed"
            )
        with open_regular(path) as packed:
            self._file: BinaryIO = unpacked_file(packed, _MAGIC[storage], left_bytes)
        self._database: SqliteFile | None = None
        try:
            self.size_bytes = os.fstat(self._file.fileno()).st_size
            if storage == "sqlite3":
                with named_briefly(self._file) as name:
                    self._database = SqliteFile(name)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def opened(self) -> Iterator[OpenFile]:
        """Open the file for one pass. Raises Unreadable if it cannot be read."""
        yield self._database or McapFile(self._file)

    def close(self) -> None:
        """Delete the temporary file."""
        if self._database is not None:
            self._database.close()
        self._file.close()


class BagFiles:
    """All files of the bag at ``path``, in the order of recording.

    Raises:
        Unreadable, InvalidValue, OSError: a file, or what metadata.yaml says, cannot be used.
    """

    def __init__(self, path: Path):
        # What metadata.yaml says; None for a single file.
        self.folder: BagFolder | None = None
        self._files: list[PlainFile | PackedFile] = []
        if not path.is_dir():
            self._files.append(PlainFile(path, STORAGE[path.suffix]))
            return
        self.folder = read_folder(path)
        if self.folder.storage not in STORAGE.values():
            raise Unreadable(
                f"its storage is {shown(self.folder.storage)!r}; accepted: "
                f"{', '.join(STORAGE.values())}"
            )
        try:
            self._open_all(self.folder)
        except BaseException:
            self.close()
            raise

    def _open_all(self, folder: BagFolder) -> None:
        left_bytes = most_unpacked(sum(file.stat().st_size for file in folder.files))
        for path in folder.files:
            if folder.compression == "file":
                file = PackedFile(path, folder.storage, left_bytes)
                left_bytes -= file.size_bytes
                self._files.append(file)
            else:
                self._files.append(PlainFile(path, folder.storage))

    def __iter__(self) -> Iterator[PlainFile | PackedFile]:
        return iter(self._files)

    @property
    def size_bytes(self) -> int:
        """The size of all files on the disk."""
        return sum(file.path.stat().st_size for file in self._files)

    def close(self) -> None:
        """Close all files; what was unpacked is deleted."""
        for file in self._files:
            file.close()
