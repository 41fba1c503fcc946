"""Labelled images for `vit-perception fit`: from a bag, or a folder with a subfolder a class."""

import bisect
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vit_perception.config.cameras.transports import NAMES
from vit_perception.files.errors import InvalidValue
from vit_perception.image.folder_files import files_below, hidden_below, is_hidden
from vit_perception.image.picture_files import PICTURE_SUFFIXES, is_picture_name, read_picture
from vit_perception.image.video.recorded import NoImage, images_of
from vit_perception.recordings.reader import BagError, BagReader

_log = logging.getLogger(__name__)
LABEL_TYPE = "std_msgs/msg/String"


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One image and its label, not read yet."""

    # Unique within its source, and shown to people.
    name: str
    # The class.
    label: str
    # The number of the run of consecutive frames with one label that it belongs to, from 0.
    stretch: int
    # Gives an EncodedPicture of a file, or of a bag an Image or CompressedImage message, or a
    # VideoPicture. A file is read when this is called, so that a folder of any size can be listed.
    # Raises BadInput or OSError.
    load: Callable[[], Any]


def labelled_frames(
    bag: BagReader, image_topic: str, label_topic: str, every: int = 1
) -> Iterator[LabelledPicture]:
    """Yield every ``every``-th image of the bag with the latest label at or before it.

    Images before the first label are left out. ``label_topic`` is a std_msgs/String without a
    header, so the times of recording are compared.

    Raises:
        BagError: ``image_topic`` holds no images.
    """
    if (kind := bag.type_of(image_topic)) not in NAMES:
        raise BagError(
            f"{bag.path}: {image_topic} is recorded as {kind}; accepted: {', '.join(NAMES)}"
        )
    labels: list[str] = []
    stamps_ns: list[int] = []
    for _, stamp_ns, message in bag.messages({label_topic: LABEL_TYPE}):
        # A label may be repeated a thousand times a second: only changes are kept.
        if not labels or message.data != labels[-1]:
            labels.append(message.data)
            stamps_ns.append(stamp_ns)
    stretch = -1
    previous = None
    index = -1
    refused: set[str] = set()
    for image in images_of(bag, image_topic):
        if isinstance(image, NoImage):
            if image.reason not in refused:
                refused.add(image.reason)
                _log.warning("%s: %s: %s", bag.path, image.reason, image.text)
            continue
        index += 1
        stamp_ns = image.recorded_ns
        at = bisect.bisect_right(stamps_ns, stamp_ns) - 1
        if at < 0:
            continue
        if labels[at] != previous:
            previous = labels[at]
            stretch += 1
        if index % every == 0:
            yield LabelledPicture(
                name=f"{bag.path.name}:{image_topic}@{stamp_ns}",
                label=labels[at],
                stretch=stretch,
                load=partial(_given, image.message),
            )


def labelled_folder(folder: Path, seed: int = 0) -> Iterator[LabelledPicture]:
    """Yield the images below ``folder/<label>/``, shuffled by ``seed``; a label is one stretch.

    Raises:
        InvalidValue: There are none.
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
                name=str(file.relative_to(folder)),
                label=label,
                stretch=stretch,
                load=partial(read_picture, file),
            )


def left_out_of(folder: Path) -> list[str]:
    """Return a line for each kind of thing that ``labelled_folder`` leaves out.

    These are classes without images, other files, hidden files, and links to the folder itself.
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
    """Return all files below each subfolder, at any depth, sorted by name.

    Files that are hidden or kept by a program are left out.
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
    """Whether ``entry`` of ``folder`` is a link to ``folder`` or a folder above it.

    Its images would be those of all classes.
    """
    return (
        entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve())
    )


def _given(message: Any) -> Any:
    return message
