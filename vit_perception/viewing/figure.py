"""The figure of `vit-perception explain`: one image's way through a model, as in the ViT papers."""

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
from vit_perception.viewing.model_trace import ModelTrace

WIDTH_IN = 14.0
MARGIN_IN = 0.45
DPI = 90
HEADING_IN = 1.5
PICTURE_IN = 2.35
MEASURES_IN = 3.2
GAP_IN = 0.82
BETWEEN_IN = 0.4
TABLE_IN = MARGIN_IN + 2 * (PICTURE_IN + BETWEEN_IN)
PATCHES_DRAWN_PX = 480


def draw_figure(content: FigureContent, path: Path, head_columns: int | None = None) -> None:
    """Write the figure to ``path`` as PNG, with ``head_columns`` heads in a row.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    heads = len(content.trace.attention)
    columns = min(heads, head_columns or columns_for(heads))
    height_px, width_px = content.rgb.shape[:2]
    wide_in = min(2.6, (WIDTH_IN - 2 * MARGIN_IN + 0.12) / columns - 0.12)
    cell_in = wide_in, min(4.0, wide_in * height_px / width_px)
    measures_in = HEADING_IN + 2 * (PICTURE_IN + GAP_IN)
    heads_in = measures_in + MEASURES_IN + GAP_IN + 0.4
    sheet = _Sheet(heads_in + -(-heads // columns) * (cell_in[1] + 0.3) + 0.2)
    sheet.text(MARGIN_IN, 0.34, content.title, size=17, weight="bold", color=INK, va="center")
    sheet.text(MARGIN_IN, 0.66, content.subtitle, size=10.5, color=DIM, va="center")
    _draw_pictures(sheet, HEADING_IN, content)
    _draw_measures(sheet, measures_in, content)
    _draw_heads(sheet=sheet, top=heads_in, content=content, columns=columns, cell_in=cell_in)
    write_whole(path, lambda file: FigureCanvasAgg(sheet.figure).print_png(str(file)))


class _Sheet:
    """A matplotlib figure without a window; places are inches from its top left corner."""

    def __init__(self, height_in: float):
        from matplotlib.figure import Figure

        self.height_in = height_in
        self.figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor=PAPER)

    def axes(self, left: float, top: float, wide: float, tall: float):
        """Add axes."""
        return self.figure.add_axes(
            (
                left / WIDTH_IN,
                1 - (top + tall) / self.height_in,
                wide / WIDTH_IN,
                tall / self.height_in,
            )
        )

    def text(self, left: float, top: float, text: str, **style) -> None:
        """Add a line of text."""
        self.figure.text(left / WIDTH_IN, 1 - top / self.height_in, text, **style)

    def heading(self, left: float, top: float, text: str, note: str) -> None:
        """Add a heading and a smaller line below it, both above ``top``."""
        self.text(left, top - 0.3, text, size=12.5, weight="bold", color=INK, va="bottom")
        self.text(left, top - 0.07, note, size=9, color=DIM, va="bottom")

    def picture(self, left: float, top: float, size_in: tuple[float, float], pixels: np.ndarray):
        """Show ``pixels`` (H, W, 3) in the top left corner of a box of (width, height) inches."""
        axes = self.axes(left, top, *size_in)
        axes.imshow(pixels, interpolation="antialiased")
        axes.set_anchor("NW")
        axes.axis("off")
        return axes


def _draw_pictures(sheet: _Sheet, top: float, content: FigureContent) -> None:
    """Draw two by two images, and the table of shapes next to them."""
    trace = content.trace
    patch_px = content.patch_size_px
    square = (PICTURE_IN, PICTURE_IN)
    below = top + PICTURE_IN + GAP_IN
    second = MARGIN_IN + PICTURE_IN + BETWEEN_IN
    size_px = content.rgb.shape[:2]
    sheet.heading(
        left=MARGIN_IN, top=top, text="Network's view", note=f"{size_px[0]} × {size_px[1]} px"
    )
    sheet.picture(left=MARGIN_IN, top=top, size_in=square, pixels=content.rgb)
    sheet.heading(
        left=MARGIN_IN,
        top=below,
        text="Patches",
        note=f"{trace.grid[0]} × {trace.grid[1]} of {patch_px} × {patch_px} px",
    )
    sheet.picture(left=MARGIN_IN, top=below, size_in=square, pixels=cut_out(content.rgb, patch_px))
    sheet.heading(
        left=second,
        top=top,
        text="PCA of patch tokens",
        note=f"main directions as R, G, B; block {trace.block}",
    )
    sheet.picture(
        left=second,
        top=top,
        size_in=square,
        pixels=PcaView(frames=1)(trace.output.patch_tokens[0].numpy(), trace.grid, size_px),
    )
    if content.classes:
        sheet.heading(left=second, top=below, text="Top classes", note=content.classes_of)
        draw_classes(sheet.axes(second, below, *square), content.classes)
    else:
        sheet.heading(
            left=second,
            top=below,
            text="Attention, all heads",
            note=f"their mean; {content.no_classes}",
        )
        sheet.picture(
            left=second,
            top=below,
            size_in=square,
            pixels=attention_view(trace.attention, trace.grid, content.rgb),
        )
    sheet.heading(
        left=TABLE_IN,
        top=top,
        text="Shapes",
        note="measured: images × tokens × channels; of attention images × heads × tokens × tokens",
    )
    draw_shapes(
        sheet.axes(
            left=TABLE_IN,
            top=top,
            wide=WIDTH_IN - MARGIN_IN - TABLE_IN,
            tall=2 * PICTURE_IN + GAP_IN,
        ),
        content,
    )


def _draw_measures(sheet: _Sheet, top: float, content: FigureContent) -> None:
    """Draw how similar positions are, and how far each head looks."""
    positions = content.positions
    note = {
        "learned": "cosine; each map: one patch's learned embedding to all",
        "rotary": "rotary, not learned: mean cosine of angles between places",
        "none": "this model has no position embedding",
    }[positions.kind if positions else "none"]
    sheet.heading(left=MARGIN_IN, top=top, text="Similarity of positions", note=note)
    if positions is not None:
        tall = MEASURES_IN * min(1.0, positions.grid[0] / positions.grid[1])
        draw_positions(
            sheet.axes(left=MARGIN_IN + 0.45, top=top + 0.05, wide=MEASURES_IN, tall=tall),
            sheet.axes(left=MARGIN_IN + 0.6 + MEASURES_IN, top=top + 0.05, wide=0.14, tall=tall),
            positions,
        )
    sheet.heading(
        left=TABLE_IN,
        top=top,
        text="Mean attention distance",
        note="between patches, a dot a head; of this one picture",
    )
    left = TABLE_IN + 0.45
    draw_distances(
        sheet.axes(
            left=left, top=top + 0.05, wide=WIDTH_IN - MARGIN_IN - left, tall=MEASURES_IN - 0.15
        ),
        content,
    )


def _draw_heads(
    sheet: _Sheet, top: float, content: FigureContent, columns: int, cell_in: tuple[float, float]
) -> None:
    """Draw what each head of the chosen block attends to."""
    trace = content.trace
    asked_by = trace.asked_by if trace.asked_by == "all patches" else f"the {trace.asked_by}"
    sheet.heading(
        left=MARGIN_IN,
        top=top,
        text=f"Attention of {asked_by}, head by head",
        note=_attention_note(trace),
    )
    for index, weights in enumerate(trace.attention):
        row, column = divmod(index, columns)
        axes = sheet.picture(
            left=MARGIN_IN + column * (cell_in[0] + 0.12),
            top=top + row * (cell_in[1] + 0.3),
            size_in=cell_in,
            pixels=attention_view(weights[None], trace.grid, content.rgb),
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
    """Return how many heads are drawn in a row: all up to 8, else as many as give even rows."""
    rows = -(-heads // 8)
    return -(-heads // rows)


def cut_out(rgb: np.ndarray, patch_size_px: int) -> np.ndarray:
    """Return ``rgb`` (H, W, 3) uint8 with white lines between its patches.

    It is enlarged by a whole number, so that no patch is blurred.
    """
    zoom = max(1, round(PATCHES_DRAWN_PX / max(rgb.shape[:2])))
    side = patch_size_px * zoom
    gap = max(2, patch_size_px * zoom // 9)
    rows = rgb.shape[0] // patch_size_px
    columns = rgb.shape[1] // patch_size_px
    large = rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)
    sheet = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 250, np.uint8)
    for row in range(rows):
        for column in range(columns):
            y = row * (side + gap)
            x = column * (side + gap)
            sheet[y : y + side, x : x + side] = large[
                row * side : (row + 1) * side, column * side : (column + 1) * side
            ]
    return sheet


def _attention_note(trace: ModelTrace) -> str:
    who = {
        "CLS token": "softmax over all tokens; share on patches, the rest is on other tokens",
        "probe": "the learned probe of the attention pooling, behind this block",
        "all patches": "mean of all patches' queries: this model has neither a CLS token nor a "
        "probe",
    }
    return f"block {trace.block}: {who[trace.asked_by]}"
