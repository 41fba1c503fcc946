"""Features of pictures that were encoded before, kept in the user's cache, so that a second fit
takes seconds.

One SQLite file an encoder (weights, block, preprocessing) and engine setting, one row a picture by
the digest of its content: whoever changes a picture or the encoder gets new features, whoever
renames a folder the old ones. SQLite keeps two processes apart and a file whole when one is killed.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import numpy as np

from vit_perception.files.log import Log
from vit_perception.files.private_cache import (
    FILE_MODE,
    Untrusted,
    cache_root,
    opened_file,
    opened_folder,
)


def feature_folder() -> Path:
    """The folder ``features`` of the user's cache."""
    return cache_root() / "features"


class FeatureCache:
    """CLS and mean patch token by content digest. A cache that cannot be used says so once, and is
    empty.
    """

    def __init__(self, name: str, width: int, log: Log, folder: Path | None = None):
        """``name`` is what the features depend on; ``width`` the encoder's D."""
        self.path = (folder or feature_folder()) / f"{name}.sqlite"
        self._bytes, self._log = 2 * width * 4, log
        self._database: sqlite3.Connection | None = None
        try:
            self._require_private()
            # Each row is a transaction of its own, so that a kill loses none and two fits do not
            # wait for each other.
            self._database = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = normal")
            self._database.execute(
                "create table if not exists features (content text primary key, tokens blob)"
            )
        except (OSError, Untrusted, sqlite3.Error) as error:
            self._give_up(error)

    def _require_private(self) -> None:
        """Make the folder and the file for this user alone, or check them, and what SQLite keeps
        beside. Untrusted.
        """
        with opened_folder(self.path.parent, make=True) as folder:
            with suppress(FileExistsError):
                os.close(
                    os.open(
                        self.path.name,
                        os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                        FILE_MODE,
                        dir_fd=folder,
                    )
                )
            for suffix in ("", "-wal", "-shm", "-journal"):
                with (
                    suppress(FileNotFoundError),
                    opened_file(self.path.name + suffix, folder, self.path.parent),
                ):
                    pass

    def get(self, content: str) -> np.ndarray | None:
        """(2, D) float32, CLS token and mean patch token, of the picture with this digest; None
        where unknown.
        """
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "select tokens from features where content = ?", (content,)
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != self._bytes:
            return None
        return np.frombuffer(row[0], "<f4").reshape(2, -1)

    def put(self, content: str, tokens: np.ndarray) -> None:
        """Remember ``tokens`` (2, D) float32."""
        if self._database is None:
            return
        try:
            self._database.execute(
                "insert or replace into features values (?, ?)",
                (content, np.ascontiguousarray(tokens, "<f4").tobytes()),
            )
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Free the file; again is harmless."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _give_up(self, error: Exception) -> None:
        cure = (
            ""
            if isinstance(error, Untrusted)
            else (
                "; accepted: a writable cache folder (XDG_CACHE_HOME), and a "
                "damaged file may be deleted"
            )
        )
        self._log.info(f"features are not cached: {self.path}: {error}{cure}")
        self._database = None
