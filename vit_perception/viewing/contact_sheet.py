"""A contact sheet of what the encoder sees: camera, PCA of patch tokens, attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_perception.files.errors import printable
from vit_perception.pipeline.feature_views import PcaView

CELL_PX = 200
GAP_PX = 6
TEXT_PX = 250
TITLE_PX = 34
BACKGROUND = (250, 250, 248)
FOREGROUND = (25, 25, 30)
DIM = (110, 110, 118)
WRONG = (190, 40, 40)
MOST_LETTERS = 80


@dataclass(frozen=True, eq=False)
class CameraPanel:
    """One camera at one time."""

    camera: str
    # (H, W, 3) uint8 that the network saw.
    rgb: np.ndarray
    # (P, D) float32.
    patch_tokens: np.ndarray
    # (rows, columns) of patches.
    grid: tuple[int, int]
    # (H, W, 3) uint8: attention drawn over the image.
    attention: np.ndarray
    # The predicted class and its score, 0 to 1; "" and 0 without classes.
    predicted: str
    score: float


@dataclass(frozen=True)
class Moment:
    """One row of the sheet."""

    # Seconds into the recording.
    time_s: float
    # The true class; "" for a recording without labels.
    truth: str
    # What all cameras together predict, and its score; "" and 0 without classes.
    predicted: str
    score: float
    # One per camera.
    panels: tuple[CameraPanel, ...]


def draw_sheet(moments: Sequence[Moment], title: str) -> Image.Image:
    """Draw the sheet, one row per frame. Colours of a camera's PCA mean the same in every row.

    Raises:
        ValueError: There are no rows.
    """
    if not moments:
        raise ValueError("a contact sheet needs at least one moment")
    pca = _views_of(moments)
    columns = 3 * len(moments[0].panels)
    width = TEXT_PX + columns * (CELL_PX + GAP_PX) + GAP_PX
    sheet = Image.new(
        "RGB", (width, 2 * TITLE_PX + len(moments) * (CELL_PX + GAP_PX) + GAP_PX), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX * 2, GAP_PX), _short(title), FOREGROUND, ImageFont.load_default(20))
    for index, panel in enumerate(moments[0].panels):
        for step, name in enumerate((panel.camera, "PCA of patch tokens", "CLS attention")):
            left = TEXT_PX + (3 * index + step) * (CELL_PX + GAP_PX)
            draw.text((left, TITLE_PX + 8), name, DIM, ImageFont.load_default(16))
    for row, moment in enumerate(moments):
        _draw_row(
            sheet=sheet,
            draw=draw,
            top=2 * TITLE_PX + row * (CELL_PX + GAP_PX),
            moment=moment,
            pca=pca,
        )
    return sheet


def _short(text: str) -> str:
    """Return a stranger's text as an image can show it."""
    return printable(text, MOST_LETTERS, keep="")


def _views_of(moments: Sequence[Moment]) -> dict[str, PcaView]:
    """Fit one PCA per camera on all rows, before any of them is drawn."""
    views = {panel.camera: PcaView(frames=len(moments)) for panel in moments[0].panels}
    for moment in moments:
        for panel in moment.panels:
            views[panel.camera](panel.patch_tokens, panel.grid, panel.grid)
    return views


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, moment: Moment, pca: dict[str, PcaView]
) -> None:
    draw.text(
        (GAP_PX * 2, top + 6), f"{moment.time_s:.2f} s", FOREGROUND, ImageFont.load_default(24)
    )
    if moment.predicted:
        colour = FOREGROUND if moment.predicted == moment.truth or not moment.truth else WRONG
        draw.text(
            (GAP_PX * 2, top + 40),
            f"{_short(moment.predicted)}  {moment.score:.2f}",
            colour,
            ImageFont.load_default(28),
        )
    if moment.truth:
        draw.text(
            (GAP_PX * 2, top + 78),
            f"true stage: {_short(moment.truth)}",
            DIM,
            ImageFont.load_default(18),
        )
    for index, panel in enumerate(moment.panels):
        if panel.predicted:
            colour = DIM if panel.predicted == moment.truth or not moment.truth else WRONG
            text = f"{panel.camera}: {_short(panel.predicted)} {panel.score:.2f}"
            draw.text(
                (GAP_PX * 2, top + 112 + 24 * index), text, colour, ImageFont.load_default(15)
            )
        size_px = panel.rgb.shape[:2]
        for step, pixels in enumerate(
            (panel.rgb, pca[panel.camera](panel.patch_tokens, panel.grid, size_px), panel.attention)
        ):
            cell = Image.fromarray(np.ascontiguousarray(pixels)).resize(
                (CELL_PX, CELL_PX), Image.Resampling.LANCZOS
            )
            sheet.paste(cell, (TEXT_PX + (3 * index + step) * (CELL_PX + GAP_PX), top))
