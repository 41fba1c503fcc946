"""A compressed picture whose file has been checked, and the limits that hold for every one."""

from dataclasses import dataclass
from typing import Literal

from vit_perception.wire.records import BadInput

MAX_COMPRESSED_EDGE_PX = 16384
MAX_COMPRESSED_PX = 1 << 26  # 200 MB decoded
MAX_PICTURE_BYTES = (
    1 << 27
)  # of the file: as much as 67 million pixels of a JPEG of the best quality take


@dataclass(frozen=True, eq=False)
class PictureFile:
    """What a decoder may be given: ``data`` is a file of ``kind`` that was taken apart and put
    together again.

    Of the file that came it has only the parts that hold the picture, ``height`` x ``width`` px.
    What stands behind its end, such as the zeros that cameras fill their buffers with, is not in
    it. ``colours`` is of a JPEG: 4 for CMYK.
    """

    kind: Literal["jpeg", "png"]
    height: int
    width: int
    data: bytes
    colours: int = 3


def check_size(height: int, width: int) -> None:
    """Raise BadInput('size') for a size that is not taken. For before decoding: a few kB can
    declare gigabytes.
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
    """The error for a file that breaks its format's rules."""
    return BadInput("decode", f"{what}; accepted: {accepted}")


def cut(what: str) -> BadInput:
    """The error for a file that ends too early."""
    return BadInput("short_data", f"{what}; accepted: a whole file")
