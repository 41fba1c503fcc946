"""A folder on local disk, as a storage folder."""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vit_perception.files.atomic import put_in_place, sync, whole_file, write_whole
from vit_perception.files.regular_files import check_regular, open_regular
from vit_perception.files.storage.folder import (
    MOST_FILES,
    FileChanged,
    StorageError,
    StoredFile,
    checked_name,
)


@dataclass(frozen=True)
class LocalFolder:
    """A folder on local disk. Missing folders are created by the first commit."""

    path: Path

    @property
    def url(self) -> str:
        return str(self.path)

    def below(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / checked_name(name))

    def files(self) -> list[StoredFile]:
        found = []
        # Links to folders are not followed: a link to a folder above would never end.
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                if path.is_file():
                    relative = path.relative_to(self.path).as_posix()
                    found.append(StoredFile(relative, path.stat().st_size))
            if len(found) > MOST_FILES:
                raise StorageError(f"{self.url} has more than {MOST_FILES} files; accepted: fewer")
        return sorted(found)

    def find(self, name: str) -> StoredFile | None:
        try:
            return StoredFile(name, check_regular(self._path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def tag(self, name: str) -> str:
        status = os.stat(self._path(name))
        return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"

    def open(self, name: str) -> BinaryIO:
        return open_regular(self._path(name))

    def read(self, name: str, most_bytes: int) -> bytes:
        with self.open(name) as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise StorageError(
                f"{self._path(name)} is longer than {most_bytes} bytes; accepted: up to "
                f"{most_bytes} bytes"
            )
        return content

    def fetch(self, name: str, path: Path) -> None:
        before = self.tag(name)
        with self.open(name) as source, whole_file(path) as partial:
            with partial.open("wb") as target:
                shutil.copyfileobj(source, target)
            if self.tag(name) != before:
                raise FileChanged(
                    f"{self._path(name)} was written again while it was read; accepted: a file "
                    "that stays as it is"
                )

    def commit(self, made: Path, name: str) -> StoredFile:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        size_bytes = made.stat().st_size
        try:
            sync(made)
            put_in_place(made, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another file system cannot be renamed to: the copy is, on this one.
            with whole_file(path) as partial:
                shutil.copyfile(made, partial)
            made.unlink()
        return StoredFile(name, size_bytes)

    def commit_bytes(self, content: bytes, name: str) -> StoredFile:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write_bytes(content))
        return StoredFile(name, len(content))

    def remove(self, name: str) -> None:
        path = self._path(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync(path.parent)

    def _path(self, name: str) -> Path:
        return self.path / checked_name(name)
