"""Labelled pictures as training takes them: checked once, decoded again and again."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vit_perception.datasets.labelled import (
    LabelledPicture,
    labelled_folder,
    labelled_frames,
    left_out_of,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.opencv import cv2
from vit_perception.image.picture_files import PICTURE_SUFFIXES
from vit_perception.recordings.reader import ACCEPTED, BagError, BagReader
from vit_perception.wire.records import BadInput, RgbImage

KEPT_DECODED_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures of a folder or a bag, not yet read, and a line for each kind of thing that was left
    out.
    """

    name: str
    pictures: tuple[LabelledPicture, ...]
    left_out: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The label of each picture."""
        return [picture.label for picture in self.pictures]


def read_folder(folder: Path, seed: int = 0) -> Source:
    """The pictures in the subfolders of ``folder``. Raises ValueError where there are none."""
    if not folder.is_dir():
        raise InvalidValue(
            f"{folder} is {'a file' if folder.exists() else 'no folder'}; accepted: a folder with "
            "a "
            f"subfolder a class, each with {', '.join(PICTURE_SUFFIXES)} files"
        )
    return Source(str(folder), tuple(labelled_folder(folder, seed)), tuple(left_out_of(folder)))


def read_bag(path: Path, topic: str, label_topic: str, every: int = 1) -> Source:
    """Every ``every``-th labelled picture of a bag's image topic. Raises BagError, or ValueError
    where none is.
    """
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise BagError(
            f"{path} is no rosbag2 folder, it has no metadata.yaml; accepted: {ACCEPTED}"
        )
    with BagReader(path) as bag:
        pictures = tuple(map(_compressed, labelled_frames(bag, topic, label_topic, every)))
        offered = -(-bag.count(topic) // every)
        undecodable = bag.undecodable[topic]
        left_out = [f"{entry.topic} is left out: {entry.why}" for entry in bag.left_out]
        left_out += [
            f"{count} messages of {name} cannot be read" for name, count in bag.undecodable.items()
        ]
    if not pictures:
        raise InvalidValue(
            f"{path}: none of {offered} images on {topic} has a label on {label_topic} before it; "
            "accepted: a bag whose labels start before its images end"
        )
    missing = offered - len(pictures) - undecodable
    early = [f"{missing} images come before the first label"] if missing else []
    return Source(path.name, pictures, (*early, *left_out))


def _compressed(picture: LabelledPicture) -> LabelledPicture:
    """``picture`` with a raw frame held as PNG: a bag's pictures stay in memory, and raw ones are 1
    MB each.
    """
    message = picture.message
    if hasattr(message, "format"):
        return picture
    try:
        pixels = decode(message).pixels
    except BadInput as error:
        return replace(picture, load=partial(_refuse, error))
    data = cv2.imencode(
        ".png", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )[1].tobytes()
    return replace(
        picture, load=partial(SimpleNamespace, header=message.header, format="png", data=data)
    )


def _refuse(error: BadInput) -> None:
    raise error


def content_sha256(message: Any) -> str:
    """The digest of what a compressed image message shows: its bytes, and the format that says how
    to read them.
    """
    digest = hashlib.sha256(message.format.encode() + b"\0")
    digest.update(memoryview(message.data))
    return digest.hexdigest()


def decode(message: Any) -> RgbImage:
    """The picture of a raw or a compressed image message. Raises BadInput for whatever makes it
    unreadable.
    """
    try:
        return decode_compressed(message) if hasattr(message, "format") else decode_image(message)
    except BadInput:
        raise
    except Exception as error:  # OpenCV's own errors
        raise BadInput("decode", f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, eq=False)
class Unreadable:
    """A picture that cannot be used, and why."""

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that all decode. ``sha256`` is the digest of all names, labels and contents, in
    their order.
    """

    items: tuple[LabelledPicture, ...]
    unreadable: tuple[Unreadable, ...]
    sha256: str
    cache: "DecodedCache"

    @property
    def labels(self) -> list[str]:
        """The label of each picture."""
        return [item.label for item in self.items]

    @property
    def stretches(self) -> list[int]:
        """The stretch of each picture."""
        return [item.stretch for item in self.items]

    def decoded(self, index: int) -> RgbImage:
        """Picture ``index``. Raises BadInput or OSError where its file has gone since it was
        checked.
        """
        return self.cache.get(self.items[index])


class DecodedCache:
    """Decoded pictures, kept while they take at most ``budget_bytes``; the others are decoded each
    time.
    """

    def __init__(self, budget_bytes: int = KEPT_DECODED_BYTES):
        self._left_bytes = budget_bytes
        self._kept: dict[str, RgbImage] = {}
        self._lock = threading.Lock()

    def get(self, picture: LabelledPicture) -> RgbImage:
        """The decoded picture, kept where there is room."""
        image = self._kept.get(picture.name)
        if image is None:
            image = decode(picture.message)
            self.keep(picture.name, image)
        return image

    def keep(self, name: str, image: RgbImage) -> None:
        """Hold on to ``image`` where there is room."""
        with self._lock:
            if name not in self._kept and image.pixels.nbytes <= self._left_bytes:
                self._left_bytes -= image.pixels.nbytes
                # A copy: the pixels may be a view of a message that is three times their size.
                self._kept[name] = RgbImage(
                    np.ascontiguousarray(image.pixels), image.stamp_ns, image.frame_id
                )


def check_all(
    pictures: Iterable[LabelledPicture],
    workers: int = 2,
    advance: Callable[[], None] = lambda: None,
    budget_bytes: int = KEPT_DECODED_BYTES,
) -> Pictures:
    """Decode every picture once: those that cannot be are named, before an hour of training.

    Raises ValueError where none can be read.
    """
    pictures, cache = tuple(pictures), DecodedCache(budget_bytes)

    def look(picture: LabelledPicture) -> tuple[str, str]:
        try:
            message = picture.message
            cache.keep(picture.name, decode(message))
            return content_sha256(message), ""
        except (BadInput, OSError) as error:
            return "", str(error)
        finally:
            advance()

    with ThreadPoolExecutor(workers) as pool:
        looks = list(pool.map(look, pictures))
    good = tuple(p for p, (_, why) in zip(pictures, looks) if not why)
    bad = tuple(Unreadable(p.name, why) for p, (_, why) in zip(pictures, looks) if why)
    if not good:
        raise InvalidValue(
            f"none of {len(pictures)} pictures can be read; the first: {bad[0].name}: {bad[0].why}"
            if bad
            else "there are no pictures; accepted: at least two of each of two classes"
        )
    digest = hashlib.sha256()
    for picture, (content, why) in zip(pictures, looks):
        if not why:
            digest.update(f"{picture.name}\0{picture.label}\0{content}\n".encode())
    return Pictures(good, bad, digest.hexdigest(), cache)


def thin_classes(labels: Sequence[str]) -> list[str]:
    """A line for each class of a single picture: it is trained on, and nothing of it is tested."""
    return [
        f"class {name} has one picture: it is trained on, none is held out"
        for name, count in sorted(Counter(labels).items())
        if count == 1
    ]
