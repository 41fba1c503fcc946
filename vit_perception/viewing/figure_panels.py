"""The panels of the figure that show numbers: classes, shapes, positions, distances."""

from dataclasses import dataclass

import numpy as np

from vit_perception.viewing.measures import PositionSimilarity
from vit_perception.viewing.model_trace import ModelTrace
from vit_perception.wire.records import ClassScore

INK, DIM, PAPER, ACCENT = "#19191e", "#6e6e76", "#fafaf8", "#c8553d"
MAPS_AN_AXIS = 7


@dataclass(frozen=True, eq=False)
class FigureContent:
    """What the figure shows."""

    # The heading, and the line below it.
    title: str
    subtitle: str
    # (H, W, 3) uint8 that the network saw.
    rgb: np.ndarray
    # Side of a patch.
    patch_size_px: int
    # What was measured.
    trace: ModelTrace
    # None for a model without position embeddings.
    positions: PositionSimilarity | None
    # Best first; may be empty.
    classes: tuple[ClassScore, ...]
    # Which head they are from.
    classes_of: str = "of the model's own head"
    # Why there are none.
    no_classes: str = "no classifier, no classes"


def chosen_places(count: int) -> np.ndarray:
    """Return at most ``MAPS_AN_AXIS`` of ``count`` rows or columns, evenly spread.

    The first and the last are among them.
    """
    return np.linspace(0, count - 1, min(count, MAPS_AN_AXIS)).round().astype(int)


def map_of_maps(positions: PositionSimilarity) -> np.ndarray:
    """Return one map of similarities (rows, columns) for each chosen patch, next to each other.

    NaN separates them.
    """
    rows, columns = positions.grid
    gap = max(1, round(max(rows, columns) / 12))
    values = positions.values.reshape(rows, columns, rows, columns)
    maps = [
        [
            np.pad(values[y, x], ((0, gap), (0, gap)), constant_values=np.nan)
            for x in chosen_places(columns)
        ]
        for y in chosen_places(rows)
    ]
    return np.block(maps)[:-gap, :-gap]


def draw_classes(axes, classes: tuple[ClassScore, ...]) -> None:
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(max(5, len(classes)), 0))
    for row, result in enumerate(classes):
        name = result.class_id if len(result.class_id) <= 24 else result.class_id[:23] + "…"
        axes.text(0, row + 0.32, name, size=10, color=INK, va="center")
        axes.text(1, row + 0.32, f"{result.score:.3f}", size=10, color=INK, va="center", ha="right")
        axes.barh(row + 0.68, 1.0, height=0.16, color="#e6e4df")
        axes.barh(row + 0.68, result.score, height=0.16, color=ACCENT)


def draw_shapes(axes, content: FigureContent) -> None:
    steps = content.trace.steps
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(len(steps), 0))
    for row, step in enumerate(steps):
        if row % 2 == 0:
            axes.axhspan(row, row + 1, color="#f0eeea", lw=0)
        for x, text, style in (
            (0.01, step.name, {"color": INK, "weight": "bold"}),
            (0.25, " × ".join(map(str, step.shape)), {"color": ACCENT, "family": "monospace"}),
            (0.505, step.what, {"color": DIM}),
        ):
            axes.text(x, row + 0.5, text, size=9, va="center", **style)


def draw_positions(axes, bar_axes, positions: PositionSimilarity) -> None:
    sheet = map_of_maps(positions)
    low = min(0.0, float(np.floor(10 * positions.values.min()) / 10))
    drawn = axes.imshow(sheet, cmap="viridis", vmin=low, vmax=1.0, interpolation="nearest")
    axes.set_anchor("NW")
    axes.set_facecolor(PAPER)
    for set_ticks, count in (
        (axes.set_xticks, positions.grid[1]),
        (axes.set_yticks, positions.grid[0]),
    ):
        places = chosen_places(count)
        gap = max(1, round(max(positions.grid) / 12))
        set_ticks(
            np.arange(len(places)) * (count + gap) + (count - 1) / 2, [str(p) for p in places]
        )
    axes.tick_params(length=0, labelsize=8, colors=DIM)
    axes.set_xlabel("patch column", size=9, color=DIM)
    axes.set_ylabel("patch row", size=9, color=DIM)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.figure.colorbar(drawn, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=DIM)


def draw_distances(axes, content: FigureContent) -> None:
    trace = content.trace
    depth = np.arange(len(trace.distance_px))
    for head, values in enumerate(trace.distance_px.T):
        axes.scatter(
            depth,
            values,
            s=16,
            color=INK,
            alpha=0.55,
            lw=0,
            zorder=3,
            label="a head" if head == 0 else None,
        )
    axes.plot(
        depth, trace.distance_px.mean(axis=1), color=ACCENT, lw=1.6, label="mean of the heads"
    )
    height_px, width_px = content.rgb.shape[:2]
    axes.axvspan(
        trace.block - 0.4,
        trace.block + 0.4,
        color="#e6e4df",
        lw=0,
        zorder=1,
        label="the block below",
    )
    axes.set(facecolor=PAPER, ylim=(0, None), xlim=(-0.6, depth[-1] + 0.6))
    axes.set_xlabel("block", size=9, color=DIM)
    axes.set_ylabel(f"px of the network's {height_px} × {width_px}", size=9, color=DIM)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(length=0, labelsize=8, colors=DIM)
    axes.grid(axis="y", color="#e6e4df", lw=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#c9c7c2")
    axes.legend(
        fontsize=8,
        frameon=False,
        labelcolor=DIM,
        loc="lower right",
        ncols=3,
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
    )
