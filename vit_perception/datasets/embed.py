"""Features of recordings as files: every image group of every source, exactly once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vit_perception.config.settings import BadSetting
from vit_perception.datasets.embed_columns import DENSE, FrameColumns
from vit_perception.datasets.embed_identity import run_of
from vit_perception.datasets.embed_journal import Entry, Journal
from vit_perception.datasets.embed_options import EmbedOptions
from vit_perception.datasets.embed_sources import Source, SourceResult
from vit_perception.datasets.encode_recording import Dropped
from vit_perception.datasets.fleet.before import FIRST, Before
from vit_perception.datasets.output_messages import OutputMessages
from vit_perception.datasets.shards import FORMATS, Shard, ShardPlace
from vit_perception.datasets.stored.stored_journal import StoredJournal
from vit_perception.files.atomic import file_sha256
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.folder import StorageFolder
from vit_perception.pipeline.layouts import LayoutTracker
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import FILE_NAME, save_basis
from vit_perception.streams.sample_history import JUMP_BACK_NS
from vit_perception.wire.layout import Layout, written_fields

__all__ = ["EmbedOptions", "embed", "embed_source", "run_of"]


def embed(
    pipeline: Pipeline,
    sources: Sequence[Source],
    out: Path | StorageFolder,
    options: EmbedOptions,
    advance: Callable[[int], None] = lambda results: None,
) -> dict[str, Any]:
    """Write the features of ``sources`` to the folder ``out``, and return the manifest.

    ``out`` may be a folder on object storage: it gets the same files as one on local disk.

    The same call continues after an interruption, and only returns the manifest of a complete run.
    ``advance`` is called with the number of further results that are done.

    Raises:
        InvalidValue, BagError: A source or an option cannot be used.
        OSError: The disk is full. Finished shards are kept, and the same call continues.
    """
    if DENSE in options.chosen and pipeline.dense is None:
        raise BadSetting("dense.enabled", False, "true, for the feature dense")
    run = run_of(pipeline, sources, options)
    check_batch(options.batch, run["sources"])
    journal = Journal(out, run) if isinstance(out, Path) else StoredJournal(out, run)
    try:
        if journal.complete:
            return journal.finish()
        if pipeline.parts.basis and FORMATS[options.file_format].is_columns:
            save_basis(journal.out / FILE_NAME, pipeline.parts.basis, pipeline.card.name)
            journal.put(FILE_NAME)
        made = _Run(pipeline=pipeline, journal=journal, options=options, advance=advance)
        for number, source in enumerate(sources):
            made.take(number, source)
        files = [entry.file for entry in journal.entries if entry.file]
        if written := FORMATS[options.file_format].finish(journal.out, files, journal.local):
            journal.put(written)
        return journal.finish()
    finally:
        journal.close()


def check_batch(batch: int, sources: Sequence[dict[str, Any]]) -> None:
    """Check that frames of ``sources``, by their identities, can be encoded ``batch`` at a time.

    Raises:
        InvalidValue: A source is no bag.
    """
    for source in sources if batch > 1 else ():
        if source["kind"] != "bag":
            raise InvalidValue(
                f" is {batch}, and {source['name']} is no bag; accepted: 1, or bags",
                argument="batch",
            )


def embed_source(
    pipeline: Pipeline,
    source: Source,
    number: int,
    journal: Journal,
    options: EmbedOptions,
    before: Before,
    advance: Callable[[int], None] = lambda results: None,
) -> None:
    """Write the shards of one of many sources to the folder of its own that ``journal`` is of.

    They are those that :func:`embed` makes of source ``number``, after everything in ``before``.

    Raises:
        As :func:`embed`.
    """
    if not journal.complete:
        run = _Run(
            pipeline=pipeline, journal=journal, options=options, advance=advance, before=before
        )
        run.take(number, source)
    journal.finish()


class _Run:
    """One call of :func:`embed`: the shard being made, and the state kept from frame to frame."""

    def __init__(
        self,
        pipeline: Pipeline,
        journal: Journal,
        options: EmbedOptions,
        advance: Callable[[int], None],
        before: Before = FIRST,
    ):
        self._pipeline = pipeline
        self._journal = journal
        self._options = options
        self._advance = advance
        self._before = before
        entries = journal.entries
        last = entries[-1] if entries else None
        seen = last.seen if last else before.seen
        self._tracker = LayoutTracker(pipeline, {k: tuple(v) for k, v in seen.items()})
        # The layouts as they were first seen: a resumed run measures its engine again, and the
        # files stay the same.
        self._layouts = {
            layout["layout_id"]: Layout.from_json(json.dumps(layout))
            for layout in (*before.layouts, *(made for entry in entries for made in entry.layouts))
        }
        self._columns = FrameColumns(pipeline, options.chosen)
        self._messages = OutputMessages(
            options.node, options.chosen, [column.settings.name for column in options.columns]
        )
        self._episode = last.episode if last else before.episode
        self._last_stamp_ns = last.last_stamp_ns if last else before.last_stamp_ns
        self._shards = before.files + sum(1 for e in entries if e.file)
        self._new_episode = False  # also if its first frame was dropped
        self._shard: Shard | None = None

    def take(self, number: int, source: Source) -> None:
        """Embed all of one source that is not done yet."""
        done = [e for e in self._journal.entries if e.source == number]
        first = done[-1].next if done else self._before.first
        self._advance(first)
        if done and done[-1].source_done:
            return
        if not first:
            self._episode += 1
            self._last_stamp_ns = 0
        self._new_episode = False
        entry = Entry(number, first, first)
        try:
            for produced in source.results(self._pipeline, first):
                entry.note_skips(produced.skips)
                if produced.result is None:
                    continue
                self._add(entry, produced)
                entry.next = produced.index + 1
                self._advance(1)
                if self._is_full(entry):
                    self._commit(entry)
                    entry = Entry(number, entry.next, entry.next)
            entry.source_done = True
            self._commit(entry)
        except BaseException:
            if self._shard is not None:
                self._shard.abandon()
            raise

    def _add(self, entry: Entry, produced: SourceResult) -> None:
        result = produced.result
        self._new_episode |= produced.new_episode
        if isinstance(result, Dropped):
            entry.note_dropped(result)
            return
        self._tracker.update(result)
        layout_id = self._tracker.layout.layout_id
        if layout_id not in self._layouts:
            layout = self._tracker.layout
            if self._before.min_cosine is not None:
                layout = replace(layout, min_cosine=self._before.min_cosine)
            fields = written_fields(layout)
            if not fields["sources"]:
                del fields["sources"]  # manifests without other sources stay as they were
            entry.layouts.append({"layout_id": layout_id, **fields})
            self._layouts[layout_id] = layout
        # A source always begins an episode, so its first frame does not begin another.
        if self._last_stamp_ns and (
            self._new_episode or result.stamp_ns < self._last_stamp_ns - JUMP_BACK_NS
        ):
            self._episode += 1
        self._new_episode = False
        self._last_stamp_ns = result.stamp_ns
        if self._shard is None:
            self._shard = self._new_shard()
        place = {
            "index": produced.index,
            "source": entry.source,
            "episode": self._episode,
            "layout": list(self._layouts).index(layout_id),
            "recorded_ns": produced.recorded_ns,
        }
        self._shard.add(place, result, produced.extras, self._layouts[layout_id])
        entry.first_stamp_ns = entry.first_stamp_ns if entry.frames else result.stamp_ns
        entry.frames += 1

    def _new_shard(self) -> Shard:
        place = ShardPlace(
            folder=self._journal.out,
            name=Path(self._name).stem,
            columns=self._columns,
            messages=self._messages,
            dense=self._pipeline.dense_values if self._pipeline.dense else None,
            basis=self._pipeline.parts.basis,
        )
        return FORMATS[self._options.file_format].new_shard(place)

    @property
    def _name(self) -> str:
        return f"features_{self._shards:06d}.{self._options.file_format}"

    def _is_full(self, entry: Entry) -> bool:
        return self._shard is not None and (
            self._shard.size_bytes >= self._options.shard_bytes
            or entry.frames >= self._options.shard_frames
        )

    def _commit(self, entry: Entry) -> None:
        """Write the shard, then its line in the journal: a kill in between repeats both."""
        if self._pipeline.together is not None:
            measured = self._pipeline.together.take_report()
            # A run that continues measures once more; the source's first entry has it already.
            entry.batch = {} if entry.first else measured
        entry.episode = self._episode
        entry.last_stamp_ns = self._last_stamp_ns
        entry.seen = {name: list(seen) for name, seen in self._tracker.seen.items()}
        if self._shard is not None:
            path = self._journal.out / self._name
            shard = self._shard
            self._shard = None
            shard.write(path)
            entry.file = path.name
            entry.sha256 = file_sha256(path)
            entry.size_bytes = path.stat().st_size
            self._shards += 1
        self._journal.append(entry)
