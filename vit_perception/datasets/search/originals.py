"""The pictures that frames were made of: from the bags and folders, where they are found."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vit_perception.datasets.embed_sources import BagSource, PicturesSource
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.files.errors import InvalidValue
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.picture_files import read_picture
from vit_perception.recordings.definitions import deserialised
from vit_perception.recordings.reader import BagError, BagReader
from vit_perception.recordings.storage import Unreadable
from vit_perception.wire.records import BadInput, RgbImage
from vit_perception.wire.stamps import stamp_ns_of

MOST_LEVELS = 4
MOST_FOLDERS = 20_000
# An image is recorded after its stamp, and all of its group before ``recorded_ns``.
BEFORE_NS = 2_000_000_000


@dataclass
class Original:
    """The picture of one frame, or why there is none."""

    image: RgbImage | None
    # One line for people; empty with an image.
    why: str = ""


@dataclass
class Originals:
    """Finds recordings by their names below ``folders``, and takes a recording only if it is the
    one that was embedded: by the digest in the manifest.

    Folders are searched four levels deep, 20,000 of them at most; links are not followed.
    """

    features: FeatureSet
    folders: Sequence[Path]
    _found: dict[str, list[Path]] | None = None
    _sources: dict[str, Path | str] = field(default_factory=dict)

    def of(self, frame: int, camera: str) -> Original:
        """Return the picture of ``camera`` in ``frame``. Nothing is raised: a sheet goes on."""
        source = self.features.source_of(frame)
        place = self._place_of(source)
        if isinstance(place, str):
            return Original(None, place)
        try:
            if source["kind"] == "pictures":
                return Original(self._of_folder(place, source, frame))
            return self._of_bag(place, frame, camera)
        except (BadInput, InvalidValue, OSError) as error:
            return Original(None, str(error))

    def _place_of(self, source: dict[str, Any]) -> Path | str:
        key = f"{source['kind']} {source['name']} {source.get('digest', '')}"
        if key not in self._sources:
            self._sources[key] = self._searched(source)
        return self._sources[key]

    def _searched(self, source: dict[str, Any]) -> Path | str:
        name = source["name"]
        if source["kind"] not in ("bag", "pictures"):
            return f"{name} is a {source['kind']} data set, whose pictures are not shown"
        if self._found is None:
            names = {s["name"] for f in self.features.folders for s in f.manifest["run"]["sources"]}
            self._found = _places(self.folders, names)
        others = 0
        for path in self._found.get(name, []):
            try:
                found = (
                    BagSource(path, "").identity()
                    if source["kind"] == "bag"
                    else PicturesSource(path, "", source["period_ns"] / 1e9).identity()
                )
            except (InvalidValue, OSError):
                continue
            if found.get("digest") == source.get("digest"):
                return path
            others += 1
        if others:
            return f"{name} was found with another content than was embedded"
        return f"{name} was not found"

    def _of_folder(self, folder: Path, source: dict[str, Any], frame: int) -> RgbImage:
        files, row = self.features.where(frame)
        index = int(files.row(row, ("index",))["index"])
        return read_picture(folder / source["names"][index]).decoded()

    def _of_bag(self, bag: Path, frame: int, camera: str) -> Original:
        files, row = self.features.where(frame)
        column = f"{camera}.stamp_ns"
        columns = files.row(row, (column, "recorded_ns"))
        topic = topic_of(self.features, frame, camera)
        recorded_ns = int(columns["recorded_ns"])
        image = image_at(
            bag,
            topic,
            int(columns[column]),
            start_ns=recorded_ns - BEFORE_NS,
            stop_ns=recorded_ns + 1,
        )
        return Original(image, "" if image else f"{bag.name} has no image with this stamp")


def topic_of(features: FeatureSet, frame: int, camera: str) -> str:
    """Return the topic that ``camera`` was embedded from."""
    files, _ = features.where(frame)
    cameras = files.manifest["run"]["settings"]["cameras"]
    return str(next(c["topic"] for c in cameras if c["name"] == camera))


def image_at(
    bag: Path, topic: str, stamp_ns: int, start_ns: int | None = None, stop_ns: int | None = None
) -> RgbImage | None:
    """Return the image of ``topic`` with this stamp, among those recorded in that time.

    Raises:
        BagError: The bag cannot be read, or has no such topic.
        BadInput: The image cannot be decoded.
    """
    with BagReader(bag) as reader:
        for message in decodable(reader, topic, start_ns, stop_ns):
            if stamp_ns_of(message.header) == stamp_ns:
                return decoded(message)
    return None


def decodable(
    reader: BagReader, topic: str, start_ns: int | None = None, stop_ns: int | None = None
) -> Iterator[Any]:
    """Yield the messages of an image topic that are of its type."""
    for raw in reader.raw([topic], start_ns, stop_ns):
        message = deserialised(raw.data, raw.type_name)
        if not isinstance(message, Unreadable) and hasattr(message, "header"):
            yield message


def decoded(message: Any) -> RgbImage:
    """Decode an Image or a CompressedImage.

    Raises:
        BadInput: It cannot be decoded.
        BagError: It is neither.
    """
    if not hasattr(message, "data"):
        raise BagError("the topic has no images; accepted: Image or CompressedImage")
    return decode_compressed(message) if hasattr(message, "format") else decode_image(message)


def _places(folders: Sequence[Path], names: set[str]) -> dict[str, list[Path]]:
    """Return the paths below ``folders`` that have one of ``names``, by name."""
    found: dict[str, list[Path]] = {}
    seen = 0
    for top in folders:
        if top.name in names or top.resolve().name in names:
            found.setdefault(top.resolve().name, []).append(top)
        level = len(top.resolve().parts)
        for path, below, files in os.walk(top.resolve()):
            seen += 1
            if seen > MOST_FOLDERS:
                return found
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in (*below, *files):
                if name in names:
                    found.setdefault(name, []).append(Path(path) / name)
            if len(Path(path).parts) - level >= MOST_LEVELS - 1:
                below[:] = []
    return found
