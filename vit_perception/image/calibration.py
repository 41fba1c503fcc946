"""Images that int8 is calibrated on, from a recording or a folder of pictures.

Both are read as ``embed`` reads them: the same reader of bags, the same list of pictures, the same
checks.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_perception.config.settings import BadSetting
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.picture_files import pictures_below, read_picture
from vit_perception.recordings.reader import BagError, BagReader, Undecodable
from vit_perception.wire.records import BadInput, RgbImage

if TYPE_CHECKING:
    from vit_perception.image.preprocess import Preprocessor

IMAGES = 64
_DECODE = {
    "sensor_msgs/msg/Image": decode_image,
    "sensor_msgs/msg/CompressedImage": decode_compressed,
}
_ACCEPTED = "a rosbag2 folder with colour image topics, or a folder of pictures"


def calibration_images(path: str, preprocess: "Preprocessor", count: int = IMAGES) -> np.ndarray:
    """At most ``count`` images (n, 3, H, W) uint8 as the encoder gets them, the same ones at each
    call.

    ``path`` is a recording, of which every topic with images gives its share, spread over the
    recording, or a folder with pictures, at any depth. What no encoder takes (depth, masks, damaged
    images) is left out. Raises BadSetting, with ``path`` and what is accepted, when nothing is left
    or ``path`` cannot be read.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; this is no folder")
    is_recording = place.is_file() or (place / "metadata.yaml").exists()
    images, why_not = [], "it holds no images"
    for decode, message in (
        _recorded(place, path, count) if is_recording else _pictures(place, count)
    ):
        try:
            images.append(preprocess(_decoded(decode, message)).numpy())
        except BadInput as error:
            why_not = f"no image of it can be used, the last because {error}"
    if not images:
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {why_not}")
    return np.stack(images[:count])


def _recorded(place: Path, path: str, count: int) -> Iterator[tuple[Any, Any]]:
    """(how it is decoded, message) of each image topic's share."""
    try:
        with BagReader(place) as bag:
            topics = [
                topic
                for topic, kind in sorted(bag.topics.items())
                if kind in _DECODE and bag.count(topic)
            ]
            for topic in topics:
                chosen = _spread(bag.count(topic), -(-count // len(topics)))
                decode = _DECODE[bag.type_of(topic)]
                for index, (_, _, message) in enumerate(bag.messages([topic], tell=[topic])):
                    if index in chosen:
                        yield decode, message
    except BagError as error:
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {error}") from error


def _pictures(folder: Path, count: int) -> Iterator[tuple[Any, Any]]:
    """(how it is read, file) of files spread over the folder's in order of their names."""
    files = pictures_below(folder)
    for index in sorted(_spread(len(files), count)):
        yield _picture, files[index]


def _picture(file: Path) -> RgbImage:
    return read_picture(file).decoded()


def _decoded(decode: Any, message: Any) -> RgbImage:
    if isinstance(message, Undecodable):
        raise BadInput("short_data", message.text)
    return decode(message)


def _spread(length: int, count: int) -> set[int]:
    """At most ``count`` of ``length`` indices, the first and the last among them."""
    return (
        set(np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist())
        if length
        else set()
    )
