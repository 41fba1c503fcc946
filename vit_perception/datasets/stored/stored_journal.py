"""An `embed` folder on object storage: the same files with the same bytes as on local disk.

Each shard is made in a scratch folder, put on the storage in one step, and deleted locally. Then
the journal is put there again with the shard's line: a shard without its line is made again. The
journal is small: 2.5 kB a shard.

Object storage has no locks. Two processes that write one folder are noticed before each shard: the
journal there is not the one that this process put. What they may write until then are equal files,
because a folder is only written by runs of equal settings and sources.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vit_perception.datasets.embed_journal import (
    JOURNAL,
    MANIFEST,
    NEW_FOLDER,
    Entry,
    Journal,
    read_manifest,
)
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.folder import StorageFolder
from vit_perception.files.storage.scratch import Scratch

# Of manifest and journal, each.
MOST_BYTES = 256 << 20


def check_stored_out(folder: StorageFolder) -> None:
    """Check that ``folder`` can be a folder of `embed`, whatever the run. Nothing is written.

    Raises:
        InvalidValue: It cannot.
        StorageError: The storage does not answer, or refuses.
    """
    if folder.find(MANIFEST) is None:
        if others := folder.files():
            names = ", ".join(file.name for file in others[:3])
            raise InvalidValue(
                f": {folder.url} holds other files ({names}); accepted: {NEW_FOLDER}",
                argument="out",
            )
        return
    with Scratch("embed") as scratch:
        _fetch(folder, MANIFEST, scratch.path)
        read_manifest(scratch.path, folder.url)


def _fetch(folder: StorageFolder, name: str, into: Path) -> None:
    content = folder.read(name, MOST_BYTES)
    write_whole(into / name, lambda file: file.write_bytes(content))


class StoredJournal(Journal):
    """The folder of one run on object storage. ``out`` is the scratch folder for files in making.

    Raises:
        InvalidValue: The folder holds another run's output or other files, or is in use.
        StorageError: It cannot be read or written.
    """

    def __init__(self, folder: StorageFolder, run: dict[str, Any]):
        self._folder = folder
        self._tag = ""  # of the journal on the storage; empty if there is none
        self._scratch = Scratch("embed")
        try:
            check_stored_out(folder)
            self._sizes = {file.name: file.size_bytes for file in folder.files()}
            # The scratch folder itself is locked, as the journal's folder is.
            out = self._scratch.path / "out"
            out.mkdir()
            for name in (MANIFEST, JOURNAL):
                if name in self._sizes:
                    _fetch(folder, name, out)
            self._tag = self._tag_there()
            super().__init__(out, run, folder.url)
        except BaseException:
            self._scratch.close()
            raise

    def close(self) -> None:
        super().close()
        self._scratch.close()

    def put(self, name: str) -> None:
        """Put the finished file ``name`` of ``out`` on the storage, and delete it here."""
        self._folder.commit(self.out / name, name)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Copy a finished shard for a `with` block."""
        path = self.out / name
        self._scratch.check_room(self._folder_size(name), f"{self.called}/{name}")
        self._folder.fetch(name, path)
        try:
            yield path
        finally:
            path.unlink()

    def append(self, entry: Entry) -> None:
        """Put a finished shard on the storage, then its line.

        Raises:
            StorageError: The storage fails. The shard is made again by the next run.
            InvalidValue: Another process has written the folder.
        """
        if self._tag_there() != self._tag:
            raise InvalidValue(
                f": {self.called} is being written by another process; accepted: a folder of its "
                "own",
                argument="out",
            )
        if entry.file:
            self._sizes[entry.file] = entry.size_bytes
            self.put(entry.file)
        super().append(entry)
        self._folder.commit_bytes((self.out / JOURNAL).read_bytes(), JOURNAL)
        self._tag = self._tag_there()

    def _tag_there(self) -> str:
        with suppress(FileNotFoundError):
            return self._folder.tag(JOURNAL)
        return ""

    def _folder_size(self, name: str) -> int:
        return self._sizes.get(name, 0)

    def _size_of(self, name: str) -> int | None:
        return self._sizes.get(name)

    def _remove_half_made(self, finished: set[str]) -> None:
        for name in self._sizes:
            if self._is_left_over(name, finished):
                self._folder.remove(name)

    def _write_manifest(self, complete: bool) -> dict[str, Any]:
        manifest = super()._write_manifest(complete)
        self._folder.commit_bytes((self.out / MANIFEST).read_bytes(), MANIFEST)
        return manifest
