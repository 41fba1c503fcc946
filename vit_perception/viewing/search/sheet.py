"""The sheet of a search: the queries, then the frames that were found, with where they are from."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_perception.files.errors import printable
from vit_perception.viewing.contact_sheet import BACKGROUND, DIM, FOREGROUND, GAP_PX, fitted

CELL_PX = (240, 180)  # width, height
CAPTION_PX = 44
TITLE_PX = 32
HEADING_PX = 26
COLUMNS = 5
MOST_QUERIES = 10
BOX = (0, 245, 255)  # rare in a robot's pictures
EMPTY = (225, 225, 222)
COLOURS = 128  # of the file's palette: a sheet is a fifth of its size


@dataclass(frozen=True, eq=False)
class SheetPicture:
    """One picture of the sheet."""

    # (H, W, 3) uint8; None if it was not found.
    pixels: np.ndarray | None
    # Two short lines below it.
    lines: tuple[str, str]
    # Why there is no picture.
    why: str = ""
    # (left, top, right, bottom) in px of the picture.
    box: tuple[float, float, float, float] | None = None


def search_sheet(
    title: str, queries: Sequence[SheetPicture], found: Sequence[SheetPicture], note: str = ""
) -> bytes:
    """Return a PNG: up to ten queries in the first rows, below them everything that was found.

    ``note`` stands below all, in small letters.
    """
    left_out = len(queries) - MOST_QUERIES
    heading = "looked for" + (f" (10 of {len(queries)})" if left_out > 0 else "")
    parts = [(heading, queries[:MOST_QUERIES]), ("found, nearest first", found)]
    parts = [(name, pictures) for name, pictures in parts if pictures]
    columns = min(COLUMNS, max(len(pictures) for _, pictures in parts)) if parts else 1
    columns = max(columns, 3)  # the title has room
    width = columns * (CELL_PX[0] + GAP_PX) + GAP_PX
    notes = _wrapped(note, 14, width - 4 * GAP_PX) if note else []
    height = TITLE_PX + sum(_height(len(pictures), columns) for _, pictures in parts)
    sheet = Image.new("RGB", (width, height + 20 * len(notes) + 2 * GAP_PX), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    draw.text((2 * GAP_PX, GAP_PX), fitted(title, 18, width - 4 * GAP_PX), FOREGROUND, font)
    top = TITLE_PX
    for name, pictures in parts:
        draw.text((2 * GAP_PX, top + 4), name, DIM, ImageFont.load_default(15))
        for number, picture in enumerate(pictures):
            row, column = divmod(number, columns)
            left = GAP_PX + column * (CELL_PX[0] + GAP_PX)
            at = top + HEADING_PX + row * (CELL_PX[1] + CAPTION_PX)
            _draw(sheet, draw, picture, left, at)
        top += _height(len(pictures), columns)
    top += GAP_PX
    for line in notes:
        draw.text((2 * GAP_PX, top), line, DIM, ImageFont.load_default(14))
        top += 20
    content = BytesIO()
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def _height(pictures: int, columns: int) -> int:
    return HEADING_PX + -(-pictures // columns) * (CELL_PX[1] + CAPTION_PX)


def _draw(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: SheetPicture, left: int, top: int
) -> None:
    width, height = CELL_PX
    draw.rectangle((left, top, left + width - 1, top + height - 1), EMPTY)
    if picture.pixels is None:
        for line, text in enumerate(_wrapped(f"no picture: {picture.why}", 14, width - 16)[:8]):
            place = (left + 8, top + 8 + 20 * line)
            draw.text(place, text, DIM, ImageFont.load_default(14))
    else:
        rows, columns = picture.pixels.shape[:2]
        scale = min(width / columns, height / rows)
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        small = Image.fromarray(np.ascontiguousarray(picture.pixels)).resize(
            size, Image.Resampling.LANCZOS
        )
        corner = (left + (width - size[0]) // 2, top + (height - size[1]) // 2)
        sheet.paste(small, corner)
        if picture.box is not None:
            _outline(draw, picture.box, scale, corner, size)
    for line, (text, colour) in enumerate(zip(picture.lines, (FOREGROUND, DIM))):
        place = (left + 2, top + height + 2 + 19 * line)
        draw.text(place, fitted(text, 14, width - 4), colour, ImageFont.load_default(14))


def _outline(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    scale: float,
    corner: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Draw a box around the region, clipped to the picture, dark and light to be seen on both."""
    edges = [
        corner[k % 2] + min(max(edge * scale, 0), size[k % 2] - 1) for k, edge in enumerate(box)
    ]
    if edges[2] <= edges[0] or edges[3] <= edges[1]:
        return
    draw.rectangle([edges[0] - 1, edges[1] - 1, edges[2] + 1, edges[3] + 1], outline=(0, 0, 0))
    draw.rectangle(edges, outline=BOX, width=2)


def _wrapped(text: str, size_px: int, width_px: float) -> list[str]:
    """Return a stranger's ``text`` in lines of at most ``width_px``."""
    font = ImageFont.load_default(size_px)
    lines = [""]
    for word in printable(text, 600, keep="").split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, size_px, width_px) for line in lines]
