"""Labelled pictures for `vit-perception fit`: stretches of a bag, or a folder with a subfolder a class."""

import bisect
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from vit_perception.bags.reader import BagReader
from vit_perception.errors import InvalidValue
from vit_perception.image.decode import MAX_COMPRESSED_PX
from vit_perception.image.folder_files import files_below, hidden_below, is_hidden
from vit_perception.types import BadInput

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture and its label. ``stretch`` numbers the run of frames that it belongs to.

    ``load`` gives the message that a camera would send (sensor_msgs/Image or CompressedImage, or an object with
    their fields); for a file it reads the file, so that a folder of any size can be listed.
    """

    name: str
    label: str
    stretch: int
    load: Callable[[], Any]

    @property
    def message(self) -> Any:
        """The image message. Raises BadInput or OSError where the file cannot be read."""
        return self.load()


def labelled_frames(bag: BagReader, image_topic: str, label_topic: str, every: int = 1) -> Iterator[LabelledPicture]:
    """Every ``every``-th image of the bag, with the latest label at or before it; unlabelled ones are left out.

    ``label_topic`` is a std_msgs/String: it has no header, so the times of recording are compared.
    """
    labels = [(stamp_ns, message.data) for _, stamp_ns, message in bag.messages([label_topic])]
    stamps_ns = [stamp_ns for stamp_ns, _ in labels]
    stretch, previous = -1, None
    for index, (_, stamp_ns, message) in enumerate(bag.messages([image_topic])):
        at = bisect.bisect_right(stamps_ns, stamp_ns) - 1
        if at < 0:
            continue
        label = labels[at][1]
        if label != previous:
            stretch, previous = stretch + 1, label
        if index % every == 0:
            yield LabelledPicture(f"{bag.path.name}:{image_topic}@{stamp_ns}", label, stretch,
                                  partial(_given, message))


def labelled_folder(folder: Path, seed: int = 0) -> Iterator[LabelledPicture]:
    """The pictures below ``folder/<label>/``, in an order shuffled by ``seed``; a label is one stretch.

    Raises ValueError naming the folder when it has no such files.
    """
    files = {label: [f for f in below if f.suffix.lower() in PICTURE_SUFFIXES]
             for label, below in _files_by_label(folder).items()}
    if not any(files.values()):
        raise InvalidValue(f"{folder} holds no pictures; accepted: a folder with a subfolder a class, each with "
                           f"{', '.join(PICTURE_SUFFIXES)} files")
    for stretch, label in enumerate(files):
        random.Random(seed).shuffle(files[label])
        for file in files[label]:
            yield LabelledPicture(str(file.relative_to(folder)), label, stretch, partial(picture_message, file))


def left_out_of(folder: Path) -> list[str]:
    """What ``labelled_folder`` takes no notice of, a line each: classes without a picture, and other files."""
    files = _files_by_label(folder)
    others = [f for below in files.values() for f in below if f.suffix.lower() not in PICTURE_SUFFIXES]
    others += [f for f in folder.iterdir() if f.is_file() and not is_hidden(f.name)]
    lines = [f"class {label} has no pictures" for label, below in files.items()
             if not any(f.suffix.lower() in PICTURE_SUFFIXES for f in below)]
    if others:
        endings = Counter(f.suffix.lower() or f.name for f in others)
        lines.append(f"{len(others)} other files are left out: "
                     + ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5)))
    if hidden := hidden_below(folder):
        lines.append(f"{hidden} hidden files are left out, or files of folders that are hidden or kept by a program")
    lines += [f"{name} is no class: it is a link to a folder that holds the classes"
              for name in sorted(p.name for p in folder.iterdir() if _is_loop(folder, p))]
    return lines


def _files_by_label(folder: Path) -> dict[str, list[Path]]:
    """All files below each subfolder, at any depth, sorted by name; nothing that is hidden or kept by a program."""
    labels = sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name)
                    and not _is_loop(folder, p)) if folder.is_dir() else []
    return {label: files_below(folder / label) for label in labels}


def _is_loop(folder: Path, entry: Path) -> bool:
    """Whether ``entry`` of ``folder`` is a link to ``folder`` or a folder above it: its pictures are all pictures."""
    return entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve())


def _given(message: Any) -> Any:
    return message


def picture_message(file: Path) -> Any:
    """A file as what a camera would send; files have no time, and 1 ns is the earliest valid stamp."""
    data, form = file.read_bytes(), file.suffix[1:].lower()
    if form in ("bmp", "webp"):
        data, form = _as_png(data, file), "png"
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=1), frame_id=file.name)
    return SimpleNamespace(header=header, format=form, data=data)


def _as_png(data: bytes, file: Path) -> bytes:
    """BMP and WebP are no formats of a CompressedImage, PNG is, and it loses nothing."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("BMP", "WEBP")) as picture:
            # Before the pixels are decoded: a file of a few kB can declare gigabytes of them.
            if picture.width * picture.height > MAX_COMPRESSED_PX:
                raise BadInput("size", f"{file} is {picture.height} x {picture.width} px; accepted: "
                                       f"{MAX_COMPRESSED_PX} px in all")
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput("decode", f"{len(data)} bytes of {file.suffix} do not decode: {error}") from error
    return cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
