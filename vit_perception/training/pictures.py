"""Labelled images for training: each is checked once and decoded as often as it is needed."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from vit_perception.config.cameras.transports import VIDEO_TYPES
from vit_perception.config.settings import CameraSettings
from vit_perception.datasets.labelled import (
    LabelledPicture,
    labelled_folder,
    labelled_frames,
    left_out_of,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.opencv import cv2
from vit_perception.image.picture_files import PICTURE_SUFFIXES, EncodedPicture
from vit_perception.image.video.decoder import VideoPicture
from vit_perception.recordings.reader import ACCEPTED, BagError, BagReader
from vit_perception.streams.recorded_views import RecordedView, recorded_views
from vit_perception.wire.records import BadInput, RgbImage

KEPT_DECODED_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class LabelledSource:
    """The images of a folder or a bag, not decoded yet."""

    # The folder's path or the bag's name.
    name: str
    # In the order in which they are used.
    pictures: tuple[LabelledPicture, ...]
    # One line per kind of thing that was left out.
    left_out: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The label of each image."""
        return [picture.label for picture in self.pictures]


def read_folder(folder: Path, seed: int = 0) -> LabelledSource:
    """List the images in the subfolders of ``folder``, in an order shuffled by ``seed``.

    Raises:
        InvalidValue: It is not a folder, or there are no images in it.
    """
    if not folder.is_dir():
        raise InvalidValue(
            f"{folder} is {'a file' if folder.exists() else 'no folder'}; accepted: a folder with "
            f"a subfolder a class, each with {', '.join(PICTURE_SUFFIXES)} files"
        )
    return LabelledSource(
        name=str(folder),
        pictures=tuple(labelled_folder(folder, seed)),
        left_out=tuple(left_out_of(folder)),
    )


