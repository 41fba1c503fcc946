"""What `embed` reads: bags, folders of images, LeRobot data sets, each in a fixed order."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vit_perception.datasets.accounts import refusal
from vit_perception.datasets.encode_recording import (
    Dropped,
    PictureChange,
    SkippedMessages,
    replay_from,
)
from vit_perception.datasets.recorded_columns import RecordedColumn
from vit_perception.files.atomic import ends_digest
from vit_perception.files.errors import InvalidValue
from vit_perception.image.picture_files import PICTURE_SUFFIXES, pictures_below, read_picture
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.prepare import ImageChange
from vit_perception.recordings.reader import BagReader
from vit_perception.tokens.source import sampled
from vit_perception.wire.records import (
    MISSING,
    NANOSECONDS_PER_SECOND,
    BadInput,
    FrameResult,
)

LONGEST_PERIOD_S = 86400.0


@dataclass(frozen=True, eq=False)
class SourceResult:
    """One result of a source."""

    # From 0, within the source.
    index: int
    # When its last image was recorded; the stamp if a source has no times of recording.
    recorded_ns: int
    # None if there are only ``skips``, after the last result.
    result: FrameResult | Dropped | None
    # Whether an episode begins with it.
    new_episode: bool = False
    # Numbers that the source has in addition to images, by column.
    extras: dict[str, Any] = field(default_factory=dict)
    # Messages skipped since the earlier result.
    skips: SkippedMessages = field(default_factory=SkippedMessages)
    # Of a source that is embedded several times with changed pictures; 0: as it is.
    repeat: int = 0


class Source(Protocol):
    """Something to embed. The same source gives the same results in the same order every time."""

    def identity(self) -> dict[str, Any]:
        """Return what tells it from other sources: a run is resumed only with the same one."""

    def total(self) -> int:
        """Return about how many results it gives, for a progress bar."""

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        """Yield results from number ``first`` on; earlier ones are encoded for its history alone.

        Each is valid until the next one is asked for. ``change``, if given, changes every picture.
        """


def files_identity(root: Path, files: list[Path]) -> dict[str, Any]:
    """Return one digest of names, sizes and the two ends of ``files``."""
    return described_files(
        [(str(file.relative_to(root)), file.stat().st_size, ends_digest(file)) for file in files]
    )


def described_files(files: Sequence[tuple[str, int, str]]) -> dict[str, Any]:
    """Return one digest of ``files``, each with its name, size in bytes and digest of its ends."""
    digest = hashlib.sha256()
    for name, size_bytes, ends in files:
        digest.update(f"{name} {size_bytes} {ends}\n".encode())
    return {
        "files": len(files),
        "size_bytes": sum(size_bytes for _, size_bytes, _ in files),
        "digest": digest.hexdigest(),
    }


class BagSource:
    """A rosbag2 recording, read by the topics in the pipeline's settings, and by ``columns``."""

    def __init__(self, path: Path, image_topic: str, columns: Sequence[RecordedColumn] = ()):
        self._path = path
        self._columns = columns
        self._image_topic = image_topic

    def identity(self) -> dict[str, Any]:
        with BagReader(self._path):
            pass  # one that cannot be read raises before anything is written
        root = self._path.parent
        files = [self._path]
        if self._path.is_dir():
            root = self._path
            files = sorted(p for p in self._path.iterdir() if p.is_file())
        return {"kind": "bag", "name": self._path.name, **files_identity(root, files)}

    def total(self) -> int:
        with BagReader(self._path) as bag:
            return bag.count(self._image_topic)

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        with BagReader(self._path) as bag:
            for replayed in replay_from(pipeline, bag, first, self._columns, change):
                yield SourceResult(
                    replayed.index,
                    replayed.recorded_ns,
                    replayed.result,
                    extras=dict(replayed.columns),
                    skips=replayed.skips,
                )


class PicturesSource:
    """Images of a folder and those below it, by name.

    Files have no time: their stamps are ``period_s`` apart.
    """

    def __init__(self, folder: Path, camera: str, period_s: float = 0.1):
        if not 1e-9 <= period_s <= LONGEST_PERIOD_S:
            raise InvalidValue(
                f" is {period_s}; accepted: 1e-9 to {LONGEST_PERIOD_S:g} s", argument="period_s"
            )
        self._folder = folder
        self._camera = camera
        self._period_ns = round(period_s * NANOSECONDS_PER_SECOND)
        self._files = pictures_below(folder)
        if not self._files:
            raise InvalidValue(
                f"{folder} holds no pictures; accepted: {', '.join(PICTURE_SUFFIXES)} files, a "
                "rosbag2 folder (it has a metadata.yaml), or a LeRobot data set (it has a "
                "meta/info.json)"
            )

    def identity(self) -> dict[str, Any]:
        return {
            "kind": "pictures",
            "name": self._folder.name,
            **files_identity(self._folder, self._files),
            "period_ns": self._period_ns,
            "names": [str(f.relative_to(self._folder)) for f in self._files],
        }

    def total(self) -> int:
        return len(self._files)

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        pipeline.parts.forget()
        begin = max(0, first - pipeline.history.frames_before(self._period_ns))
        for index in range(begin, len(self._files)):
            file = self._files[index]
            stamp_ns = (index + 1) * self._period_ns
            name = str(file.relative_to(self._folder))
            try:
                picture = replace(read_picture(file), stamp_ns=stamp_ns, frame_id="pictures")
            except BadInput as error:
                if index >= first:
                    yield SourceResult(index, stamp_ns, Dropped(error.reason, f"{name}: {error}"))
                continue
            result = encode_images(
                pipeline=pipeline,
                images={self._camera: picture.decoded},
                name=name,
                skips=SkippedMessages(),
                change=change and partial(change, index),
            )
            if index >= first:
                yield SourceResult(index, stamp_ns, result)


def encode_images(
    pipeline: Pipeline,
    images: Mapping[str, Any],
    name: str,
    skips: SkippedMessages,
    change: ImageChange | None,
) -> FrameResult | Dropped:
    """Encode one group of images without samples of other sources.

    ``images`` and ``change`` are as in :meth:`Pipeline.prepare`; ``name`` is what a drop
    message calls the group.
    """
    prepared = pipeline.prepare(images, change=change)
    if dropped := refusal(pipeline=pipeline, prepared=prepared, name=f"{name}, ", skips=skips):
        return dropped
    output = pipeline.encode(prepared)
    try:
        nothing = {source.name: MISSING for source in sampled(pipeline.sources)}
        return pipeline.assemble(prepared, output, nothing)
    except BadInput as error:
        return Dropped(error.reason, f"{name}: {error}")
