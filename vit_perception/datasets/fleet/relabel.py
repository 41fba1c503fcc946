"""Correct the numbers of episodes and layouts in finished shards.

A worker begins a source before the earlier ones are done, with what is then believed of them. If
one of them turns out to have two episodes or a further layout, the two columns with these numbers
are written again. A bag's file holds its own name, which also depends on earlier sources: it is
copied with the right one. No frame is encoded again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vit_perception.datasets.accounts import Entry
from vit_perception.datasets.embed_columns import Columns
from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.tasks import Done, Outcome
from vit_perception.datasets.shards import FORMATS
from vit_perception.files.atomic import file_sha256, write_whole

# How often the metadata in a bag's file has the file's name.
NAMED = 2


def relabelled(
    staging: Path, done: Done, truth: Before, file_format: str, cameras: Sequence[str]
) -> Outcome:
    """Return ``done`` as it is after ``truth``, in a folder of its own.

    The outcome is ``redo`` where that needs the frames: in a bag with other layouts, and if the
    first frame does not show all ``cameras``, so that its layout depends on earlier sources.

    Raises:
        OSError: A shard cannot be read, or there is no room for the new one.
    """
    shift = truth.episode - done.before.episode
    same_seen = done.before.seen == truth.seen
    folder = f"{done.number:06d}.relabelled"
    (staging / folder).mkdir(exist_ok=True)
    if not FORMATS[file_format].is_columns:
        if not same_seen or done.before.layout_ids != truth.layout_ids:
            return Outcome(done.number, redo=True)
        return _renamed(staging, folder, done, truth)
    made = _Made(staging / done.folder, staging / folder, done, truth, file_format)
    for entry in done.entries:
        if not made.add(entry, shift, () if same_seen else cameras):
            return Outcome(done.number, redo=True)
    return Outcome(done.number, done=Done(done.number, folder, truth, tuple(made.entries)))


def _renamed(staging: Path, folder: str, done: Done, truth: Before) -> Outcome:
    """Return the shards with the names that their files hold: a bag names its file twice."""
    entries = []
    files = truth.files
    for entry in done.entries:
        renamed = replace(entry, episode=entry.episode + truth.episode - done.before.episode)
        if entry.file:
            name = f"features_{files:06d}{Path(entry.file).suffix}"
            content = (staging / done.folder / entry.file).read_bytes()
            if content.count(entry.file.encode()) != NAMED or len(name) != len(entry.file):
                return Outcome(done.number, redo=True)
            content = content.replace(entry.file.encode(), name.encode())
            path = staging / folder / name
            write_whole(path, lambda file, content=content: file.write_bytes(content))
            renamed = replace(renamed, file=name, sha256=file_sha256(path))
            files += 1
        entries.append(renamed)
    return Outcome(done.number, done=Done(done.number, folder, truth, tuple(entries)))


class _Made:
    """The shards that are made again."""

    def __init__(self, old: Path, new: Path, done: Done, truth: Before, file_format: str):
        self._old = old
        self._new = new
        self._truth = truth
        self._format = FORMATS[file_format]
        found = [*done.before.layouts, *(made for e in done.entries for made in e.layouts)]
        self._by_id = {layout["layout_id"]: layout for layout in found}
        self._numbers_before = list(self._by_id)
        self._numbers = list(truth.layout_ids)
        self._frames = 0
        self.entries: list[Entry] = []

    def add(self, entry: Entry, shift: int, needed: Sequence[str]) -> bool:
        """Make one shard again; whether its first frame has what the layout needs."""
        known = len(self._numbers)
        path = self._new / entry.file
        if entry.file:
            columns = self._format.read(self._old / entry.file)
            if not self._frames and not all(columns[f"{c}.stamp_ns"][0] for c in needed):
                return False
            self._correct(columns, shift)
            write_whole(path, lambda file: self._format.write(file, columns))
        self._frames += entry.frames
        seen = entry.seen
        if needed:
            seen = {**self._truth.seen, **(entry.seen if self._frames else {})}
        self.entries.append(
            replace(
                entry,
                episode=entry.episode + shift,
                seen=seen,
                layouts=[self._by_id[each] for each in self._numbers[known:]],
                sha256=file_sha256(path) if entry.file else "",
                size_bytes=path.stat().st_size if entry.file else 0,
            )
        )
        return True

    def _correct(self, columns: Columns, shift: int) -> None:
        before = columns["layout"]
        numbers, firsts = np.unique(before, return_index=True)
        after = np.empty_like(before)
        for number in numbers[np.argsort(firsts)]:
            layout_id = self._numbers_before[number]
            if layout_id not in self._numbers:
                self._numbers.append(layout_id)
            after[before == number] = self._numbers.index(layout_id)
        columns["layout"] = after
        columns["episode"] = columns["episode"] + shift
