"""Random changes of a picture for training: coloured blobs, brightness, colour gains, crops.

A change is a row of ``NUMBERS`` numbers, drawn from a seeded generator (:func:`drawn`) and applied
to a picture (:func:`applied`). The row is complete: applied to the same picture it gives the same
bytes, so a CNN can be trained on the pictures that the tokens of `embed` were made from.

Strengths are those with which a policy on tokens kept its success under other light, on other
tables and among distractors of the object's own colour. Crops and exchanged channels are off: a
crop moves everything in the picture and not the robot's pose, and a policy on pictures whose
channels are exchanged no longer tells the object by its colour.
"""

from dataclasses import dataclass, fields
from itertools import permutations

import numpy as np

from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.image.opencv import cv2

# Raise it if the same seed gives other pictures: runs that are begun are then not continued.
VERSION = 1
MOST_BLOBS = 8
# Where each part of a row is.
GAINS = slice(0, 3)  # factor of red, green and blue
ORDER = 3  # index into CHANNEL_ORDERS
CROP = slice(4, 8)  # top, left, height, width of what is kept, as shares of the picture
FIRST_BLOB = 8
# Of a blob, as shares of the picture's height and width: centre y and x; of the shorter side: half
# axes (both 0: no blob); angle in degrees; red, green, blue from 0 to 255.
BLOB_NUMBERS = 8
NUMBERS = FIRST_BLOB + MOST_BLOBS * BLOB_NUMBERS
CHANNEL_ORDERS = tuple(permutations(range(3)))
HALF_AXES = (0.02, 0.1)
_FIXED_POINT_BITS = 4  # of OpenCV's places: a sixteenth of a pixel


@dataclass(frozen=True)
class Strengths:
    """How much pictures are changed.

    Raises:
        InvalidValue: A value is not accepted.
    """

    # The range of the factor of brightness.
    darkest: float = 0.4
    brightest: float = 1.4
    # The factor of each colour channel is 1 plus or minus at most this.
    channel: float = 0.25
    # The largest number of coloured ellipses in a picture.
    blobs: int = 4
    # The largest share of height and width that is cut off; the rest is resized to the whole.
    crop: float = 0.0
    # The share of pictures whose colour channels are exchanged.
    exchange: float = 0.0

    def __post_init__(self):
        accepted = {
            "darkest": (0.0, self.brightest),
            "brightest": (self.darkest, 10.0),
            "channel": (0.0, 0.95),
            "blobs": (0, MOST_BLOBS),
            "crop": (0.0, 0.5),
            "exchange": (0.0, 1.0),
        }
        for name, (low, high) in accepted.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidValue(
                    f" has {name}={value}; accepted: {low} to {high}", argument="augment_strength"
                )

    @classmethod
    def parsed(cls, texts: list[str]) -> "Strengths":
        """Return the strengths of texts such as ``blobs=2``; those that are not given stay.

        Raises:
            InvalidValue: A text names no strength, or its value is not accepted.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        given: dict[str, float] = {}
        for text in texts:
            name, _, value = text.partition("=")
            if name not in kinds:
                raise InvalidValue(
                    f" has {text!r}; accepted: NAME=VALUE with a name of {', '.join(kinds)}",
                    argument="augment_strength",
                    hint=nearest(name, kinds),
                )
            try:
                given[name] = int(value) if kinds[name] in (int, "int") else float(value)
            except ValueError:
                raise InvalidValue(
                    f" has {text!r}; accepted: a number", argument="augment_strength"
                ) from None
        return cls(**given)


def unchanged() -> np.ndarray:
    """Return the row of numbers, (NUMBERS,) float32, that changes nothing."""
    numbers = np.zeros(NUMBERS, np.float32)
    numbers[GAINS] = 1.0
    numbers[CROP] = (0.0, 0.0, 1.0, 1.0)
    return numbers


def drawn(strengths: Strengths, generator: np.random.Generator) -> np.ndarray:
    """Return a random row of numbers, (NUMBERS,) float32.

    Everything is drawn whether it is used or not: one strength does not change what others draw.
    """
    numbers = unchanged()
    brightness = generator.uniform(strengths.darkest, strengths.brightest)
    numbers[GAINS] = brightness * (1.0 + strengths.channel * generator.uniform(-1.0, 1.0, 3))
    exchanged = generator.random() < strengths.exchange
    order = generator.integers(1, len(CHANNEL_ORDERS))
    numbers[ORDER] = order if exchanged else 0
    kept = 1.0 - strengths.crop * generator.random()
    numbers[CROP] = (*((1.0 - kept) * generator.random(2)), kept, kept)
    count = generator.integers(strengths.blobs + 1)
    blobs = np.column_stack(
        [
            generator.random((MOST_BLOBS, 2)),
            generator.uniform(*HALF_AXES, (MOST_BLOBS, 2)),
            generator.uniform(0.0, 180.0, MOST_BLOBS),
            generator.integers(0, 256, (MOST_BLOBS, 3)),
        ]
    )
    blobs[count:] = 0.0
    numbers[FIRST_BLOB:] = blobs.reshape(-1)
    return numbers


def applied(pixels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the picture ``pixels``, (H, W, 3) uint8 RGB, changed by ``numbers``.

    Size and type stay. It is cropped, then blobs are drawn, then channels are exchanged and
    multiplied, so that light falls on blobs as on the rest. It takes about 2 ms a megapixel.
    """
    height, width = pixels.shape[:2]
    top, left, kept_height, kept_width = numbers[CROP].astype(np.float64)
    rows = max(1, round(kept_height * height))
    columns = max(1, round(kept_width * width))
    y = min(round(top * height), height - rows)
    x = min(round(left * width), width - columns)
    picture = np.array(pixels[y : y + rows, x : x + columns], order="C")
    if (rows, columns) != (height, width):
        # The exact form: the same bytes on every machine.
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    for blob in numbers[FIRST_BLOB:].reshape(MOST_BLOBS, BLOB_NUMBERS).astype(np.float64):
        _draw(picture, blob)
    gains = numbers[GAINS].astype(np.float64)
    order = CHANNEL_ORDERS[int(numbers[ORDER])]
    if order == CHANNEL_ORDERS[0] and (gains == 1.0).all():
        return picture
    table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(picture[:, :, order]), table[None])


def _draw(picture: np.ndarray, blob: np.ndarray) -> None:
    """Draw one filled ellipse into ``picture``."""
    height, width = picture.shape[:2]
    if not blob[2:4].any():
        return
    scale = 1 << _FIXED_POINT_BITS
    axes = np.maximum(1.0, blob[2:4] * min(height, width))
    cv2.ellipse(
        picture,
        center=(round(blob[1] * width * scale), round(blob[0] * height * scale)),
        axes=(round(axes[0] * scale), round(axes[1] * scale)),
        angle=blob[4],
        startAngle=0.0,
        endAngle=360.0,
        color=tuple(map(float, blob[5:8])),
        thickness=cv2.FILLED,
        lineType=cv2.LINE_8,
        shift=_FIXED_POINT_BITS,
    )
