"""Finished tasks become the output, in the order of the sources.

A shard is a file in its task's folder until the source's turn comes. Then it gets a second name in
the output, and its line in the journal. After a kill in between, the journal removes names that
have no line, and the task's folder still has the file.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from vit_perception.datasets.accounts import Entry
from vit_perception.datasets.embed_journal import Journal
from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.tasks import Done
from vit_perception.datasets.shards import FORMATS
from vit_perception.files.atomic import sync, write_whole


class Commits:
    """What is finished of a run. One driver has the journal of its output."""

    def __init__(self, journal: Journal, staging: Path, sources: int, min_cosine: float):
        self._holds_name = FORMATS[journal.run["file_format"]].holds_name
        self._journal = journal
        self._staging = staging
        self._sources = sources
        self._waiting: dict[int, Done | str] = {}
        # What is believed to come before the sources until the first one is committed.
        self._guess: Before | None = None
        entries = journal.entries
        last = entries[-1] if entries else None
        self.next = (last.source + last.source_done) if last else 0
        self._truth = Before.of(entries, self.next)
        known = self._truth.layouts
        self._min_cosine = known[0]["min_cosine"] if known else min_cosine
        self._files = sum(1 for entry in entries if entry.file)
        self._truth = replace(self._truth, files=self._files * self._holds_name)
        self.failed: dict[int, str] = {e.source: e.failed for e in entries if e.failed}

    @property
    def finished(self) -> bool:
        """Whether every source is committed."""
        return self.next >= self._sources

    @property
    def knows_the_start(self) -> bool:
        """Whether it is known what comes before the sources: tasks begun earlier may be redone."""
        return bool(self._truth.layouts) or self._guess is not None

    def guess(self, begun: Before) -> None:
        """Take the cameras and layouts of a first frame for those that all sources begin with."""
        self._guess = begun

    def before(self, number: int) -> Before:
        """Return what is believed to come before source ``number``; it is certain of the next."""
        if number == self.next:
            return replace(self._truth, min_cosine=self._min_cosine)
        episode = self._truth.episode
        files = self._truth.files
        for earlier in range(self.next, number):
            done = self._waiting.get(earlier)
            if isinstance(done, Done):
                episode += done.entries[-1].episode - done.before.episode
                files += sum(1 for entry in done.entries if entry.file) * self._holds_name
            elif not (earlier == self.next and self._truth.first):
                episode += 1
        known = self._truth if self._truth.layouts or not self._guess else self._guess
        return Before(
            episode=episode,
            seen=known.seen,
            layouts=known.layouts,
            files=files,
            min_cosine=self._min_cosine,
        )

    def add(self, done: Done) -> None:
        """Take the shards of one source."""
        self._waiting[done.number] = done

    def fail(self, number: int, why: str) -> None:
        """Go on without what is missing of source ``number``."""
        self._waiting[number] = why

    def commit(self) -> tuple[Done, Before] | None:
        """Commit every source whose turn has come.

        Return the next one with what really comes before it, if its shards have to be corrected.

        Raises:
            OSError: There is no room. The same call continues.
        """
        while self.next in self._waiting:
            done = self._waiting[self.next]
            if isinstance(done, str):
                self._append(self._failure(done))
                self.failed[self.next] = done
            elif done.before.gives_the_same(self._truth):
                self._append(self._linked(done))
            else:
                return self._waiting.pop(self.next), self._truth
            del self._waiting[self.next]
            remove_task(self._staging, self.next)
            self.next += 1
            self._truth = replace(self._truth, first=0, last_stamp_ns=0)
        return None

    def _failure(self, why: str) -> list[Entry]:
        truth = self._truth
        entry = Entry(self.next, truth.first, truth.first, source_done=True, failed=why)
        entry.episode = truth.episode + (not truth.first)
        entry.seen = truth.seen
        entry.last_stamp_ns = truth.last_stamp_ns
        return [entry]

    def _linked(self, done: Done) -> list[Entry]:
        entries = []
        files = self._files
        for entry in done.entries:
            if entry.file:
                name = f"features_{files:06d}{Path(entry.file).suffix}"
                _give_second_name(
                    self._staging / done.folder / entry.file, self._journal.out / name
                )
                entry = replace(entry, file=name)
                files += 1
            entries.append(entry)
        if files > self._files:
            sync(self._journal.out)
        return entries

    def _append(self, entries: list[Entry]) -> None:
        self._journal.extend(entries)
        self._files += sum(1 for entry in entries if entry.file)
        layouts = (layout for entry in entries for layout in entry.layouts)
        self._truth = Before(
            episode=entries[-1].episode,
            seen=entries[-1].seen,
            layouts=(*self._truth.layouts, *layouts),
            files=self._files * self._holds_name,
        )

    def done_sources(self) -> set[int]:
        """Return the sources that are committed, or only wait for earlier ones."""
        return {*range(self.next), *self._waiting}

    def finish(self, file_format: str) -> dict[str, Any]:
        """Write the manifest of the complete run, and return it."""
        names = [entry.file for entry in self._journal.entries if entry.file]
        if not self._journal.complete:
            FORMATS[file_format].finish(self._journal.out, names, self._journal.local)
        manifest = self._journal.finish()
        shutil.rmtree(self._staging, ignore_errors=True)
        return manifest


def remove_task(staging: Path, number: int) -> None:
    """Remove what a task has made and no longer needs."""
    for name in (f"{number:06d}", f"{number:06d}.relabelled"):
        shutil.rmtree(staging / name, ignore_errors=True)


def _give_second_name(file: Path, name: Path) -> None:
    """Let ``name`` be ``file``, too: a copy where the file system has no hard links."""
    name.unlink(missing_ok=True)
    try:
        os.link(file, name)
    except OSError:
        write_whole(name, lambda partial: shutil.copyfile(file, partial))
