"""Recordings on object storage: which there are, and one of them on local disk at a time.

A recording is copied to a cache folder, read there, and deleted. The copy takes the bytes of one
recording; those bytes are checked against the free disk space first.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vit_perception.datasets.embed_sources import BagSource, SourceResult, described_files
from vit_perception.datasets.encode_recording import PictureChange
from vit_perception.datasets.recorded_columns import RecordedColumn, recorded_columns
from vit_perception.files.atomic import ends_digest_of
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.folder import FileChanged, StorageFolder, StoredFile
from vit_perception.files.storage.scratch import Scratch
from vit_perception.files.yaml_files import parse_yaml
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.bag_folder import MOST_METADATA_BYTES
from vit_perception.recordings.kind import METADATA
from vit_perception.recordings.mcap.file import McapFile
from vit_perception.recordings.storage import Unreadable


@dataclass(frozen=True)
class StoredBag:
    """One recording on object storage: a rosbag2 folder, or one file of it."""

    # The folder that the files are in.
    folder: StorageFolder
    # All files in the folder, or the one file and its write-ahead log.
    files: tuple[StoredFile, ...]
    # Whether it is the folder, with its metadata.yaml.
    is_folder: bool

    @property
    def url(self) -> str:
        """The folder, or the file."""
        return self.folder.url if self.is_folder else f"{self.folder.url}/{self.files[0].name}"

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)

    def __str__(self) -> str:
        return self.url


class BagCache:
    """Local copies of stored bags, one at a time: each bag takes the place of the one before.

    They are below ``bags`` in the user's cache.
    """

    def __init__(self) -> None:
        self._held: StoredBag | None = None
        self._scratch: Scratch | None = None

    def fetch(self, bag: StoredBag, tags: Mapping[str, str]) -> Path:
        """Return the local copy of ``bag``, which stays until another one is fetched.

        ``tags`` has those that its files must have, by name.

        Raises:
            StorageError: It cannot be read, or does not fit on the disk.
            FileChanged: A file of it is not the one that it was.
        """
        if self._held != bag:
            self.close()
            self._scratch = Scratch("bags")
            try:
                self._scratch.check_room(bag.size_bytes, bag.url)
                _fetch(bag, self._scratch.path, tags)
            except BaseException:
                self.close()
                raise
            self._held = bag
        assert self._scratch is not None
        return self._scratch.path / bag.name

    def close(self) -> None:
        """Delete the copy."""
        if self._scratch is not None:
            self._scratch.close()
        self._scratch = self._held = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a cache without a copy: another process makes its own."""
        return BagCache().__dict__


def _fetch(bag: StoredBag, folder: Path, tags: Mapping[str, str]) -> None:
    into = folder / bag.name if bag.is_folder else folder
    into.mkdir(exist_ok=True)
    for file in bag.files:
        if file.name in tags and bag.folder.tag(file.name) != tags[file.name]:
            raise FileChanged(
                f"{bag.folder.url}/{file.name} was written again since this run began; accepted: "
                "a recording that stays as it is",
                hint="run the same command again when nothing writes it any more",
            )
        bag.folder.fetch(file.name, into / file.name)


class StoredBagSource:
    """A recording on object storage, which gives the same results as :class:`BagSource` locally.

    It is copied to ``cache`` when its turn comes. ``identity`` reads the two ends of each file.
    """

    def __init__(
        self,
        bag: StoredBag,
        image_topic: str,
        columns: Sequence[RecordedColumn] = (),
        cache: BagCache | None = None,
    ):
        self._bag = bag
        self._image_topic = image_topic
        self._columns = tuple(columns)
        self._cache = cache or BagCache()
        # What each file was when the run began, by name.
        self._tags: dict[str, str] = {}

    def identity(self) -> dict[str, Any]:
        rows = []
        for name, size_bytes in self._named_files():
            self._tags[name] = self._bag.folder.tag(name)
            with self._bag.folder.open(name) as file:
                rows.append((name, size_bytes, ends_digest_of(file, size_bytes)))
        return {"kind": "bag", "name": self._bag.name, **described_files(rows)}

    def _named_files(self) -> tuple[StoredFile, ...]:
        # Of a single file, its write-ahead log is read and is not part of its name on disk either.
        return self._bag.files if self._bag.is_folder else self._bag.files[:1]

    def total(self) -> int:
        """Return how many images metadata.yaml or the end of an MCAP file says; 0 if unknown."""
        try:
            if self._bag.is_folder:
                return _count_in(self._bag.folder, self._image_topic)
            if self._bag.name.endswith(".mcap"):
                with self._bag.folder.open(self._bag.name) as file:
                    return _count_in_mcap(file, self._image_topic)
        except (InvalidValue, Unreadable):
            pass  # it is told when the bag is read
        return 0

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        local = self._cache.fetch(self._bag, self._tags)
        try:
            self._check_columns(local)
            source = BagSource(local, self._image_topic, self._columns)
            yield from source.results(pipeline, first, change)
        finally:
            self._cache.close()

    def _check_columns(self, local: Path) -> None:
        """Check that this bag has the columns as the first one has them."""
        found = recorded_columns([local], [column.settings for column in self._columns])
        for one, first in zip(found, self._columns, strict=True):
            if one != first:
                raise InvalidValue(
                    f" {one.settings.name}: {self._bag.url} has {len(one.numbers)} numbers of "
                    f"{one.type_name}, and the first recording has {len(first.numbers)} of "
                    f"{first.type_name}; accepted: recordings that agree, or embedded one by one",
                    argument="column",
                )


def _count_in(folder: StorageFolder, topic: str) -> int:
    text = folder.read(METADATA, MOST_METADATA_BYTES).decode("utf-8", "replace")
    said = parse_yaml(text, f"{folder.url}/{METADATA}", MOST_METADATA_BYTES)
    with suppress(KeyError, TypeError):
        for entry in said["rosbag2_bagfile_information"]["topics_with_message_count"]:
            if entry["topic_metadata"]["name"] == topic:
                return max(0, int(entry["message_count"]))
    return 0


def _count_in_mcap(file: BinaryIO, topic: str) -> int:
    summary = McapFile(file).summary
    channels = [channel.id for channel in summary.channels if channel.topic == topic]
    return sum(summary.counts.get(channel, 0) for channel in channels)
