import csv
import sys

import cv2
import numpy as np
import pytest

from vit_perception.training.curves import draw_curves, write_metrics

HISTORY = [
    {
        "epoch": k,
        "learning_rate": 1e-3 / k,
        "train_loss": 2.0 / k,
        "train_accuracy": 1 - 0.5 / k,
        "held_out_loss": 2.5 / k,
        "held_out_accuracy": 1 - 0.6 / k,
        "seconds": 0.5,
    }
    for k in range(1, 8)
]


def test_metrics_are_a_row_an_epoch(tmp_path):
    write_metrics(tmp_path, HISTORY)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == HISTORY


def test_curves_are_a_picture_that_depends_on_the_figures(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the curves")
    assert draw_curves(tmp_path, HISTORY, 7) is None
    first = cv2.imread(str(tmp_path / "curves.png"))
    assert first.shape == (360, 1200, 3) and first.std() > 10
    assert draw_curves(tmp_path, HISTORY[:1], 1) is None
    assert not np.array_equal(first, cv2.imread(str(tmp_path / "curves.png")))


def test_without_matplotlib_one_line_says_so(tmp_path, monkeypatch):
    for name in ("matplotlib.backends.backend_agg", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install matplotlib" in draw_curves(tmp_path, HISTORY, 7) and not list(
        tmp_path.iterdir()
    )
