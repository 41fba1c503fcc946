"""The legend of a contact sheet: what its numbers and colours mean."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_perception.pipeline.feature_views import attention_colours

LETTERS_PX = 15
LINE_PX = 21
EDGE_PX = 12
NAME_PX = 150
BAR_PX = (120, 12)
INK = (25, 25, 30)
DIM = (110, 110, 118)
WRONG = (190, 40, 40)

SCORE = "Score of the class, 0 to 1. Large: mean of all cameras; small: each camera by itself."
RED = "Another class than the true one."
PCA = (
    "The three main directions in which the tokens of all pictures here vary, as red, green and "
    "blue. Learned once for all rows and cameras: like colours are like features."
)
ATTENTION = (
    "Where the CLS token looks, mean of all heads. The scale is each picture's "
    "own: dark is its least, bright its most attended patch (from the 99th percentile on)."
)
POSE = (
    "x to the right, y up. Coloured: the path so far; grey: the rest of the recording. Bar: the "
    "hand's y axis, along which a Panda's gripper opens."
)


class Row(Protocol):
    """What the legend needs of a row."""

    @property
    def truth(self) -> str: ...

    @property
    def predicted(self) -> str: ...

    @property
    def score(self) -> float: ...


def entries(rows: Sequence[Row], with_poses: bool) -> list[tuple[str, str]]:
    """Return (name, meaning) of what is on a sheet of ``rows``."""
    found = []
    scored = next((row for row in rows if row.predicted), None)
    if scored is not None:
        found.append((f"{scored.score:.2f}", SCORE))
        if any(row.truth for row in rows):
            found.append(("red", RED))
    found += [("PCA of patch tokens", PCA), ("CLS attention", ATTENTION)]
    if with_poses:
        found.append(("pose, from above", POSE))
    return found


def wrapped(text: str, width_px: float) -> list[str]:
    """Return ``text`` in lines that are at most ``width_px`` long, if no word is longer."""
    font = ImageFont.load_default(LETTERS_PX)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def legend_height_px(rows: Sequence[Row], width_px: int, with_poses: bool) -> int:
    """Return the height that the legend takes on a sheet of ``width_px``."""
    texts = [text for _, text in entries(rows, with_poses)]
    lines = sum(len(wrapped(text, _text_px(width_px))) for text in texts)
    bar = 1  # the line of attention's scale
    return 2 * EDGE_PX + (lines + bar) * LINE_PX


def draw_legend(sheet: Image.Image, top_px: int, rows: Sequence[Row], with_poses: bool) -> None:
    """Draw the legend on ``sheet``, from ``top_px`` on."""
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LETTERS_PX)
    top_px += EDGE_PX
    for name, text in entries(rows, with_poses):
        draw.text((EDGE_PX, top_px), name, WRONG if text == RED else INK, font)
        for line in wrapped(text, _text_px(sheet.width)):
            draw.text((EDGE_PX + NAME_PX, top_px), line, DIM, font)
            top_px += LINE_PX
        if text == ATTENTION:
            _draw_scale(sheet, draw, EDGE_PX + NAME_PX, top_px)
            top_px += LINE_PX


def _draw_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, left_px: int, top_px: int) -> None:
    """Draw the colours of attention, from the least to the most."""
    font = ImageFont.load_default(LETTERS_PX)
    draw.text((left_px, top_px), "least", DIM, font)
    left_px += round(font.getlength("least ")) + 4
    ramp = np.linspace(0, 255, BAR_PX[0]).round().astype(np.uint8)[None].repeat(BAR_PX[1], axis=0)
    sheet.paste(
        Image.fromarray(np.ascontiguousarray(attention_colours(ramp))), (left_px, top_px + 4)
    )
    draw.text((left_px + BAR_PX[0] + 6, top_px), "most", DIM, font)


def _text_px(width_px: int) -> int:
    return width_px - 2 * EDGE_PX - NAME_PX
