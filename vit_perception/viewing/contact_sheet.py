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

    # Its name.
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
class SheetRow:
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


def draw_sheet(rows: Sequence[SheetRow], title: str) -> Image.Image:
    """Draw the sheet, one row per frame. Colours of a camera's PCA mean the same in every row.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    pca = _views_of(rows)
    columns = 3 * len(rows[0].panels)
    width = TEXT_PX + columns * (CELL_PX + GAP_PX) + GAP_PX
    sheet = Image.new(
        "RGB", (width, 2 * TITLE_PX + len(rows) * (CELL_PX + GAP_PX) + GAP_PX), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP_PX * 2, GAP_PX), _short(title), FOREGROUND, ImageFont.load_default(20))
    for index, panel in enumerate(rows[0].panels):
        for step, name in enumerate((panel.camera, "PCA of patch tokens", "CLS attention")):
            left = TEXT_PX + (3 * index + step) * (CELL_PX + GAP_PX)
            draw.text((left, TITLE_PX + 8), name, DIM, ImageFont.load_default(16))
    for index, row in enumerate(rows):
        _draw_row(
            sheet=sheet,
            draw=draw,
            top=2 * TITLE_PX + index * (CELL_PX + GAP_PX),
            row=row,
            pca=pca,
        )
    return sheet


def _short(text: str) -> str:
    """Return a stranger's text as an image can show it."""
    return printable(text, MOST_LETTERS, keep="")


def _views_of(rows: Sequence[SheetRow]) -> dict[str, PcaView]:
    """Fit one PCA per camera on all rows, before any of them is drawn."""
    views = {panel.camera: PcaView(frames=len(rows)) for panel in rows[0].panels}
    for row in rows:
        for panel in row.panels:
            views[panel.camera](panel.patch_tokens, panel.grid, panel.grid)
    return views


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: SheetRow, pca: dict[str, PcaView]
) -> None:
    draw.text((GAP_PX * 2, top + 6), f"{row.time_s:.2f} s", FOREGROUND, ImageFont.load_default(24))
    if row.predicted:
        colour = FOREGROUND if row.predicted == row.truth or not row.truth else WRONG
        draw.text(
            (GAP_PX * 2, top + 40),
            f"{_short(row.predicted)}  {row.score:.2f}",
            colour,
            ImageFont.load_default(28),
        )
    if row.truth:
        draw.text(
            (GAP_PX * 2, top + 78),
            f"true stage: {_short(row.truth)}",
            DIM,
            ImageFont.load_default(18),
        )
    for index, panel in enumerate(row.panels):
        if panel.predicted:
            colour = DIM if panel.predicted == row.truth or not row.truth else WRONG
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
