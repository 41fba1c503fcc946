"""Image files: accepted names, bytes, and BMP and WebP, which cameras do not send.

Every tool uses this list and this reader: embed, fit, explain, calibration, LeRobot data sets.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_perception.files.regular_files import IrregularFile, check_itself, read_bounded
from vit_perception.image.compressed import checked_picture, decoded_pixels
from vit_perception.image.folder_files import files_below
from vit_perception.image.picture import MAX_PICTURE_BYTES, check_size, cut, damaged
from vit_perception.wire.records import BadInput, RgbImage, check_frame_id

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


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """A picture as it lies in a file, not decoded yet, with what its decoded image will carry."""

    # The bytes of the file. They say what it is: JPEG, PNG, BMP or WebP.
    data: bytes
    # The ending of the file's name without the dot, for error messages and digests; may be "".
    format: str
    # Files have no time, and 1 ns is the earliest valid stamp.
    stamp_ns: int = 1
    frame_id: str = ""

    def decoded(self) -> RgbImage:
        """Decode the picture; an EXIF orientation is ignored.

        Raises:
            BadInput: ``frame``, ``encoding``, ``short_data``, ``size`` or ``decode``.
        """
        check_frame_id(self.frame_id)
        pixels = bmp_or_webp_pixels(self.data)
        if pixels is None:
            pixels = decoded_pixels(checked_picture(self.data, self.format))
        return RgbImage(pixels, self.stamp_ns, self.frame_id)


def read_picture(file: Path) -> EncodedPicture:
    """Read a picture's file without decoding it; its name becomes the frame.

    Raises:
        BadInput: ``file``, as :func:`picture_data`.
    """
    return EncodedPicture(
        data=picture_data(file), format=file.suffix[1:].lower(), frame_id=file.name
    )


def bmp_or_webp_pixels(data: bytes) -> np.ndarray | None:
    """Decode a BMP or a WebP to (H, W, 3) uint8 RGB; None if the first bytes are of neither.

    No camera sends these two, so topics do not take them.

    Raises:
        BadInput: The file is broken, too large, or of a kind that is not taken (run-length coded,
            animated).
    """
    if data[:2] == b"BM":
        height, width = _bmp_size(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        height, width = _webp_size(data)
    else:
        return None
    check_size(height, width)
    pixels = _pillow_pixels(data)
    if pixels.shape != (height, width, 3):
        raise damaged(
            f"the file declares {height} x {width} px and decodes to {pixels.shape[0]} x "
            f"{pixels.shape[1]}",
            "one size",
        )
    return pixels


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
