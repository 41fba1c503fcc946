"""Labelled pictures for `vit-perception fit`: stretches of a bag, or a folder with a subfolder a
class.
"""

import bisect
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vit_perception.config.offline_settings import IMAGE_TYPES
from vit_perception.files.errors import InvalidValue
from vit_perception.image.folder_files import files_below, hidden_below, is_hidden
from vit_perception.image.picture_files import PICTURE_SUFFIXES, is_picture_name, picture_message
from vit_perception.recordings.reader import BagError, BagReader

LABEL_TYPE = "std_msgs/msg/String"


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One picture and its label. ``stretch`` numbers the run of frames that it belongs to.

    ``load`` gives the message that a camera would send (sensor_msgs/Image or CompressedImage, or an
    object with their fields); for a file it reads the file, so that a folder of any size can be
    listed.
    """

    name: str
    label: str
    stretch: int
    load: Callable[[], Any]

    @property
    def message(self) -> Any:
        """The image message. Raises BadInput or OSError where the file cannot be read."""
        return self.load()


def labelled_frames(
    bag: BagReader, image_topic: str, label_topic: str, every: int = 1
) -> Iterator[LabelledPicture]:
    """Every ``every``-th image of the bag, with the latest label at or before it; unlabelled ones
    are left out.

    ``label_topic`` is a std_msgs/String: it has no header, so the times of recording are compared.
    """
    if (kind := bag.type_of(image_topic)) not in IMAGE_TYPES:
        raise BagError(
            f"{bag.path}: {image_topic} is recorded as {kind}; accepted: {', '.join(IMAGE_TYPES)}"
        )
    labels: list[tuple[int, str]] = []
    for _, stamp_ns, message in bag.messages({label_topic: LABEL_TYPE}):
        if (
            not labels or message.data != labels[-1][1]
        ):  # a label may be said a thousand times a second
            labels.append((stamp_ns, message.data))
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
            yield LabelledPicture(
                f"{bag.path.name}:{image_topic}@{stamp_ns}",
                label,
                stretch,
                partial(_given, message),
            )


def labelled_folder(folder: Path, seed: int = 0) -> Iterator[LabelledPicture]:
    """The pictures below ``folder/<label>/``, in an order shuffled by ``seed``; a label is one
    stretch.

    Raises ValueError naming the folder when it has no such files.
    """
    files = {
        label: [f for f in below if is_picture_name(f)]
        for label, below in _files_by_label(folder).items()
    }
    if not any(files.values()):
        raise InvalidValue(
            f"{folder} holds no pictures; accepted: a folder with a subfolder a class, each with "
            f"{', '.join(PICTURE_SUFFIXES)} files"
        )
    for stretch, label in enumerate(files):
        random.Random(seed).shuffle(files[label])
        for file in files[label]:
            yield LabelledPicture(
                str(file.relative_to(folder)), label, stretch, partial(picture_message, file)
            )


def left_out_of(folder: Path) -> list[str]:
    """What ``labelled_folder`` takes no notice of, a line each: classes without a picture, and
    other files.
    """
    files = _files_by_label(folder)
    others = [f for below in files.values() for f in below if not is_picture_name(f)]
    others += [f for f in folder.iterdir() if f.is_file() and not is_hidden(f.name)]
    lines = [
        f"class {label} has no pictures"
        for label, below in files.items()
        if not any(is_picture_name(f) for f in below)
    ]
    if others:
        endings = Counter(f.suffix.lower() or f.name for f in others)
        lines.append(
            f"{len(others)} other files are left out: "
            + ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
        )
    if hidden := hidden_below(folder):
        lines.append(
            f"{hidden} hidden files are left out, or files of folders that are hidden or kept by a "
            "program"
        )
    lines += [
        f"{name} is no class: it is a link to a folder that holds the classes"
        for name in sorted(p.name for p in folder.iterdir() if _is_loop(folder, p))
    ]
    return lines


def _files_by_label(folder: Path) -> dict[str, list[Path]]:
    """All files below each subfolder, at any depth, sorted by name; nothing that is hidden or kept
    by a program.
    """
    labels = (
        sorted(
            p.name
            for p in folder.iterdir()
            if p.is_dir() and not is_hidden(p.name) and not _is_loop(folder, p)
        )
        if folder.is_dir()
        else []
    )
    return {label: files_below(folder / label) for label in labels}


def _is_loop(folder: Path, entry: Path) -> bool:
    """Whether ``entry`` of ``folder`` is a link to ``folder`` or a folder above it: its pictures
    are all pictures.
    """
    return (
        entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve())
    )


def _given(message: Any) -> Any:
    return message
