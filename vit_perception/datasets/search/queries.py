"""Queries as vectors: frames of the features, frames of bags, pictures, texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_perception.datasets.search.encode_query import EncodedQuery, QueryEncoder
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.find import Queries, mean_patch
from vit_perception.datasets.search.frame_times import FrameTime, stored_frame, unknown_recording
from vit_perception.datasets.search.originals import decodable, decoded
from vit_perception.datasets.search.patch_places import Box, places_of_frame
from vit_perception.files.errors import InvalidValue, shown
from vit_perception.image.picture_files import PICTURE_SUFFIXES, is_picture_name, read_picture
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.records import BadInput, RgbImage
from vit_perception.wire.stamps import stamp_ns_of

NEAR_NS = 500_000_000


@dataclass(frozen=True, eq=False)
class Asked:
    """One query, for people."""

    name: str
    # The picture, where there is one already.
    image: RgbImage | None = None
    # The frame of the features and its camera, for a query that is one.
    frame: int | None = None
    camera: str = ""
    # The part of it that counts; None is all of it.
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class MadeQueries:
    """Queries, and what they were made of."""

    queries: Queries
    # Of each vector.
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Part:
    """Which part of a query's picture counts: ``regions`` compares patch tokens."""

    regions: bool = False
    # In px of the picture; None is all of it.
    box: Box | None = None


def text_queries(encoder: QueryEncoder, texts: Sequence[str]) -> MadeQueries:
    """Return ``texts`` as queries. Raises as :meth:`QueryEncoder.texts`."""
    made = encoder.texts(texts)
    return MadeQueries(
        Queries(
            vectors=made.vectors,
            names=tuple(texts),
            projection=made.projection,
            # With a projection the compared vectors are others, and so is their index.
            space="text" if made.projection is not None else "image",
        ),
        tuple(Asked(text) for text in texts),
    )


def frame_queries(
    features: FeatureSet,
    encoder: QueryEncoder,
    frames: Sequence[FrameTime],
    pictures: Sequence[Path],
    part: Part,
) -> MadeQueries:
    """Return frames and pictures as queries; a frame has one for each camera that is searched.

    Frames that are in the features need no model. A frame of another bag is encoded.

    Raises:
        InvalidValue: A frame or a picture cannot be used, or the box is outside of it.
    """
    vectors: list[np.ndarray] = []
    asked: list[Asked] = []
    own: list[int] = []
    for each in frames:
        frame = stored_frame(features, each)
        if frame is not None:
            own.append(frame)
            before = len(vectors)
            for camera in features.cameras:
                vector = _stored(features, frame, camera, part)
                if vector.any():
                    vectors.append(vector)
                    asked.append(Asked(each.text, frame=frame, camera=camera, box=part.box))
            if len(vectors) == before:
                raise InvalidValue(
                    f" is {shown(each.text)}, where no image of {', '.join(features.cameras)} is; "
                    "accepted: a frame with one",
                    argument="frame",
                )
        else:
            for camera, image in bag_images(features, each):
                made = _encoded(encoder, image, each.text, "frame")
                vectors.append(_of_encoded(made, part))
                asked.append(Asked(each.text, image=image, camera=camera, box=part.box))
    for path in pictures:
        image = _picture(path)
        vectors.append(_of_encoded(_encoded(encoder, image, str(path), "image"), part))
        asked.append(Asked(path.name, image=image, box=part.box))
    names = tuple(each.name for each in asked)
    return MadeQueries(Queries(np.stack(vectors), names, frames=tuple(own)), tuple(asked))


def _stored(features: FeatureSet, frame: int, camera: str, part: Part) -> np.ndarray:
    if not part.regions:
        vector: np.ndarray = features.vectors(frame, (camera,))[0]
        return vector
    patches = features.patches(frame, camera)
    if part.box is None:
        return mean_patch(patches)
    places = places_of_frame(features, frame, camera)
    if places is None:
        raise InvalidValue(
            " is given, and the layout does not say the size of the picture; accepted: without it",
            argument="box",
        )
    return mean_patch(patches, places.inside(part.box))


def _of_encoded(made: EncodedQuery, part: Part) -> np.ndarray:
    if not part.regions:
        return made.cls
    chosen = None if part.box is None else made.places.inside(part.box)
    return mean_patch(made.patches, chosen)


def _encoded(encoder: QueryEncoder, image: RgbImage, name: str, argument: str) -> EncodedQuery:
    try:
        return encoder.picture(image)
    except BadInput as error:
        raise InvalidValue(f" is {shown(name)}: {error}", argument=argument) from error


def _picture(path: Path) -> RgbImage:
    if not path.is_file() or not is_picture_name(path):
        what = "is no picture's name" if path.is_file() else "does not exist"
        raise InvalidValue(
            f": {path} {what}; accepted: a {', '.join(PICTURE_SUFFIXES)} file", argument="image"
        )
    try:
        return read_picture(path).decoded()
    except BadInput as error:
        raise InvalidValue(f": {path}: {error}", argument="image") from error


def bag_images(features: FeatureSet, asked: FrameTime) -> list[tuple[str, RgbImage]]:
    """Return (camera, image) of a frame of a bag that is not in the features.

    The topics are those that the features were embedded from; each camera gives its image that is
    nearest to the time. A bag is read from its begin to that time.

    Raises:
        InvalidValue: There is no such bag, or none of its images is near that time.
        BagError: The bag cannot be read.
    """
    if not asked.bag.exists():
        raise unknown_recording(features, asked)
    settings = features.folders[0].manifest["run"]["settings"]["cameras"]
    topics = {c["name"]: c["topic"] for c in settings if c["name"] in features.cameras}
    found: list[tuple[str, RgbImage]] = []
    with BagReader(asked.bag) as reader:
        first_ns = _first_stamp(reader, list(topics.values()))
        wanted_ns = asked.stamp_ns
        if wanted_ns is None:
            wanted_ns = first_ns + round((asked.time_s or 0.0) * 1e9)
        for camera, topic in topics.items():
            if topic not in reader.topics:
                continue
            message = _nearest(reader, topic, wanted_ns)
            if message is not None:
                try:
                    found.append((camera, decoded(message)))
                except BadInput as error:
                    raise InvalidValue(
                        f" is {shown(asked.text)}: camera {camera}: {error}", argument="frame"
                    ) from error
    if not found:
        raise InvalidValue(
            f" is {shown(asked.text)}, and {asked.bag} has no image on "
            f"{', '.join(topics.values())} within {NEAR_NS / 1e9:g} s of it; accepted: a time of "
            "an image on one of these topics",
            argument="frame",
        )
    return found


def _first_stamp(reader: BagReader, topics: Sequence[str]) -> int:
    firsts = [
        _stamp(next(decodable(reader, topic), None)) for topic in topics if topic in reader.topics
    ]
    return min((stamp_ns for stamp_ns in firsts if stamp_ns is not None), default=0)


def _nearest(reader: BagReader, topic: str, wanted_ns: int) -> Any:
    best = None
    away_ns = NEAR_NS + 1
    for message in decodable(reader, topic):
        stamp_ns = _stamp(message)
        if stamp_ns is None:
            continue
        if abs(stamp_ns - wanted_ns) < away_ns:
            away_ns = abs(stamp_ns - wanted_ns)
            best = message
        elif stamp_ns > wanted_ns + NEAR_NS:
            break
    return best


def _stamp(message: Any) -> int | None:
    try:
        return None if message is None else stamp_ns_of(message.header)
    except BadInput:
        return None
