"""Features of images that were encoded earlier, in the user's cache: a second fit takes seconds.

There is one SQLite file per encoder (weights, block, preprocessing) and engine setting, with one
row per image by the digest of its content. A changed image or encoder gets new features; a renamed
folder keeps the old ones. SQLite keeps two processes apart, and keeps the file intact when one is
killed.
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
    """Return the folder ``features`` of the user's cache."""
    return cache_root() / "features"


class FeatureCache:
    """CLS and mean patch tokens by content digest.

    A cache that cannot be used reports it once, and is empty.
    """

    def __init__(self, name: str, width: int, log: Log, folder: Path | None = None):
        """``name`` is what the features depend on; ``width`` is the encoder's D."""
        self.path = (folder or feature_folder()) / f"{name}.sqlite"
        self._bytes = 2 * width * 4
        self._log = log
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
        """Make the folder and the files for this user alone, or check that they are.

        Files that SQLite keeps next to it are checked as well.

        Raises:
            Untrusted: They belong to another user, or others may write to them.
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
        """Return (2, D) float32, CLS token and mean patch token, of the image with this digest.

        Returns None if it is unknown.
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
        """Store ``tokens`` (2, D) float32."""
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
        """Close the file; it may be called again."""
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