def read_bag(
    path: Path,
    topic: str,
    label_topic: str,
    every: int = 1,
    camera: CameraSettings | None = None,
) -> LabelledSource:
    """Read every ``every``-th labelled image of a bag's image topic into memory, compressed.

    Images are rectified and cut to the region of interest as ``camera``, of this topic, says.

    Raises:
        BagError: The bag cannot be read, or lacks the CameraInfo.
        InvalidValue: No image has a label.
    """
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise BagError(
            f"{path} is no rosbag2 folder, it has no metadata.yaml; accepted: {ACCEPTED}"
        )
    with BagReader(path) as bag:
        views = recorded_views([camera] if camera else [], bag).get(topic, (None,))
        pictures = tuple(
            map(
                partial(_compressed, view=views[0]),
                labelled_frames(bag=bag, image_topic=topic, label_topic=label_topic, every=every),
            )
        )
        offered = -(-bag.count(topic) // every)
        undecodable = bag.undecodable[topic]
        is_video = bag.type_of(topic) in VIDEO_TYPES
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
    why = "give no picture, or come" if is_video else "come"
    early = [f"{missing} images {why} before the first label"] if missing else []
    return LabelledSource(name=path.name, pictures=pictures, left_out=(*early, *left_out))


def _compressed(picture: LabelledPicture, view: RecordedView | None) -> LabelledPicture:
    """Replace a raw frame by a PNG, so that a bag's images fit in memory: a raw one takes 1 MB.

    With ``view`` any frame is replaced, by what the network sees of it.
    """
    message = picture.load()
    if hasattr(message, "format") and view is None:
        return picture
    try:
        image = decode(message)
        image = view(image) if view else image
    except BadInput as error:
        return replace(picture, load=partial(_refuse, error))
    bgr = np.ascontiguousarray(image.pixels[..., ::-1])
    _, png = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    held = EncodedPicture(
        data=png.tobytes(), format="png", stamp_ns=image.stamp_ns, frame_id=image.frame_id
    )
    return replace(picture, load=lambda: held)


def _refuse(error: BadInput) -> NoReturn:
    raise error


def content_sha256(encoded: Any) -> str:
    """Return the digest of what an encoded image shows: its bytes, and how they are read.

    ``encoded`` is an :class:`EncodedPicture` or a CompressedImage message.
    """
    digest = hashlib.sha256(encoded.format.encode() + b"\0")
    digest.update(memoryview(encoded.data))
    return digest.hexdigest()


def decode(encoded: Any) -> RgbImage:
    """Decode an :class:`EncodedPicture`, an Image or CompressedImage message, or a picture of a
    video.

    Raises:
        BadInput: It cannot be decoded, for whatever reason.
    """
    try:
        if isinstance(encoded, EncodedPicture):
            return encoded.decoded()
        if isinstance(encoded, VideoPicture):
            return encoded()
        return decode_compressed(encoded) if hasattr(encoded, "format") else decode_image(encoded)
    except BadInput:
        raise
    except Exception as error:  # OpenCV's own errors
        raise BadInput("decode", f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, eq=False)
class Unreadable:
    """An image that cannot be used, and why."""

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images that can all be decoded."""

    # Those that can be decoded.
    items: tuple[LabelledPicture, ...]
    # Those that cannot.
    unreadable: tuple[Unreadable, ...]
    # Digest of all names, labels and contents, in their order.
    sha256: str
    # Decoded images, as far as they fit.
    cache: "DecodedCache"

    @property
    def labels(self) -> list[str]:
        """The label of each image."""
        return [item.label for item in self.items]

    @property
    def stretches(self) -> list[int]:
        """The stretch of each image."""
        return [item.stretch for item in self.items]

    def decoded(self, index: int) -> RgbImage:
        """Decode image ``index``, or take it from the cache.

        Raises:
            BadInput, OSError: Its file has gone since it was checked.
        """
        return self.cache.get(self.items[index])


class DecodedCache:
    """Decoded images, kept as long as they take at most ``budget_bytes`` together."""

    def __init__(self, budget_bytes: int = KEPT_DECODED_BYTES):
        self._left_bytes = budget_bytes
        self._kept: dict[str, RgbImage] = {}
        self._lock = threading.Lock()

    def get(self, picture: LabelledPicture) -> RgbImage:
        """Return the decoded image; it is kept if there is room."""
        image = self._kept.get(picture.name)
        if image is None:
            image = decode(picture.load())
            self.keep(picture.name, image)
        return image

    def keep(self, name: str, image: RgbImage) -> None:
        """Keep ``image`` if there is room."""
        with self._lock:
            if name not in self._kept and image.pixels.nbytes <= self._left_bytes:
                self._left_bytes -= image.pixels.nbytes
                # A copy: the pixels may be a view of a message that is three times their size.
                self._kept[name] = replace(image, pixels=np.ascontiguousarray(image.pixels))


class _Checked(NamedTuple):
    """What came of one image: the digest of its content, or why it cannot be read."""

    content: str
    why: str


def check_all(
    pictures: Iterable[LabelledPicture],
    workers: int = 2,
    advance: Callable[[], None] = lambda: None,
    budget_bytes: int = KEPT_DECODED_BYTES,
) -> Pictures:
    """Decode every image once, so that unreadable ones are named before an hour of training.

    ``advance`` is called once per image.

    Raises:
        InvalidValue: None can be read.
    """
    pictures = tuple(pictures)
    cache = DecodedCache(budget_bytes)

    def check(picture: LabelledPicture) -> _Checked:
        try:
            encoded = picture.load()
            cache.keep(picture.name, decode(encoded))
            return _Checked(content=content_sha256(encoded), why="")
        except (BadInput, OSError) as error:
            return _Checked(content="", why=str(error))
        finally:
            advance()

    with ThreadPoolExecutor(workers) as pool:
        checked = list(pool.map(check, pictures))
    good = []
    bad = []
    digest = hashlib.sha256()
    for picture, (content, why) in zip(pictures, checked):
        if why:
            bad.append(Unreadable(picture.name, why))
            continue
        good.append(picture)
        digest.update(f"{picture.name}\0{picture.label}\0{content}\n".encode())
    if not good:
        raise InvalidValue(
            f"none of {len(pictures)} pictures can be read; the first: {bad[0].name}: {bad[0].why}"
            if bad
            else "there are no pictures; accepted: at least two of each of two classes"
        )
    return Pictures(
        items=tuple(good), unreadable=tuple(bad), sha256=digest.hexdigest(), cache=cache
    )


def thin_classes(labels: Sequence[str]) -> list[str]:
    """Return a line for each class of a single image, which is trained on and never tested on."""
    return [
        f"class {name} has one picture: it is trained on, none is held out"
        for name, count in sorted(Counter(labels).items())
        if count == 1
    ]
