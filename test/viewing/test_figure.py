import cv2
import numpy as np
import pytest
import torch

from test.viewing.test_model_trace import KINDS, model_of
from vit_perception.viewing.figure import (
    columns_for,
    cut_out,
    draw_figure,
)
from vit_perception.viewing.figure_panels import FigureContent, chosen_places, map_of_maps
from vit_perception.viewing.measures import PositionSimilarity, position_similarity
from vit_perception.viewing.model_trace import trace_model
from vit_perception.wire.records import ClassScore


@pytest.mark.parametrize("kind", ["rope", "map", "mean"])
def test_a_figure_of_every_kind_of_model(kind, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figure")
    model, images = model_of(**KINDS[kind][0]), torch.rand(1, 3, 48, 24)
    rgb = (images[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    trace = trace_model(model, images)
    positions = None if kind == "mean" else position_similarity(model, trace.grid)
    pictures = []
    for score in (0.2, 0.9) if kind == "mean" else (0.2,):
        content = FigureContent(
            "tiny",
            "",
            rgb,
            8,
            trace,
            positions,
            (ClassScore("cup", score),) if kind == "mean" else (),
        )
        draw_figure(content, tmp_path / "figure.png", 2)
        pictures.append(cv2.imread(str(tmp_path / "figure.png")))
    assert pictures[0].shape[1] == 1260 and pictures[0].std() > 10
    # The bar of a class is as long as its score.
    assert len(pictures) == 1 or not np.array_equal(*pictures)


def test_patches_are_cut_out_unchanged():
    rgb = np.random.default_rng(0).integers(0, 200, (16, 24, 3), np.uint8)
    sheet = cut_out(rgb, 8)  # 20 times as large: 160 px a patch, 17 px between
    assert sheet.shape == (2 * 177 - 17, 3 * 177 - 17, 3)
    assert np.array_equal(sheet[177 : 177 + 160 : 20, 354 : 354 + 160 : 20], rgb[8:, 16:])
    assert (sheet[160:177] == 250).all() and (sheet[:, 160:177] == 250).all()


def test_maps_stand_where_their_patches_are():
    values = np.arange(36, dtype=np.float32).reshape(6, 6)
    sheet = map_of_maps(PositionSimilarity(values, (2, 3), "learned"))
    assert sheet.shape == (2 * 3 - 1, 3 * 4 - 1)
    assert np.array_equal(sheet[3:, 8:], values[5].reshape(2, 3)) and np.isnan(sheet[2]).all()


def test_few_of_many_are_chosen():
    assert chosen_places(37).tolist() == [0, 6, 12, 18, 24, 30, 36] and chosen_places(
        3
    ).tolist() == [0, 1, 2]
    assert [columns_for(heads) for heads in (3, 8, 12, 16, 20, 24)] == [3, 8, 6, 8, 7, 8]
