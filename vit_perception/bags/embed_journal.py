"""The book of an `embed` folder: which shards are whole, and where to go on. It outlives kill -9 and a full disk.

``journal.jsonl`` gets one line a finished shard, synced behind the shard itself: a shard without its line is made
anew, so that nothing is lost and nothing is there twice. ``manifest.json`` says what the run is, and at the end
everything that the journal holds.
"""

import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vit_perception.bags.durable import sync_folder, write_whole
from vit_perception.wire import differing_fields

FORMAT, FORMAT_VERSION = "vit_perception.embed", 1
JOURNAL, MANIFEST = "journal.jsonl", "manifest.json"


@dataclass
class Entry:
    """One line: results ``first`` to ``next`` (exclusive) of source number ``source`` are done.

    ``file`` is empty where they gave no frame. ``layouts`` are those that are new; ``seen``, ``episode`` and
    ``last_stamp_ns`` are the state to go on with.
    """

    source: int
    first: int
    next: int
    source_done: bool = False
    file: str = ""
    sha256: str = ""
    size_bytes: int = 0
    frames: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    layouts: list[dict] = field(default_factory=list)
    seen: dict[str, list] = field(default_factory=dict)
    episode: int = -1
    first_stamp_ns: int = 0
    last_stamp_ns: int = 0


class Journal:
    """The folder ``out`` of one run, locked while this lives. ``run`` is everything that the features depend on.

    Raises ValueError where the folder holds another run's output, other files, or is in use; OSError where it
    cannot be written.
    """

    def __init__(self, out: Path, run: dict[str, Any]):
        self.out = out
        self.run = json.loads(json.dumps(run))
        out.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(out, os.O_RDONLY)
        try:
            self._claim()
            self.entries = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"--out: {self.out} is being written by another process; accepted: a folder of its "
                             "own") from None
        manifest = self.out / MANIFEST
        if not manifest.exists():
            others = sorted(p.name for p in self.out.iterdir() if not p.name.startswith("."))
            if others:
                raise ValueError(f"--out: {self.out} holds other files ({', '.join(others[:3])}); accepted: a new or "
                                 "an empty folder, or the one of a run that was interrupted")
            self._write_manifest(complete=False)
            return
        earlier = json.loads(manifest.read_text())
        if earlier.get("format") != FORMAT or earlier.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"--out: {manifest} is not of {FORMAT} version {FORMAT_VERSION}; accepted: a new folder")
        differences = differing_fields(earlier["run"], self.run)
        if differences:
            raise ValueError(f"--out: {self.out} was begun with other settings, so its features would not fit: "
                             f"{'; '.join(differences[:4])}; accepted: a new folder")

    def _read(self) -> list[Entry]:
        """What is done; whatever a killed process left half made is removed."""
        path = self.out / JOURNAL
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(path, len(whole.encode()))
        entries = [Entry(**json.loads(line)) for line in whole.splitlines()]
        for entry in entries:
            file = self.out / entry.file
            if entry.file and (not file.exists() or file.stat().st_size != entry.size_bytes):
                raise ValueError(f"--out: {file} is missing or not of {entry.size_bytes} bytes, as {JOURNAL} says; "
                                 "accepted: the folder as it was left, or a new one")
        kept = {MANIFEST, JOURNAL, "metadata.yaml", *(entry.file for entry in entries)}
        for path in self.out.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return entries

    def append(self, entry: Entry) -> None:
        """Note a finished shard. Raises OSError, with the journal as it was, where the line does not fit."""
        path = self.out / JOURNAL
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(entry)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if path.exists():
                os.truncate(path, size)
            raise
        sync_folder(self.out)
        self.entries.append(entry)

    @property
    def complete(self) -> bool:
        """Whether an earlier run has come to its end."""
        return bool(json.loads((self.out / MANIFEST).read_text())["complete"])

    def finish(self) -> dict[str, Any]:
        """Write the manifest of a run that has come to its end, and give it back."""
        return self._write_manifest(complete=True)

    def _write_manifest(self, complete: bool) -> dict[str, Any]:
        entries = self.entries if complete else []
        dropped: dict[str, int] = {}
        for entry in entries:
            for reason, count in entry.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "complete": complete, "run": self.run,
                    "frames": sum(e.frames for e in entries), "dropped": dropped,
                    "layouts": [layout for e in entries for layout in e.layouts],
                    "shards": [{"file": e.file, "sha256": e.sha256, "size_bytes": e.size_bytes, "frames": e.frames,
                                "source": e.source, "first_stamp_ns": e.first_stamp_ns,
                                "last_stamp_ns": e.last_stamp_ns} for e in entries if e.file]}
        write_whole(self.out / MANIFEST, lambda file: file.write((json.dumps(manifest, indent=1) + "\n").encode()))
        return manifest
