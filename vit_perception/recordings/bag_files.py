"""The files of a recording, each opened for one pass over it alone: a bag may have more of them
than can be open.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from vit_perception.files.regular_files import open_regular
from vit_perception.recordings.kind import MCAP_MAGIC
from vit_perception.recordings.mcap_file import McapFile
from vit_perception.recordings.sqlite_file import SQLITE_MAGIC, SqliteFile
from vit_perception.recordings.storage import Summary, Unreadable, shown
from vit_perception.recordings.unpacking import named_briefly, unpacked_file

STORAGE = {".mcap": "mcap", ".db3": "sqlite3"}
_MAGIC = {"mcap": MCAP_MAGIC, "sqlite3": SQLITE_MAGIC}


class OpenFile(Protocol):
    """One file while it is read."""

    summary: Summary

    def messages(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, int, bytes | Unreadable]]:
        """Channel, time of recording in ns and bytes (or why there are none) of the messages of
        ``wanted`` channels.
        """


class PlainFile:
    """A file of ``storage`` mcap or sqlite3, as it lies on the disk."""

    def __init__(self, path: Path, storage: str):
        self.path, self._storage = path, storage

    @contextmanager
    def opened(self) -> Iterator[OpenFile]:
        """The file for one pass. Raises Unreadable, InvalidValue or OSError where it cannot be
        read.
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
    """A file that was packed as a whole, unpacked once into a nameless temporary file of at most
    ``left_bytes``.
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
        """The file for one pass. Raises Unreadable where it cannot be read."""
        yield self._database or McapFile(self._file)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._database is not None:
            self._database.close()
        self._file.close()
