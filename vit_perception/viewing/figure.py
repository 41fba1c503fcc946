"""The figure of one picture's way through a model, as the ViT papers draw its parts. matplotlib,
without a window.
"""

from pathlib import Path

import numpy as np

from vit_perception.files.atomic import write_whole
from vit_perception.pipeline.feature_views import PcaView, attention_view
from vit_perception.viewing.figure_panels import (
    DIM,
    INK,
    PAPER,
    FigureContent,
    draw_classes,
    draw_distances,
    draw_positions,
    draw_shapes,
)
from vit_perception.viewing.model_inside import Inside

WIDTH_IN, MARGIN_IN, DPI = 14.0, 0.45, 90
HEADING_IN, PICTURE_IN, MEASURES_IN, GAP_IN, BETWEEN_IN = 1.5, 2.35, 3.2, 0.82, 0.4
TABLE_IN = MARGIN_IN + 2 * (PICTURE_IN + BETWEEN_IN)
PATCHES_DRAWN_PX = 480


def draw_figure(story: FigureContent, path: Path, head_columns: int | None = None) -> None:
    """Write the figure to ``path`` as PNG; ``head_columns`` heads stand in a row. ImportError
    without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    heads = len(story.inside.attention)
    columns = min(heads, head_columns or columns_for(heads))
    height_px, width_px = story.rgb.shape[:2]
    wide_in = min(2.6, (WIDTH_IN - 2 * MARGIN_IN + 0.12) / columns - 0.12)
    cell_in = wide_in, min(4.0, wide_in * height_px / width_px)
    measures_in = HEADING_IN + 2 * (PICTURE_IN + GAP_IN)
    heads_in = measures_in + MEASURES_IN + GAP_IN + 0.4
    sheet = _Sheet(heads_in + -(-heads // columns) * (cell_in[1] + 0.3) + 0.2)
    sheet.text(MARGIN_IN, 0.34, story.title, size=17, weight="bold", color=INK, va="center")
    sheet.text(MARGIN_IN, 0.66, story.subtitle, size=10.5, color=DIM, va="center")
    _draw_pictures(sheet, HEADING_IN, story)
    _draw_measures(sheet, measures_in, story)
    _draw_heads(sheet, heads_in, story, columns, cell_in)
    write_whole(path, lambda file: FigureCanvasAgg(sheet.figure).print_png(str(file)))


class _Sheet:
    """A matplotlib figure without a window; places are inches from its top left corner."""

    def __init__(self, height_in: float):
        from matplotlib.figure import Figure

        self.height_in = height_in
        self.figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor=PAPER)

    def axes(self, left: float, top: float, wide: float, tall: float):
        """New axes."""
        return self.figure.add_axes(
            (
                left / WIDTH_IN,
                1 - (top + tall) / self.height_in,
                wide / WIDTH_IN,
                tall / self.height_in,
            )
        )

    def text(self, left: float, top: float, text: str, **style) -> None:
        """A line of text."""
        self.figure.text(left / WIDTH_IN, 1 - top / self.height_in, text, **style)

    def heading(self, left: float, top: float, text: str, note: str) -> None:
        """A heading and a smaller line, above ``top``."""
        self.text(left, top - 0.3, text, size=12.5, weight="bold", color=INK, va="bottom")
        self.text(left, top - 0.07, note, size=9, color=DIM, va="bottom")

    def picture(self, left: float, top: float, size_in: tuple[float, float], pixels: np.ndarray):
        """``pixels`` in the top left corner of (width, height)."""
        axes = self.axes(left, top, *size_in)
        axes.imshow(pixels, interpolation="antialiased")
        axes.set_anchor("NW")
        axes.axis("off")
        return axes


def _draw_pictures(sheet: _Sheet, top: float, story: FigureContent) -> None:
    """Two by two pictures, and the table of shapes beside them."""
    inside, patch_px, square = story.inside, story.patch_size_px, (PICTURE_IN, PICTURE_IN)
    below, second, size_px = (
        top + PICTURE_IN + GAP_IN,
        MARGIN_IN + PICTURE_IN + BETWEEN_IN,
        story.rgb.shape[:2],
    )
    sheet.heading(MARGIN_IN, top, "Network's view", f"{size_px[0]} × {size_px[1]} px")
    sheet.picture(MARGIN_IN, top, square, story.rgb)
    sheet.heading(
        MARGIN_IN,
        below,
        "Patches",
        f"{inside.grid[0]} × {inside.grid[1]} of {patch_px} × {patch_px} px",
    )
    sheet.picture(MARGIN_IN, below, square, cut_out(story.rgb, patch_px))
    sheet.heading(
        second, top, "PCA of patch tokens", f"main directions as R, G, B; block {inside.block}"
    )
    sheet.picture(
        second,
        top,
        square,
        PcaView(frames=1)(inside.output.patch_tokens[0].numpy(), inside.grid, size_px),
    )
    if story.classes:
        sheet.heading(second, below, "Top classes", story.classes_of)
        draw_classes(sheet.axes(second, below, *square), story.classes)
    else:
        sheet.heading(second, below, "Attention, all heads", f"their mean; {story.no_classes}")
        sheet.picture(
            second, below, square, attention_view(inside.attention, inside.grid, story.rgb)
        )
    sheet.heading(
        TABLE_IN,
        top,
        "Shapes",
        "measured: images × tokens × channels; of attention images × heads × tokens × tokens",
    )
    draw_shapes(
        sheet.axes(TABLE_IN, top, WIDTH_IN - MARGIN_IN - TABLE_IN, 2 * PICTURE_IN + GAP_IN), story
    )


def _draw_measures(sheet: _Sheet, top: float, story: FigureContent) -> None:
    """Similarity of the positions, and how far each head looks."""
    positions = story.positions
    note = {
        "learned": "cosine; each map: one patch's learned embedding to all",
        "rotary": "rotary, not learned: mean cosine of angles between places",
        "none": "this model has no position embedding",
    }[positions.kind if positions else "none"]
    sheet.heading(MARGIN_IN, top, "Similarity of positions", note)
    if positions is not None:
        tall = MEASURES_IN * min(1.0, positions.grid[0] / positions.grid[1])
        draw_positions(
            sheet.axes(MARGIN_IN + 0.45, top + 0.05, MEASURES_IN, tall),
            sheet.axes(MARGIN_IN + 0.6 + MEASURES_IN, top + 0.05, 0.14, tall),
            positions,
        )
    sheet.heading(
        TABLE_IN,
        top,
        "Mean attention distance",
        "between patches, a dot a head; of this one picture",
    )
    left = TABLE_IN + 0.45
    draw_distances(
        sheet.axes(left, top + 0.05, WIDTH_IN - MARGIN_IN - left, MEASURES_IN - 0.15), story
    )


def _draw_heads(
    sheet: _Sheet, top: float, story: FigureContent, columns: int, cell_in: tuple[float, float]
) -> None:
    """Where each head of the chosen block looks."""
    inside = story.inside
    asked_by = inside.asked_by if inside.asked_by == "all patches" else f"the {inside.asked_by}"
    sheet.heading(MARGIN_IN, top, f"Attention of {asked_by}, head by head", _attention_note(inside))
    for index, weights in enumerate(inside.attention):
        row, column = divmod(index, columns)
        axes = sheet.picture(
            MARGIN_IN + column * (cell_in[0] + 0.12),
            top + row * (cell_in[1] + 0.3),
            cell_in,
            attention_view(weights[None], inside.grid, story.rgb),
        )
        axes.text(
            0.0,
            -0.03,
            f"head {index}: {weights.sum():.0%}",
            size=8.5,
            color=DIM,
            va="top",
            transform=axes.transAxes,
        )


def columns_for(heads: int) -> int:
    """How many heads stand in a row: all up to 8, else the most even rows."""
    rows = -(-heads // 8)
    return -(-heads // rows)


def cut_out(rgb: np.ndarray, patch_size_px: int) -> np.ndarray:
    """``rgb`` (H, W, 3) with white between its patches, enlarged by whole numbers so that no patch
    is blurred.
    """
    zoom = max(1, round(PATCHES_DRAWN_PX / max(rgb.shape[:2])))
    side, gap = patch_size_px * zoom, max(2, patch_size_px * zoom // 9)
    rows, columns = rgb.shape[0] // patch_size_px, rgb.shape[1] // patch_size_px
    large = rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)
    sheet = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 250, np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = row * (side + gap), column * (side + gap)
            sheet[y : y + side, x : x + side] = large[
                row * side : (row + 1) * side, column * side : (column + 1) * side
            ]
    return sheet


def _attention_note(inside: Inside) -> str:
    who = {
        "CLS token": "softmax over all tokens; share on patches, the rest is on other tokens",
        "probe": "the learned probe of the attention pooling, behind this block",
        "all patches": "mean of all patches' queries: this model has neither a CLS token nor a "
        "probe",
    }
    return f"block {inside.block}: {who[inside.asked_by]}"
