"""Draw docs/images/action_timing.png: one inference on the time line of two chunks of actions.

    python -m tools.action_timeline

Every number in the picture comes from ``vit_perception.policy.timing``.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vit_perception.policy.timing import ActionTiming

PICTURE = Path(__file__).resolve().parent.parent / "docs/images/action_timing.png"
MS_NS = 1_000_000
PERIOD_MS = 50
LENGTH = 8
AGE_MS = 80  # from the stamp until the policy begins: camera, encoder, transport
RUNNING_MS = 55  # of the policy
EARLIER_MS = -200  # the stamp of the chunk before
STAMP_NS = 10_000 * MS_NS

OVER = "#d9d9d9"
DONE = "#74a9cf"
TAKEN = "#7fbf7b"
LEFT = "#f7f7f7"
WAIT = "#fdcc8a"
RUN = "#fc8d59"


def measured() -> tuple[int, int, int]:
    """Return the inference delay, the shift between the chunks, and the action due when ready."""
    timing = ActionTiming(period_s=PERIOD_MS / 1e3, length=LENGTH)
    ready_ns = STAMP_NS + (AGE_MS + RUNNING_MS) * MS_NS
    timing.begin(STAMP_NS, STAMP_NS + AGE_MS * MS_NS)
    timing.end(ready_ns)
    delay = timing.inference_delay()
    due = timing.due(STAMP_NS, STAMP_NS + delay * PERIOD_MS * MS_NS)
    shift = timing.shift(STAMP_NS + EARLIER_MS * MS_NS, STAMP_NS)
    if due != delay:
        raise RuntimeError(f"action {due} is due at the first step after {delay}")
    return delay, shift, due


def bar(axes: Axes, row: float, begin_ms: float, end_ms: float, colour: str, text: str) -> None:
    """Draw one bar with a text in it; ``row`` counts from the bottom."""
    axes.barh(row, end_ms - begin_ms, left=begin_ms, height=0.62, color=colour, edgecolor="#404040")
    axes.text((begin_ms + end_ms) / 2, row, text, ha="center", va="center", fontsize=9)


def chunk(axes: Axes, row: float, stamp_ms: float, colours: list[str]) -> None:
    """Draw the actions of a chunk with their indices."""
    for index, colour in enumerate(colours):
        begin_ms = stamp_ms + index * PERIOD_MS
        bar(axes, row, begin_ms, begin_ms + PERIOD_MS, colour, str(index))


def drawn() -> Figure:
    """Return the picture."""
    delay, shift, _ = measured()
    ready_ms = AGE_MS + RUNNING_MS
    figure = Figure(figsize=(9.6, 4.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    bar(axes, 3, 0, AGE_MS, WAIT, f"{AGE_MS} ms")
    bar(axes, 2, AGE_MS, ready_ms, RUN, f"{RUNNING_MS} ms")
    # The chunk before: carried out, carried out while the new one is made, not needed any more.
    before = [OVER] * shift + [DONE] * delay + [LEFT] * (LENGTH - shift - delay)
    chunk(axes, 1, EARLIER_MS, before)
    chunk(axes, 0, 0, [OVER] * delay + [TAKEN] * (LENGTH - delay))
    lines = {
        0: "stamp of the observation",
        ready_ms: f"chunk is ready: {ready_ms} ms",
        delay * PERIOD_MS: f"next step of the robot:\naction {delay} is due",
    }
    for place, (at_ms, text) in enumerate(lines.items()):
        axes.axvline(at_ms, color="#404040", linestyle="--", linewidth=1, zorder=0)
        on_the_left = place < 2
        axes.text(
            at_ms + (-4 if on_the_left else 4),
            (3.62, 3.62, 2.9)[place],
            text,
            ha="right" if on_the_left else "left",
            va="center",
            fontsize=9,
        )
    axes.annotate(
        "",
        xy=(delay * PERIOD_MS, 0.5),
        xytext=(0, 0.5),
        arrowprops={"arrowstyle": "<->", "color": "#404040"},
    )
    axes.text(
        delay * PERIOD_MS + 4,
        0.5,
        f"inference_delay = {delay}",
        va="center",
        fontsize=9,
    )
    rows = ["new chunk", "chunk before", "policy", "camera, encoder,\ntransport"]
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("time after the stamp of the observation, ms")
    axes.set_xlim(EARLIER_MS - 10, PERIOD_MS * LENGTH + 10)
    axes.set_ylim(-0.5, 3.95)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def main() -> int:
    """Write the picture."""
    drawn().savefig(PICTURE, metadata={"Software": None})
    print(f"{PICTURE}: {measured()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
