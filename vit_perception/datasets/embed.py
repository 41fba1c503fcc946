"""Features of recordings as files: every image group of every source, once, whatever interrupts
it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vit_perception.config.parameter_files import DEFAULT_NODE
from vit_perception.config.settings import BadSetting
from vit_perception.datasets.embed_columns import (
    COLUMNS_VERSION,
    DENSE,
    FrameColumns,
)
from vit_perception.datasets.embed_journal import Entry, Journal
from vit_perception.datasets.embed_sources import Source, SourceResult
from vit_perception.datasets.encode_recording import Dropped
from vit_perception.datasets.output_messages import OutputMessages
from vit_perception.datasets.shards import FORMATS, Shard, ShardPlace
from vit_perception.engines.encoder_graph import GRAPH_VERSION
from vit_perception.files.atomic import file_sha256
from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.pipeline.layouts import LayoutTracker
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.streams.sample_history import JUMP_BACK_NS
from vit_perception.wire.layout import Layout


@dataclass(frozen=True)
class EmbedOptions:
    """What to write: one of ``FORMATS``, the features (none given: the format's own choice), and
    how large a shard.

    A kill loses at most one shard's work; memory is about three shards.
    """

    file_format: str
    features: tuple[str, ...] = ()
    shard_bytes: int = 64 << 20
    shard_frames: int = 1000
    node: str = DEFAULT_NODE

    def __post_init__(self):
        if self.file_format not in FORMATS:
            raise InvalidValue(
                f" is {self.file_format!r}; accepted: {', '.join(FORMATS)}", argument="format"
            )
        accepted = FORMATS[self.file_format].features
        unknown = sorted(set(self.features) - set(accepted))
        if unknown:
            raise InvalidValue(
                f" has {', '.join(unknown)}; accepted: {', '.join(accepted)}",
                argument="features",
                hint=nearest(unknown[0], accepted),
            )
        if self.shard_bytes <= 0 or self.shard_frames <= 0:
            frames = self.shard_frames <= 0
            raise InvalidValue(
                f" is {self.shard_frames if frames else self.shard_bytes}; accepted: 1 or more",
                argument="shard_frames" if frames else "shard_mb",
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The features that are written; a bag has all of the node's topics but the dense ones."""
        return self.features or FORMATS[self.file_format].default_features


def embed(
    pipeline: Pipeline,
    sources: Sequence[Source],
    out: Path,
    options: EmbedOptions,
    advance: Callable[[int], None] = lambda results: None,
) -> dict[str, Any]:
    """Write the features of ``sources`` to the folder ``out``; the manifest, also of a run that was
    done before.

    Goes on where an earlier call with the same arguments ended, however it ended. ``advance`` is
    told how many more results are done. Raises ValueError or BagError for what cannot be used,
    OSError where the disk is full: then what is finished stays, and the same call goes on from
    there.
    """
    if DENSE in options.chosen and pipeline.dense is None:
        raise BadSetting("dense.enabled", False, "true, for the feature dense")
    journal = Journal(out, run_of(pipeline, sources, options))
    try:
        if journal.complete:
            return journal.finish()
        run = _Run(pipeline, journal, options, advance)
        for number, source in enumerate(sources):
            run.take(number, source)
        FORMATS[options.file_format].finish(out, [e.file for e in journal.entries if e.file])
        return journal.finish()
    finally:
        journal.close()


def run_of(pipeline: Pipeline, sources: Sequence[Source], options: EmbedOptions) -> dict[str, Any]:
    """Everything that the features depend on: with the same, an interrupted run can go on."""
    engine = pipeline.engine
    settings = asdict(pipeline.settings)
    if not settings["extra"]:
        del settings["extra"]  # runs of earlier versions can go on
    return {
        "columns_version": COLUMNS_VERSION,
        "graph_version": GRAPH_VERSION,
        "file_format": options.file_format,
        "features": list(options.chosen),
        "node": options.node,
        "shard_bytes": options.shard_bytes,
        "shard_frames": options.shard_frames,
        "sources": [source.identity() for source in sources],
        "settings": settings,
        "model": pipeline.card.name,
        "weights_sha256": pipeline.card.weights_sha256,
        "encoder_sha256": pipeline.encoder_sha256,
        "runtime": engine.runtime,
        "precision": engine.precision,
    }


class _Run:
    """One call of :func:`embed`: the shard in the making, and the state that travels from frame to
    frame.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        journal: Journal,
        options: EmbedOptions,
        advance: Callable[[int], None],
    ):
        self._pipeline, self._journal, self._options, self._advance = (
            pipeline,
            journal,
            options,
            advance,
        )
        entries = journal.entries
        last = entries[-1] if entries else None
        self._tracker = LayoutTracker(
            pipeline, {k: tuple(v) for k, v in last.seen.items()} if last else None
        )
        # The layouts as they were first seen: a resumed run measures its engine anew, and the files
        # stay the same.
        self._layouts = {
            layout["layout_id"]: Layout.from_json(json.dumps(layout))
            for entry in entries
            for layout in entry.layouts
        }
        self._columns = FrameColumns(pipeline, options.chosen)
        self._messages = OutputMessages(options.node, options.chosen)
        self._episode = last.episode if last else -1
        self._last_stamp_ns = last.last_stamp_ns if last else 0
        self._shards = sum(1 for e in entries if e.file)
        self._new_episode = False  # also where its first frame was dropped
        self._shard: Shard | None = None

    def take(self, number: int, source: Source) -> None:
        """All of one source that is not yet done."""
        done = [e for e in self._journal.entries if e.source == number]
        first = done[-1].next if done else 0
        self._advance(first)
        if done and done[-1].source_done:
            return
        if not done:
            self._episode += 1
            self._last_stamp_ns = 0
        self._new_episode = False
        entry = Entry(number, first, first)
        try:
            for found in source.results(self._pipeline, first):
                entry.note_skips(found.skips)
                if found.result is None:
                    continue
                self._add(entry, found)
                entry.next = found.index + 1
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

    def _add(self, entry: Entry, found: SourceResult) -> None:
        result = found.result
        self._new_episode |= found.new_episode
        if isinstance(result, Dropped):
            entry.note_dropped(result)
            return
        self._tracker.update(result)
        layout_id = self._tracker.layout.layout_id
        if layout_id not in self._layouts:
            fields = asdict(self._tracker.layout)
            if not fields["sources"]:
                del fields["sources"]  # manifests without other sources stay as they were
            entry.layouts.append({"layout_id": layout_id, **fields})
            self._layouts[layout_id] = self._tracker.layout
        # A source begins an episode of its own, whatever its first frame says.
        if self._last_stamp_ns and (
            self._new_episode or result.stamp_ns < self._last_stamp_ns - JUMP_BACK_NS
        ):
            self._episode += 1
        self._new_episode = False
        self._last_stamp_ns = result.stamp_ns
        if self._shard is None:
            self._shard = self._new_shard()
        place = {
            "index": found.index,
            "source": entry.source,
            "episode": self._episode,
            "layout": list(self._layouts).index(layout_id),
            "recorded_ns": found.recorded_ns,
        }
        self._shard.add(place, result, found.extras, self._layouts[layout_id])
        entry.first_stamp_ns = entry.first_stamp_ns if entry.frames else result.stamp_ns
        entry.frames += 1

    def _new_shard(self) -> Shard:
        place = ShardPlace(
            folder=self._journal.out,
            name=Path(self._name).stem,
            columns=self._columns,
            messages=self._messages,
            dense=self._pipeline.dense_values if self._pipeline.dense else None,
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
        """The shard, then its line: a kill between the two makes it anew."""
        entry.episode, entry.last_stamp_ns = self._episode, self._last_stamp_ns
        entry.seen = {name: list(seen) for name, seen in self._tracker.seen.items()}
        if self._shard is not None:
            path = self._journal.out / self._name
            shard, self._shard = self._shard, None
            shard.write(path)
            entry.file, entry.sha256, entry.size_bytes = (
                path.name,
                file_sha256(path),
                path.stat().st_size,
            )
            self._shards += 1
        self._journal.append(entry)
