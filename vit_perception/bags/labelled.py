"""Labelled pictures for `vit-perception fit`: stretches of a bag, or a folder with a subfolder a class."""

import bisect
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vit_perception.bags.reader import BagReader
from vit_perception.model.heads import features_of
from vit_perception.pipeline import Pipeline

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """One image message and its label. ``stretch`` numbers the run of frames that it belongs to."""

    message: Any
    label: str
    stretch: int


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
            yield LabelledPicture(message, label, stretch)


def labelled_folder(folder: Path, seed: int = 0) -> Iterator[LabelledPicture]:
    """JPEG and PNG files in ``folder/<label>/``, in an order shuffled by ``seed``; a label is one stretch.

    Raises ValueError naming the folder when it has no such files.
    """
    labels = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    files = {label: sorted(f for f in (folder / label).iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
             for label in labels}
    if not any(files.values()):
        raise ValueError(f"{folder} holds no pictures; accepted: a folder with a subfolder a class, each with "
                         f"{', '.join(PICTURE_SUFFIXES)} files")
    for stretch, label in enumerate(labels):
        random.Random(seed).shuffle(files[label])
        for file in files[label]:
            yield LabelledPicture(_picture_message(file), label, stretch)


def _picture_message(file: Path) -> Any:
    """A file as what a camera would send; files have no time, and 1 ns is the earliest valid stamp."""
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=1), frame_id=file.name)
    return SimpleNamespace(header=header, format=file.suffix[1:].lower(), data=file.read_bytes())


def encode_labelled(pipeline: Pipeline, pictures: Iterable[LabelledPicture], feature: str,
                    advance: Callable[[], None] = lambda: None) -> tuple[np.ndarray, list[str], list[int]]:
    """Features (n, F) float32 of each picture through ``pipeline``'s one camera, with labels and stretches.

    Raises BadInput, with the picture's own words, for one that cannot be decoded.
    """
    (camera,) = pipeline.settings.cameras
    rows, labels, stretches = [], [], []
    for picture in pictures:
        prepared = pipeline.prepare({camera.name: picture.message})
        for error in prepared.refused.values():
            raise type(error)(error.reason, f"{picture.message.header.frame_id}: {error}")
        output = pipeline.encode(prepared)
        # A copy: the engine's arrays hold only until its next run.
        rows.append(np.array(features_of(output.cls_token[0], output.patch_tokens[0], feature), np.float32))
        labels.append(picture.label)
        stretches.append(picture.stretch)
        advance()
    return np.array(rows), labels, stretches
