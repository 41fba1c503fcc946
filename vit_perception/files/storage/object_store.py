"""A prefix of object storage as a storage folder, through pyarrow's file systems.

Memory: one block of 8 MiB for a download; an upload is read from the page cache. A commit is a
multipart upload of parts of 10 MiB, which becomes visible in one step, at its end. An upload that
is cut off leaves nothing that a reader sees; a rule of the bucket should remove its parts
(docs/object_storage.md).
"""

import io
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from vit_perception.files.atomic import whole_file
from vit_perception.files.storage import settings
from vit_perception.files.storage.faults import told_as
from vit_perception.files.storage.folder import (
    MOST_FILES,
    FileChanged,
    StorageError,
    StoredFile,
    checked_name,
)

BLOCK_BYTES = 8 << 20
# The least that one request of an opened object asks for.
READ_BYTES = 1 << 20
CUT_ERROR = "Failed to flush response stream"


@dataclass(frozen=True)
class ObjectFolder:
    """All objects whose key begins with a prefix: ``bucket/prefix`` at ``scheme://``."""

    # "s3", or another scheme that pyarrow knows.
    scheme: str
    # Bucket and prefix, without a slash at the end.
    root: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.root}"

    def below(self, name: str) -> "ObjectFolder":
        return ObjectFolder(self.scheme, self._key(name))

    def files(self) -> list[StoredFile]:
        from pyarrow import fs

        selector = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        with told_as(self.url):
            listed = self._system.get_file_info(selector)
            bucket = self.root.partition("/")[0]
            if not listed and self._system.get_file_info(bucket).type == fs.FileType.NotFound:
                raise OSError(f"NoSuchBucket {bucket}")  # a prefix may be missing, a bucket not
        if len(listed) > MOST_FILES:
            raise StorageError(f"{self.url} has more than {MOST_FILES} files; accepted: fewer")
        start = len(self.root) + 1
        return sorted(
            StoredFile(info.path[start:], info.size)
            for info in listed
            if info.type == fs.FileType.File
        )

    def find(self, name: str) -> StoredFile | None:
        from pyarrow import fs

        with told_as(self._url(name)):
            info = self._system.get_file_info(self._key(name))
        return StoredFile(name, info.size) if info.type == fs.FileType.File else None

    def tag(self, name: str) -> str:
        with told_as(self._url(name)), self._system.open_input_file(self._key(name)) as file:
            return _tag_of(file)

    def open(self, name: str) -> BinaryIO:
        with told_as(self._url(name)):
            file = self._system.open_input_file(self._key(name))
        return io.BufferedReader(_ObjectReader(file, self._url(name)), READ_BYTES)

    def read(self, name: str, most_bytes: int) -> bytes:
        with told_as(self._url(name)), self._system.open_input_file(self._key(name)) as file:
            size_bytes = file.size()
            if size_bytes <= most_bytes:
                return _read_all(file)
        raise StorageError(
            f"{self._url(name)} has {size_bytes} bytes; accepted: up to {most_bytes} bytes"
        )

    def fetch(self, name: str, path: Path) -> None:
        with whole_file(path) as partial, partial.open("wb") as target:
            with told_as(self._url(name)), self._system.open_input_file(self._key(name)) as file:
                before = _tag_of(file)
                size_bytes = file.size()
                while target.tell() < size_bytes:
                    block = file.read(BLOCK_BYTES)
                    if not block:
                        break
                    target.write(block)
            whole = target.tell() == size_bytes
            if not whole or self.tag(name) != before:
                raise FileChanged(
                    f"{self._url(name)} was written again while it was read; accepted: a file that "
                    "stays as it is"
                )

    def commit(self, made: Path, name: str) -> StoredFile:
        import pyarrow as pa

        size_bytes = made.stat().st_size
        if not size_bytes:  # an empty file cannot be mapped
            stored = self.commit_bytes(b"", name)
        else:
            with pa.memory_map(str(made)) as content:
                stored = self._put(content.read_buffer(), name)
        made.unlink()
        return stored

    def commit_bytes(self, content: bytes, name: str) -> StoredFile:
        import pyarrow as pa

        return self._put(pa.py_buffer(content), name)

    def _put(self, content: Any, name: str) -> StoredFile:
        """Upload everything in one call.

        pyarrow completes an upload also when its stream is dropped half way. One write leaves no
        moment in which Ctrl-C or an error of this process could commit the first part of a file.
        """
        with told_as(self._url(name)):
            stream = self._system.open_output_stream(self._key(name))
            stream.write(content)
            stream.close()
        return StoredFile(name, content.size)

    def remove(self, name: str) -> None:
        with told_as(self._url(name)):
            try:
                self._system.delete_file(self._key(name))
            except FileNotFoundError:
                return

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the connection: another process opens its own."""
        return {"scheme": self.scheme, "root": self.root}

    @cached_property
    def _opened(self) -> tuple[int, Any]:
        return os.getpid(), settings.file_system(self.scheme)

    @property
    def _system(self) -> Any:
        # A forked process has its parent's connections, which are not its own.
        if self._opened[0] != os.getpid():
            del self.__dict__["_opened"]
        return self._opened[1]

    def _key(self, name: str) -> str:
        return f"{self.root}/{checked_name(name)}"

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}"


class _ObjectReader(io.RawIOBase):
    """An opened object, whose faults name it."""

    def __init__(self, file: Any, url: str):
        self._file = file
        self._url = url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with told_as(self._url):
            return self._file.readinto(buffer)

    def readall(self) -> bytes:
        # Python's own asks for 8 KiB at a time, each with a request.
        with told_as(self._url):
            return self._file.read()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _read_all(file: Any) -> bytes:
    """Read a small object.

    pyarrow does not try again when the text of an error is longer than what it asked for.
    """
    for attempt in range(1, settings.ATTEMPTS):
        try:
            return file.read_at(file.size(), 0)
        except OSError as error:
            if CUT_ERROR not in str(error):
                raise
        time.sleep(0.1 * 2**attempt)
    return file.read_at(file.size(), 0)


def _tag_of(file: Any) -> str:
    """Return what the storage says of the object's content, without another request."""
    told = file.metadata() or {}
    etag = told.get(b"ETag", told.get("ETag", b""))
    modified = told.get(b"Last-Modified", told.get("Last-Modified", b""))
    return f"{_text(etag) or _text(modified)} {file.size()}"


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
