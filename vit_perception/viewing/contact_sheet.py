"""A contact sheet of what the encoder sees: camera, PCA of patch tokens, attention, pose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_perception.files.errors import printable
from vit_perception.pipeline.feature_views import PcaView
from vit_perception.viewing.pose_map import ArmPath, HandPose, PoseMap
from vit_perception.viewing.sheet_legend import draw_legend, legend_height_px

CELL_PX = 200
GAP_PX = 6
TEXT_PX = 250
WRITTEN_PX = TEXT_PX - 4 * GAP_PX
TITLE_PX = 34
HEADING_PX = 34
BACKGROUND = (250, 250, 248)
FOREGROUND = (25, 25, 30)
DIM = (110, 110, 118)
WRONG = (190, 40, 40)
MOST_LETTERS = 100
MOST_CAMERAS_NAMED = 3


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

    # Seconds since the start of the recording, or since its first frame: the sheet says which.
    time_s: float
    # The true class; "" for a recording without labels.
    truth: str
    # What all cameras together predict, and its score; "" and 0 without classes.
    predicted: str
    score: float
    # One per camera.
    panels: tuple[CameraPanel, ...]
    # By arm; an arm without a pose at this time is not in it.
    hands: Mapping[str, HandPose] = field(default_factory=dict)


@dataclass(frozen=True)
class Label:
    """A text on the sheet."""

    # Of its top left corner, from the left and from the top.
    left_px: int
    top_px: int
    text: str
    size_px: int
    colour: tuple[int, int, int]


def draw_sheet(
    rows: Sequence[SheetRow],
    title: str,
    *,
    time_is: str = "time",
    paths: Mapping[str, ArmPath] | None = None,
) -> Image.Image:
    """Draw the sheet, one row per frame, with a legend below.

    Colours of the PCA mean the same in all rows and cameras. ``time_is`` says from when a row's
    time is counted. ``paths`` are those of the complete recording, by arm; without any, there is
    no column of poses.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    pose_map = PoseMap(paths, CELL_PX) if paths else None
    pictures = 3 * len(rows[0].panels) + (pose_map is not None)
    width_px = TEXT_PX + pictures * (CELL_PX + GAP_PX) + GAP_PX
    legend_px = _top_px(len(rows))
    height_px = legend_px + legend_height_px(rows, width_px, pose_map is not None)
    sheet = Image.new("RGB", (width_px, height_px), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for label in labels_of(rows, title, time_is, pose_map is not None):
        font = ImageFont.load_default(label.size_px)
        draw.text((label.left_px, label.top_px), label.text, label.colour, font)
    views = _views_of(rows)
    for index, row in enumerate(rows):
        cells = [cell for panel in row.panels for cell in _pictures_of(panel, views)]
        if pose_map is not None:
            cells.append(pose_map.draw(row.time_s, row.hands))
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_left_px(column), _top_px(index)))
    draw_legend(sheet, legend_px, rows, pose_map is not None)
    return sheet


def labels_of(
    rows: Sequence[SheetRow], title: str, time_is: str, with_poses: bool
) -> Iterator[Label]:
    """Return every text of the sheet but those of the legend and of the maps."""
    yield Label(2 * GAP_PX, GAP_PX, printable(title, MOST_LETTERS, keep=""), 20, FOREGROUND)
    top_px = TITLE_PX + 8
    yield Label(2 * GAP_PX, top_px, time_is, 16, DIM)
    column = 0
    for panel in rows[0].panels:
        for text in (panel.camera, "PCA of patch tokens", "CLS attention"):
            yield Label(_left_px(column), top_px, fitted(text, 16, CELL_PX), 16, DIM)
            column += 1
    if with_poses:
        yield Label(_left_px(column), top_px, "pose, from above", 16, DIM)
    for index, row in enumerate(rows):
        yield from _labels_of_row(row, _top_px(index))


def _labels_of_row(row: SheetRow, top_px: int) -> Iterator[Label]:
    left_px = 2 * GAP_PX
    yield Label(left_px, top_px + 6, f"{row.time_s:.2f} s", 24, FOREGROUND)
    if row.predicted:
        text = with_score(row.predicted, row.score, 28)
        yield Label(left_px, top_px + 40, text, 28, _colour(row, row.predicted, FOREGROUND))
    if row.truth:
        text = fitted(f"true stage: {row.truth}", 18, WRITTEN_PX)
        yield Label(left_px, top_px + 78, text, 18, DIM)
    with_classes = [panel for panel in row.panels if panel.predicted]
    for line, panel in enumerate(with_classes[:MOST_CAMERAS_NAMED]):
        text = with_score(f"{panel.camera}: {panel.predicted}", panel.score, 15)
        colour = _colour(row, panel.predicted, DIM)
        yield Label(left_px, top_px + 112 + 24 * line, text, 15, colour)


def with_score(text: str, score: float, size_px: int) -> str:
    """Return a stranger's ``text`` and its score, in the width of the first column."""
    font = ImageFont.load_default(size_px)
    number = f"  {score:.2f}"
    return fitted(text, size_px, WRITTEN_PX - font.getlength(number)) + number


def fitted(text: str, size_px: int, width_px: float) -> str:
    """Return a stranger's text as an image can show it, cut to ``width_px``."""
    font = ImageFont.load_default(size_px)
    shown = printable(text[:MOST_LETTERS], 4 * MOST_LETTERS, keep="")
    if font.getlength(shown) <= width_px:
        return shown
    while shown and font.getlength(f"{shown}..") > width_px:
        shown = shown[:-1]
    return f"{shown}.."


def _colour(row: SheetRow, predicted: str, right: tuple[int, int, int]) -> tuple[int, int, int]:
    return WRONG if row.truth and predicted != row.truth else right


def _left_px(column: int) -> int:
    return TEXT_PX + column * (CELL_PX + GAP_PX)


def _top_px(row: int) -> int:
    return TITLE_PX + HEADING_PX + row * (CELL_PX + GAP_PX)


def _views_of(rows: Sequence[SheetRow]) -> dict[int, PcaView]:
    """Learn the colours from all rows and cameras; by width of the tokens, which is mostly one."""
    frames: dict[int, list[np.ndarray]] = {}
    for row in rows:
        for panel in row.panels:
            frames.setdefault(panel.patch_tokens.shape[1], []).append(panel.patch_tokens)
    return {width: PcaView.learned_from(tokens) for width, tokens in frames.items()}


def _pictures_of(panel: CameraPanel, views: Mapping[int, PcaView]) -> Iterator[Image.Image]:
    pca = views[panel.patch_tokens.shape[1]](panel.patch_tokens, panel.grid, panel.rgb.shape[:2])
    for pixels in (panel.rgb, pca, panel.attention):
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        yield picture.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
