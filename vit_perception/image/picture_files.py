"""Image files: accepted names, bytes, and BMP and WebP, which cameras do not send.

Every tool uses this list and this reader: embed, fit, explain, calibration, LeRobot data sets.
"""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vit_perception.files.regular_files import IrregularFile, check_itself, read_bounded
from vit_perception.image.folder_files import files_below
from vit_perception.image.opencv import cv2
from vit_perception.image.picture import MAX_PICTURE_BYTES, check_size, cut, damaged
from vit_perception.wire.records import BadInput

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# libwebp holds the canvas three times with four bytes a pixel before there are any pixels.
MAX_WEBP_PX = 1 << 25
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BMP_PLAIN = (0, 3)  # pixels as they are, or with masks that say which bits are which colour
_ANIMATED = 0x02


def is_picture_name(path: Path) -> bool:
    """Whether the name ends in one of ``PICTURE_SUFFIXES``, in capitals or not."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def pictures_below(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and the folders in it, as :func:`files_below`."""
    return [path for path in files_below(folder) if is_picture_name(path)]


def picture_data(file: Path) -> bytes:
    """Return the bytes of ``file``.

    Raises:
        BadInput: ``file``: it cannot be read, is not a file, or only stands for one.
    """
    try:
        check_itself(file)
        return read_bounded(file, MAX_PICTURE_BYTES)
    except IrregularFile as error:
        raise BadInput("file", str(error)) from error
    except OSError as error:
        raise BadInput("file", f"{error}; accepted: a picture that can be read") from error


def compressed_file(data: bytes, header: Any, ending: str) -> SimpleNamespace:
    """Return a file's bytes as a CompressedImage; with ``is_file``, BMP and WebP are decoded."""
    return SimpleNamespace(header=header, format=ending, data=data, is_file=True)


def picture_message(file: Path) -> SimpleNamespace:
    """Return a file as a CompressedImage with the stamp 1 ns, the earliest valid one.

    Raises:
        BadInput: as :func:`picture_data`.
    """
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=1), frame_id=file.name)
    return compressed_file(picture_data(file), header, file.suffix[1:].lower())


def as_camera_data(data: bytes) -> bytes:
    """Return ``data``; if it is a BMP or a WebP, as PNG: no CompressedImage holds these two.

    Raises:
        BadInput: ``decode``, ``short_data`` or ``size``: a BMP or WebP that is broken, too large,
            run-length coded or animated.
    """
    if data[:2] == b"BM":
        height, width = _bmp_size(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        height, width = _webp_size(data)
    else:
        return data
    check_size(height, width)
    pixels = _pillow_pixels(data)
    if pixels.shape != (height, width, 3):
        raise damaged(
            f"the file declares {height} x {width} px and decodes to {pixels.shape[0]} x "
            f"{pixels.shape[1]}",
            "one size",
        )
    # Not compressed: it is decoded again at once.
    return cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()


def _pillow_pixels(data: bytes) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("BMP", "WEBP")) as picture:
            return np.asarray(picture.convert("RGB"))
    except Exception as error:
        # Pillow raises OSError, ValueError, SyntaxError, struct.error and others.
        raise damaged(
            f"{len(data)} bytes of {'BMP' if data[:2] == b'BM' else 'WebP'} do not decode: {error}",
            "a whole picture",
        ) from error


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width), after a check that all rows are there."""
    if len(data) < 30:
        raise cut(f"the BMP has {len(data)} bytes")
    header_bytes = _little(data, 14, 4)
    if header_bytes not in _BMP_HEADERS:
        raise damaged(
            f"the BMP has a header of {header_bytes} bytes", f"{', '.join(map(str, _BMP_HEADERS))}"
        )
    if header_bytes == 12:
        width = _little(data, 18, 2)
        height = _little(data, 20, 2)
        bits = _little(data, 24, 2)
        packing = 0
    else:
        width = int.from_bytes(data[18:22], "little", signed=True)
        height = int.from_bytes(data[22:26], "little", signed=True)
        bits = _little(data, 28, 2)
        packing = _little(data, 30, 4)
    if packing not in _BMP_PLAIN:
        raise damaged(f"the BMP is packed (kind {packing})", "a BMP whose pixels are not packed")
    height = abs(height)  # a negative one says that the first row is the top one
    check_size(height, width)
    wanted = height * ((width * bits + 31) // 32 * 4)
    if len(data) - _little(data, 10, 4) < wanted:
        raise cut(f"the BMP of {height} x {width} px has {len(data)} bytes")
    return height, width


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) of the canvas (RFC 9649)."""
    if len(data) < 30 or len(data) < 8 + _little(data, 4, 4):
        raise cut(f"the WebP has {len(data)} bytes")
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & _ANIMATED:
            raise damaged("the WebP is animated", "a single picture")
        width = 1 + _little(data, 24, 3)
        height = 1 + _little(data, 27, 3)
    elif kind == b"VP8L":
        bits = _little(data, 21, 4)
        width = 1 + (bits & 0x3FFF)
        height = 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width = _little(data, 26, 2) & 0x3FFF
        height = _little(data, 28, 2) & 0x3FFF
    else:
        raise damaged(f"the WebP begins with the chunk {kind.hex()}", "VP8, VP8L or VP8X")
    if height * width > MAX_WEBP_PX:
        raise BadInput(
            "size", f"the WebP is {height} x {width} px; accepted: {MAX_WEBP_PX} px in all"
        )
    return height, width


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")
