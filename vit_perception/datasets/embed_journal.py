"""The journal of an `embed` folder: which shards are finished, and where to continue.

It survives kill -9 and a full disk. ``journal.jsonl`` gets one line per finished shard, synced
after the shard itself: a shard without its line is made again, so that nothing is lost and nothing
is there twice. ``manifest.json`` says what the run is, and at the end everything that the journal
holds.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from vit_perception.datasets.accounts import Entry, joined
from vit_perception.datasets.batches.measured import measured_together
from vit_perception.files.atomic import (
    is_half_made,
    open_plain,
    read_plain,
    sweep,
    sync,
    take_lock,
    write_whole,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.wire.json_values import differing_fields

FORMAT = "vit_perception.embed"
FORMAT_VERSION = 1
JOURNAL = "journal.jsonl"
MANIFEST = "manifest.json"
# Files that a killed run may leave half-written. Nothing else in the folder is ever removed.
_WRITTEN = r"manifest\.json|metadata\.yaml|basis\.safetensors|features_\d{6}(?:\.[a-z]+)?"
# Of a run: with other versions the package makes other features of the same input.
VERSIONS = ("columns_version", "graph_version")
NEW_FOLDER = "a new or an empty folder, or the one of a run that was interrupted"


class FolderInUse(InvalidValue):
    """Another process writes the folder."""


def check_out(out: Path) -> None:
    """Check that ``out`` can be a folder of `embed`, whatever the run. Nothing is written.

    Raises:
        InvalidValue: It cannot.
    """
    if out.exists() and not out.is_dir():
        raise InvalidValue(f": {out} is a file; accepted: {NEW_FOLDER}", argument="out")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise InvalidValue(f": {there} cannot be written; accepted: {NEW_FOLDER}", argument="out")
    if out.exists() and not (out / MANIFEST).exists():
        others = sorted(p.name for p in out.iterdir() if not is_half_made(p, _WRITTEN))
        if others:
            raise InvalidValue(
                f": {out} holds other files ({', '.join(others[:3])}); accepted: {NEW_FOLDER}",
                argument="out",
            )
    elif out.exists():
        read_manifest(out)


def read_manifest(out: Path, called: str = "") -> dict[str, Any]:
    """Read the manifest of the folder ``out``, which messages call ``called``.

    Raises:
        InvalidValue: It is not a manifest of this version; the message names the file.
    """
    path = f"{called or out}/{MANIFEST}"
    try:
        manifest = json.loads(read_plain(out / MANIFEST))
        whole = {"format", "format_version", "complete", "run"} <= set(manifest)
    except (ValueError, TypeError) as error:
        raise InvalidValue(
            f": {path} is damaged: {error}; accepted: a new folder", argument="out"
        ) from error
    if not whole or manifest["format"] != FORMAT or manifest["format_version"] != FORMAT_VERSION:
        raise InvalidValue(
            f": {path} is not of {FORMAT} version {FORMAT_VERSION}; accepted: a new folder",
            argument="out",
        )
    return manifest


class Journal:
    """The folder ``out`` of one run, locked while this object is open.

    ``run`` is everything that the features depend on. Opening deletes what a killed run left
    unfinished, and no other files. Messages call the folder ``called``, by default by its path.

    Raises:
        InvalidValue: The folder holds another run's output or other files, or is in use.
        OSError: It cannot be written.
    """

    def __init__(self, out: Path, run: dict[str, Any], called: str = ""):
        self.out = out
        self.called = called or str(out)
        self.run = json.loads(json.dumps(run))
        check_out(out)
        out.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(out, os.O_RDONLY)
        try:
            self._claim()
            self.entries = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _claim(self) -> None:
        try:
            take_lock(self._lock)
        except BlockingIOError:
            raise FolderInUse(
                f": {self.called} is being written by another process; accepted: a folder of its "
                "own",
                argument="out",
            ) from None
        check_out(self.out)
        if not (self.out / MANIFEST).exists():
            self._write_manifest(complete=False)
            return
        begun = read_manifest(self.out, self.called)["run"]
        for name in VERSIONS:
            there = begun.get(name) if isinstance(begun, dict) else None
            here = self.run.get(name)
            if there != here:
                said = "not said" if there is None else f"{there!r:.80}"
                raise InvalidValue(
                    f": {self.called} was begun by another version of vit_perception ({name} is "
                    f"{said} there and {here} here), so new files would not fit; accepted: a new "
                    "folder, or that version of vit_perception",
                    argument="out",
                )
        differences = differing_fields(begun, self.run)
        if differences:
            raise InvalidValue(
                f": {self.called} was begun with other settings, so its features would not fit: "
                f"{'; '.join(differences[:4])}; accepted: a new folder",
                argument="out",
            )

    def _read(self) -> list[Entry]:
        """Read the finished shards, and delete what a killed run left unfinished."""
        path = self.out / JOURNAL
        text = read_plain(path) if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        try:
            entries = [Entry(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise InvalidValue(
                f": {self.called}/{JOURNAL} is damaged: {error}; accepted: a new folder",
                argument="out",
            ) from error
        for entry in entries:
            if entry.file and self._size_of(entry.file) != entry.size_bytes:
                raise InvalidValue(
                    f": {self.called}/{entry.file} is missing or not of {entry.size_bytes} bytes, "
                    f"as {JOURNAL} says; accepted: the folder as it was left, or a new one",
                    argument="out",
                )
        if not self.complete:
            if whole != text:
                with open(open_plain(path, os.O_RDWR), "r+b") as file:
                    file.truncate(len(whole.encode()))
            self._remove_half_made({entry.file for entry in entries})
        return entries

    def _size_of(self, name: str) -> int | None:
        path = self.out / name
        return path.stat().st_size if path.exists() else None

    def _remove_half_made(self, finished: set[str]) -> None:
        sweep(self.out, _WRITTEN)
        for path in self.out.iterdir():
            if self._is_left_over(path.name, finished) and path.is_file():
                path.unlink()

    def _is_left_over(self, name: str, finished: set[str]) -> bool:
        """Whether ``name`` is a shard without its line in the journal: it is made again."""
        shard = rf"features_\d{{6}}\.{re.escape(self.run['file_format'])}"
        return re.fullmatch(shard, name) is not None and name not in finished

    def put(self, name: str) -> None:
        """Take over the finished file ``name`` of ``out`` that is no shard: here it stays."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Give a `with` block the path of a finished shard."""
        return nullcontext(self.out / name)

    def append(self, entry: Entry) -> None:
        """Add a finished shard.

        Raises:
            OSError: The line does not fit on the disk; the journal is as it was.
        """
        self.extend([entry])

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add several finished shards in one write; raises as :meth:`append`."""
        rest = memoryview("".join(entry.line() for entry in entries).encode())
        # Unbuffered: what does not fit must not be written again when the file is closed.
        with open(
            open_plain(self.out / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab", buffering=0
        ) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        sync(self.out)
        self.entries.extend(entries)

    @property
    def complete(self) -> bool:
        """Whether an earlier run has finished."""
        return bool(read_manifest(self.out)["complete"])

    def finish(self) -> dict[str, Any]:
        """Write the manifest of a finished run unless it is there, and return it."""
        return read_manifest(self.out) if self.complete else self._write_manifest(complete=True)

    def _write_manifest(self, complete: bool) -> dict[str, Any]:
        entries = self.entries if complete else []
        dropped: Counter[str] = Counter()
        texts: dict[str, str] = {}
        for entry in entries:
            dropped.update(entry.dropped)
            texts = {**entry.drop_texts, **texts}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "complete": complete,
            "run": self.run,
            "frames": sum(e.frames for e in entries),
            "dropped": dropped,
            "drop_texts": {reason: texts[reason] for reason in dropped if reason in texts},
            "skipped": joined(e.skipped for e in entries),
            "layouts": [layout for e in entries for layout in e.layouts],
            "shards": [
                {
                    "file": e.file,
                    "sha256": e.sha256,
                    "size_bytes": e.size_bytes,
                    "frames": e.frames,
                    "source": e.source,
                    "first_stamp_ns": e.first_stamp_ns,
                    "last_stamp_ns": e.last_stamp_ns,
                }
                for e in entries
                if e.file
            ],
        }
        if failed := [{"source": e.source, "why": e.failed} for e in entries if e.failed]:
            manifest["failed"] = failed
        manifest |= measured_together([e.batch for e in entries if e.batch])
        write_whole(
            self.out / MANIFEST,
            lambda file: file.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8"),
        )
        return manifest
