"""Images for the calibration of int8, from a recording or a folder of image files.

Both are read as ``embed`` reads them: by the same reader, and with the same checks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_perception.config.cameras.transports import VIDEO_TYPES
from vit_perception.config.settings import BadSetting
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.picture_files import pictures_below, read_picture
from vit_perception.image.video.decoder import VideoPicture
from vit_perception.image.video.recorded import NoImage, images_of
from vit_perception.recordings.reader import BagError, BagReader
from vit_perception.wire.records import BadInput, RgbImage

if TYPE_CHECKING:
    from vit_perception.image.preprocess import Preprocessor

IMAGES = 64
# What the network sees of the images of a topic, one a camera, by topic; none: all of them.
Views = Mapping[str, Sequence[Callable[[RgbImage], RgbImage]]]
_DECODE = {
    "sensor_msgs/msg/Image": decode_image,
    "sensor_msgs/msg/CompressedImage": decode_compressed,
    **dict.fromkeys(VIDEO_TYPES, VideoPicture.__call__),
}
_ACCEPTED = "a rosbag2 folder with colour image topics, or a folder of pictures"


def calibration_images(
    path: str,
    preprocess: "Preprocessor",
    count: int = IMAGES,
    views_of: Callable[[BagReader], Views] = lambda bag: {},
) -> np.ndarray:
    """Return at most ``count`` images (n, 3, H, W) uint8 as the encoder gets them.

    ``path`` is a recording, of which every topic with images gives its share, spread over the
    recording, or a folder with image files, at any depth. Images that no encoder takes (depth,
    masks, damaged ones) are left out. Each call returns the same ones. ``views_of`` gives the views
    of the cameras in a recording, such as rectified images and regions of interest.

    Raises:
        BadSetting: no image is left, or ``path`` cannot be read.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; this is no folder")
    is_recording = place.is_file() or (place / "metadata.yaml").exists()
    images = []
    why_not = "it holds no images"
    given = _recorded(place, path, count, views_of) if is_recording else _pictures(place, count)
    for decode, message in given:
        try:
            images.append(preprocess(_decoded(decode, message)).numpy())
        except BadInput as error:
            why_not = f"no image of it can be used, the last because {error}"
    if not images:
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {why_not}")
    return np.stack(images[:count])


def _recorded(
    place: Path, path: str, count: int, views_of: Callable[[BagReader], Views]
) -> Iterator[tuple[Any, Any]]:
    """Yield the decoder and the message of each image of every topic's share."""
    try:
        with BagReader(place) as bag:
            topics = [t for t in sorted(bag.topics.values()) if t.type_name in _DECODE and t.count]
            views = views_of(bag)
            shares = sum(len(views.get(topic.name, (None,))) for topic in topics)
            for topic in topics:
                chosen = _spread(topic.count, -(-count // shares))
                decode = _DECODE[topic.type_name]
                decoders: list[Callable[[Any], RgbImage]] = [
                    partial(_seen, decode, view) for view in views.get(topic.name, ())
                ]
                for index, image in enumerate(images_of(bag, topic.name, tell=[topic.name])):
                    if index in chosen:
                        for each in decoders or [decode]:
                            yield each, image if isinstance(image, NoImage) else image.message
    except BagError as error:
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {error}") from error


def _seen(decode: Any, view: Callable[[RgbImage], RgbImage], message: Any) -> RgbImage:
    return view(decode(message))


def _pictures(folder: Path, count: int) -> Iterator[tuple[Any, Any]]:
    """Yield the reader and the path of files, spread over the folder's in order of their names."""
    files = pictures_below(folder)
    for index in sorted(_spread(len(files), count)):
        yield _picture, files[index]


def _picture(file: Path) -> RgbImage:
    return read_picture(file).decoded()


def _decoded(decode: Any, message: Any) -> RgbImage:
    if isinstance(message, NoImage):
        raise BadInput(message.reason, message.text)
    return decode(message)


def _spread(length: int, count: int) -> set[int]:
    """Return at most ``count`` of ``length`` indices, with the first and the last."""
    indices = np.linspace(0, max(0, length - 1), min(count, length))
    return set(indices.round().astype(int).tolist())
