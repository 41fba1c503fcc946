"""How much of a rotation the patch tokens show, measured on pictures that were turned.

Tokens answer less to half a patch than to a whole one, and a rotation moves few patches by a whole
one: DINOv2 ViT-S/14 shows a third to a half of it. How much is a property of encoder and scene, and
the features of a camera that stands still do not tell it. So pictures of a recording are turned by
known angles and encoded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.opencv import cv2
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.reference import CameraReference
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader, Undecodable
from vit_perception.tokens.camera import TYPES
from vit_perception.wire.records import BadInput, RgbImage

ANGLES_DEG = (-4.0, -2.0, 2.0, 4.0)
PICTURES = 8
LEAST_GAIN, MOST_GAIN = 0.5, 5.0


def with_rotation_gain(
    cameras: Mapping[str, CameraReference], pipeline: Pipeline, recording: Path
) -> dict[str, CameraReference]:
    """Return ``cameras`` with the gain that turned pictures of ``recording`` show.

    It encodes ``PICTURES`` times four images of each camera.

    Raises:
        InvalidValue: A camera has no usable picture in the recording, or is rectified.
        BagError: The recording cannot be read.
    """
    measured = dict(cameras)
    for name, reference in cameras.items():
        if not reference.has_background:
            continue
        measured[name] = with_gain_on(reference, turned(pipeline, recording, name))
    return measured


def turned(pipeline: Pipeline, recording: Path, name: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield angles in degrees and the patch tokens (P, D) of a camera's pictures turned by them.

    The angles of a picture are ``ANGLES_DEG``.
    """
    for image in pictures_of(pipeline, recording, name):
        for angle_deg in ANGLES_DEG:
            yield angle_deg, encoded(pipeline, name, moved(image, rotation_deg=angle_deg))


def with_gain_on(
    reference: CameraReference, pictures: Iterable[tuple[float, np.ndarray]]
) -> CameraReference:
    """Return ``reference`` with the gain that ``pictures``, those of :func:`turned`, show."""
    monitor = CameraMonitor(replace(reference, rotation_gain=1.0))
    found = []
    for angle_deg, tokens in pictures:
        if shift := monitor(tokens).shift:
            found.append((angle_deg, shift.rotation_deg))
    return replace(reference, rotation_gain=gain_of(found))


def gain_of(found: list[tuple[float, float]]) -> float:
    """Return the factor from rotations that were found to the true ones; 1 if none was found.

    ``found`` has pairs (true, found) in degrees. It is the median of the ratios.
    """
    ratios = [shown / true for true, shown in found]
    ratio = float(np.median(ratios)) if ratios else 1.0
    return float(np.clip(1 / ratio, LEAST_GAIN, MOST_GAIN)) if ratio > 0 else 1.0


def moved(
    image: RgbImage, x_px: float = 0.0, y_px: float = 0.0, rotation_deg: float = 0.0
) -> RgbImage:
    """Return ``image`` moved by so many px and turned clockwise about its centre.

    Pixels from beyond the edges repeat the edge.
    """
    height, width = image.size
    # Pixel centres are whole numbers here, and the centre of the image is half a pixel off.
    centre = ((width - 1) / 2, (height - 1) / 2)
    move = cv2.getRotationMatrix2D(centre, -rotation_deg, 1.0)
    move[:, 2] += x_px, y_px
    pixels = cv2.warpAffine(
        np.ascontiguousarray(image.pixels),
        move,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return RgbImage(pixels, image.stamp_ns, image.frame_id)


def pictures_of(pipeline: Pipeline, recording: Path, name: str) -> list[RgbImage]:
    """Return up to ``PICTURES`` images of a camera, evenly spread over the recording."""
    camera = next(c for c in pipeline.settings.cameras if c.name == name)
    if camera.rectify:
        raise InvalidValue(
            f"camera {name} is rectified; accepted: cameras without cameras.{name}.rectify"
        )
    found = []
    with BagReader(recording) as bag:
        wanted = set(np.linspace(0, bag.count(camera.topic) - 1, PICTURES + 2).astype(int)[1:-1])
        kind = TYPES[camera.transport]
        for number, message in _numbered(bag, camera.topic, kind):
            if number in wanted and not isinstance(message, Undecodable):
                decode = decode_compressed if camera.transport == "compressed" else decode_image
                try:
                    found.append(decode(message))
                except BadInput:
                    continue
    if not found:
        raise InvalidValue(f"{recording} has no image on {camera.topic}; accepted: its recording")
    return found


def _numbered(bag: BagReader, topic: str, kind: str) -> Iterator[tuple[int, object]]:
    for number, (_, _, message) in enumerate(bag.messages({topic: kind})):
        yield number, message


def encoded(pipeline: Pipeline, camera: str, image: RgbImage) -> np.ndarray:
    """Return the patch tokens (P, D) of one image; the other cameras are black."""
    prepared = pipeline.prepare({camera: image})
    if refusal := prepared.refused.get(camera):
        raise InvalidValue(f"an image of camera {camera} cannot be used: {refusal}")
    row = [each.name for each in pipeline.settings.cameras].index(camera)
    tokens: np.ndarray = pipeline.encode(prepared).patch_tokens[row].copy()
    return tokens
