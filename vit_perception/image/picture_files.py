"""Pictures in files: which names are taken, their bytes, and BMP and WebP, which cameras do not
send.

One list and one reader for every tool: embed, fit, explain, calibration, pictures in LeRobot data
sets.
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
    """Whether the name's ending is one of ``PICTURE_SUFFIXES``, in capitals or not."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def pictures_below(folder: Path) -> list[Path]:
    """The pictures in ``folder`` and the folders in it, by name; see
    :func:`folder_files.files_below`.
    """
    return [path for path in files_below(folder) if is_picture_name(path)]


def picture_data(file: Path) -> bytes:
    """The bytes of ``file``. Raises BadInput('file') where it cannot be read, is no file, or only
    stands for one.
    """
    try:
        check_itself(file)
        return read_bounded(file, MAX_PICTURE_BYTES)
    except IrregularFile as error:
        raise BadInput("file", str(error)) from error
    except OSError as error:
        raise BadInput("file", f"{error}; accepted: a picture that can be read") from error


def compressed_file(data: bytes, header: Any, ending: str) -> SimpleNamespace:
    """A file's bytes with the fields of a CompressedImage, and ``is_file``: then BMP and WebP are
    decoded, too.
    """
    return SimpleNamespace(header=header, format=ending, data=data, is_file=True)


def picture_message(file: Path) -> SimpleNamespace:
    """A file as what a camera would send; files have no time, and 1 ns is the earliest valid stamp.
    Raises BadInput.
    """
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=1), frame_id=file.name)
    return compressed_file(picture_data(file), header, file.suffix[1:].lower())


def as_camera_data(data: bytes) -> bytes:
    """``data`` itself, or what it shows as PNG where it is a BMP or a WebP, which no
    CompressedImage holds.

    The first bytes say what it is. Raises BadInput where it is a BMP or WebP that is broken, too
    large, or of a kind that is not taken (run-length coded, animated).
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
    # Stored: it is unpacked again at once.
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
    """(height, width), after a look at whether all rows are there."""
    if len(data) < 30:
        raise cut(f"the BMP has {len(data)} bytes")
    header_bytes = _little(data, 14, 4)
    if header_bytes not in _BMP_HEADERS:
        raise damaged(
            f"the BMP has a header of {header_bytes} bytes", f"{', '.join(map(str, _BMP_HEADERS))}"
        )
    if header_bytes == 12:
        width, height, bits, packing = (
            _little(data, 18, 2),
            _little(data, 20, 2),
            _little(data, 24, 2),
            0,
        )
    else:
        width, height = (
            int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22)
        )
        bits, packing = _little(data, 28, 2), _little(data, 30, 4)
    if packing not in _BMP_PLAIN:
        raise damaged(f"the BMP is packed (kind {packing})", "a BMP whose pixels are not packed")
    height = abs(height)  # a negative one says that the first row is the top one
    check_size(height, width)
    wanted = height * ((width * bits + 31) // 32 * 4)
    if len(data) - _little(data, 10, 4) < wanted:
        raise cut(f"the BMP of {height} x {width} px has {len(data)} bytes")
    return height, width


def _webp_size(data: bytes) -> tuple[int, int]:
    """(height, width) of the canvas; RFC 9649."""
    if len(data) < 30 or len(data) < 8 + _little(data, 4, 4):
        raise cut(f"the WebP has {len(data)} bytes")
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & _ANIMATED:
            raise damaged("the WebP is animated", "a single picture")
        width, height = 1 + _little(data, 24, 3), 1 + _little(data, 27, 3)
    elif kind == b"VP8L":
        bits = _little(data, 21, 4)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    else:
        raise damaged(f"the WebP begins with the chunk {kind.hex()}", "VP8, VP8L or VP8X")
    if height * width > MAX_WEBP_PX:
        raise BadInput(
            "size", f"the WebP is {height} x {width} px; accepted: {MAX_WEBP_PX} px in all"
        )
    return height, width


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")
