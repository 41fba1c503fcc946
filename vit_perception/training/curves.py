"""The course of a run: one row per epoch as CSV, and as curves."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from vit_perception.training.run_state import write_whole

METRICS_FILE = "metrics.csv"
CURVES_FILE = "curves.png"
PANELS = (
    ("loss", "cross-entropy", ("train_loss", "held_out_loss")),
    ("accuracy", "share of right predictions", ("train_accuracy", "held_out_accuracy")),
    ("learning rate", "at the end of the epoch", ("learning_rate",)),
)


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv: one row per epoch; the columns are the keys of ``history``.

    Raises:
        OutputError: The folder cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(
        folder / METRICS_FILE, lambda path: path.write_text(text.getvalue(), encoding="utf-8")
    )


def draw_curves(
    folder: Path, history: Sequence[Mapping[str, float]], best_epoch: int
) -> str | None:
    """Draw curves.png of ``history`` with the best epoch marked.

    Returns the reason if matplotlib is not installed, else None.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        return (
            f"no {CURVES_FILE}: {error}; pip install matplotlib (the figures are in {METRICS_FILE})"
        )
    # Without pyplot: no window system is looked for, and nothing global is left behind.
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, (title, unit, columns) in zip(figure.subplots(1, len(PANELS)), PANELS):
        for column in columns:
            axes.plot(
                epochs,
                [row[column] for row in history],
                marker="." if len(epochs) < 40 else "",
                label=column.replace(f"_{title}", "").replace("_", " "),
            )
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best: {best_epoch}")
        axes.set(title=title, xlabel="epoch", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    write_whole(folder / CURVES_FILE, lambda path: FigureCanvasAgg(figure).print_png(str(path)))
    return None
