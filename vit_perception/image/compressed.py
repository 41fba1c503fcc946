"""Compressed images, from bytes to pixels, for the node's messages and for the tools' files."""

import logging
import re

import numpy as np

from vit_perception.image.jpeg_file import checked_jpeg
from vit_perception.image.opencv import cv2
from vit_perception.image.picture import MAX_PICTURE_BYTES, PictureFile, damaged
from vit_perception.image.png_file import SIGNATURE, checked_png
from vit_perception.wire.records import BadInput

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

WITHOUT_SIMPLEJPEG = (
    "simplejpeg is not installed: OpenCV decodes JPEG, and one that is damaged inside passes as "
    "whole, with a line that libjpeg prints; pip install simplejpeg"
)
# Webcams fill the last bytes before the end marker; nothing of the image is missing then.
MOST_FILLED_BYTES = 8
_FILLED = re.compile(r"^Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_told: list[str] = []


def checked_picture(data: bytes, image_format: str) -> PictureFile:
    """Check the JPEG or PNG in ``data`` part by part, and put its parts together again.

    ``image_format`` is only for the error.

    Raises:
        BadInput: ``encoding`` (neither JPEG nor PNG), ``short_data``, ``size`` or ``decode``.
    """
    if len(data) > MAX_PICTURE_BYTES:
        raise BadInput(
            "size",
            f"the compressed image has {len(data)} bytes; accepted: up to {MAX_PICTURE_BYTES}",
        )
    if data.startswith(SIGNATURE):
        return checked_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return checked_jpeg(data)
    raise BadInput(
        "encoding",
        f"format is {image_format!r} and data starts with {data[:4].hex() or 'nothing'}; "
        "accepted: JPEG (ffd8ff) or PNG (89504e47)",
    )


def decoded_pixels(picture: PictureFile, grey: bool = False) -> np.ndarray:
    """Return the pixels as (H, W, 3) uint8 RGB, or with ``grey`` as (H, W) uint8.

    An EXIF orientation is ignored.

    Raises:
        BadInput: ``decode``: the decoder fails, reports damage, or gives another size than the file
            declares.
    """
    if picture.kind == "jpeg" and simplejpeg is None and not _told:
        _told.append(WITHOUT_SIMPLEJPEG)
        logging.getLogger(__name__).warning(WITHOUT_SIMPLEJPEG)
    decode = _simplejpeg if picture.kind == "jpeg" and simplejpeg is not None else _opencv
    pixels = decode(picture, grey)
    if pixels.shape[:2] != (picture.height, picture.width):
        raise damaged(
            f"the {picture.kind.upper()} declares {picture.height} x {picture.width} px and "
            f"decodes to {pixels.shape[0]} x {pixels.shape[1]}",
            "one size",
        )
    return pixels


def _simplejpeg(picture: PictureFile, grey: bool) -> np.ndarray:
    """Decode with libjpeg-turbo: the same pixels as OpenCV, but libjpeg's warnings are errors."""
    colours = "CMYK" if picture.colours == 4 else "GRAY" if grey else "RGB"
    try:
        try:
            pixels = simplejpeg.decode_jpeg(picture.data, colours)
        except ValueError as error:
            filled = _FILLED.match(str(error))
            if filled is None or int(filled[1]) > MOST_FILLED_BYTES:
                raise
            pixels = simplejpeg.decode_jpeg(picture.data, colours, strict=False)
    except ValueError as error:
        raise damaged(
            f"the JPEG does not decode: {' '.join(str(error).split())}", "a whole JPEG"
        ) from error
    if picture.colours == 4:
        pixels = _rgb_of_cmyk(pixels)
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if grey else pixels
    return pixels[..., 0] if grey else pixels


def _rgb_of_cmyk(cmyk: np.ndarray) -> np.ndarray:
    """Convert as OpenCV does. The inks are stored as Adobe stores them, 255 for none."""
    rgb = np.empty((*cmyk.shape[:2], 3), np.uint8)
    black = cmyk[..., 3]
    for channel in range(3):
        ink = np.multiply(255 - cmyk[..., channel], black, dtype=np.uint16) >> 8
        rgb[..., channel] = black - ink
    return rgb


def _opencv(picture: PictureFile, grey: bool) -> np.ndarray:
    flags = (cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(picture.data, np.uint8), flags)
    except cv2.error as error:
        raise damaged(
            f"the {picture.kind.upper()} does not decode: {' '.join(str(error).split())}",
            "a whole JPEG or PNG",
        ) from error
    if decoded is None:
        raise damaged(f"the {picture.kind.upper()} does not decode", "a whole JPEG or PNG")
    return decoded if grey else decoded[..., ::-1]
