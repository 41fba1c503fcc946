"""Images that int8 is calibrated on, from a recording or a folder of pictures.

It stands here, and reads bags through the library ``rosbags`` itself, because engines open below the package
``bags``, whose replay needs a pipeline; decoding and resizing, all that it needs besides, are here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.settings import BadSetting
from vit_perception.types import BadInput, RgbImage

if TYPE_CHECKING:
    from vit_perception.image.preprocess import Preprocessor

IMAGES = 64
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
_DECODE = {"sensor_msgs/msg/Image": decode_image, "sensor_msgs/msg/CompressedImage": decode_compressed}
_ACCEPTED = "a rosbag2 folder with colour image topics, or a folder of JPEG or PNG files"


def calibration_images(path: str, preprocess: "Preprocessor", count: int = IMAGES) -> np.ndarray:
    """At most ``count`` images (n, 3, H, W) uint8 as the encoder gets them, the same ones at each call.

    ``path`` is a rosbag2 folder, of which every topic with images gives its share, spread over the recording, or
    a folder with pictures, at any depth. What no encoder takes (depth, masks, damaged images) is left out.
    Raises BadSetting, with ``path`` and what is accepted, when nothing is left or ``path`` cannot be read.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; this is no folder")
    read = _recorded if (folder / "metadata.yaml").exists() else _pictures
    images, why_not = [], "it holds no images"
    for item in read(folder, path, count):
        try:
            images.append(preprocess(item if isinstance(item, RgbImage) else _DECODE[item[0]](item[1])).numpy())
        except BadInput as error:
            why_not = f"no image of it can be used, the last because {error}"
    if not images:
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {why_not}")
    return np.stack(images[:count])


def _recorded(folder: Path, path: str, count: int) -> Iterator[tuple[str, object]]:
    """(message type, message) of each image topic's share."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore
    try:
        # Recordings of other distributions bring their own definitions along; this is for those that don't.
        with AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_KILTED)) as bag:
            topics = [c for c in bag.connections if c.msgtype in _DECODE and c.msgcount]
            for connection in topics:
                chosen = _spread(connection.msgcount, -(-count // len(topics)))
                for index, (_, _, data) in enumerate(bag.messages([connection])):
                    if index in chosen:
                        yield connection.msgtype, bag.deserialize(data, connection.msgtype)
    except BadSetting:
        raise
    except Exception as error:  # noqa: BLE001 - rosbags raises what its storage libraries do
        raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; reading it fails with "
                         f"{type(error).__name__}: {error}") from error


def _pictures(folder: Path, path: str, count: int) -> Iterator[RgbImage]:
    """Files spread over the folder's in order of their names."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in PICTURE_SUFFIXES)
    chosen = _spread(len(files), count)
    for index, file in enumerate(files):
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR) if index in chosen else None
        if pixels is not None:
            yield RgbImage(pixels[..., ::-1], stamp_ns=0, frame_id=file.name)
        elif index in chosen:
            raise BadSetting("engine.calibration", path, f"{_ACCEPTED}; {file.name} is no whole picture")


def _spread(length: int, count: int) -> set[int]:
    """At most ``count`` of ``length`` indices, the first and the last among them."""
    return set(np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()) if length else set()
