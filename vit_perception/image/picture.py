"""A compressed image whose file has been checked, and the limits of all of them."""

from dataclasses import dataclass
from typing import Literal

from vit_perception.wire.records import BadInput

MAX_COMPRESSED_EDGE_PX = 16384
MAX_COMPRESSED_PX = 1 << 26  # 200 MB decoded
MAX_PICTURE_BYTES = 1 << 27  # of the file: what 67 million pixels take in a JPEG of best quality


@dataclass(frozen=True, eq=False)
class PictureFile:
    """A file that a decoder may be given."""

    kind: Literal["jpeg", "png"]
    height: int  # in px
    width: int  # in px
    # Only the parts of the received file that hold the image. Bytes after its end, such as zeros
    # that fill a camera's buffer, are left out.
    data: bytes
    colours: int = 3  # of a JPEG: 1, 3, or 4 for CMYK


def check_size(height: int, width: int) -> None:
    """Check a declared size before decoding: a few kB can declare gigabytes.

    Raises:
        BadInput: ``size``.
    """
    if not (
        min(height, width) > 0
        and max(height, width) <= MAX_COMPRESSED_EDGE_PX
        and height * width <= MAX_COMPRESSED_PX
    ):
        raise BadInput(
            "size",
            f"the compressed image is {height} x {width} px; accepted: 1 to "
            f"{MAX_COMPRESSED_EDGE_PX} px a side and {MAX_COMPRESSED_PX} px in all",
        )


def damaged(what: str, accepted: str) -> BadInput:
    """Return the error for a file that breaks its format's rules."""
    return BadInput("decode", f"{what}; accepted: {accepted}")


def cut(what: str) -> BadInput:
    """Return the error for a file that ends too early."""
    return BadInput("short_data", f"{what}; accepted: a whole file")
