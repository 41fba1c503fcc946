"""What stands where on a contact sheet: texts, colours and places, not pixels of letters."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from vit_perception.pipeline.feature_views import PcaView, attention_colours
from vit_perception.viewing.contact_sheet import (
    CELL_PX,
    DIM,
    FOREGROUND,
    GAP_PX,
    TEXT_PX,
    WRONG,
    CameraPanel,
    SheetRow,
    draw_sheet,
    labels_of,
)
from vit_perception.viewing.pose_map import ArmPath, HandPose
from vit_perception.viewing.sheet_legend import (
    ATTENTION,
    LETTERS_PX,
    PCA,
    POSE,
    RED,
    SCORE,
    entries,
    legend_height_px,
    wrapped,
)

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


def panel(camera="wrist", predicted="grasp", score=0.9, tokens=None):
    grey = np.full((56, 56, 3), 128, np.uint8)
    if tokens is None:
        tokens = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    return CameraPanel(camera, grey, tokens, (4, 4), grey, predicted, score)


def row(truth="grasp", predicted="grasp", panels=(), **more):
    return SheetRow(1.25, truth, predicted, 0.94, panels or (panel(),), **more)


def labels(rows, title="bag: model on engine", time_is="time since the first frame", poses=False):
    return list(labels_of(rows, title, time_is, poses))


def test_the_head_of_the_sheet_says_source_model_engine_and_what_the_time_is():
    first, second, *_ = labels([row()])
    assert (first.text, first.colour) == ("bag: model on engine", FOREGROUND)
    assert second.text == "time since the first frame" and second.left_px < TEXT_PX
    assert "1.25 s" in [label.text for label in labels([row()])]


def test_each_column_has_its_heading():
    cameras = (panel("left"), panel("right"))
    headings = [(label.text, label.left_px) for label in labels([row(panels=cameras)], poses=True)]
    names = ["left", "PCA of patch tokens", "CLS attention", "right", "PCA of patch tokens"]
    names += ["CLS attention", "pose, from above"]
    for column, name in enumerate(names):
        assert (name, TEXT_PX + column * (CELL_PX + GAP_PX)) in headings


def test_what_is_wrong_is_red_and_nothing_else():
    cameras = (panel("left", "grasp"), panel("right", "carry", 0.71))
    found = {label.text: label.colour for label in labels([row("grasp", "grasp", cameras)])}
    assert found["right: carry  0.71"] == WRONG and found["left: grasp  0.90"] == DIM
    assert found["grasp  0.94"] == FOREGROUND
    found = {label.text: label.colour for label in labels([row("place", "grasp", cameras)])}
    assert found["grasp  0.94"] == WRONG and found["left: grasp  0.90"] == WRONG
    unknown = [label.colour for label in labels([row("", "grasp", cameras)])]
    assert WRONG not in unknown


def test_texts_stay_in_their_column_and_row():
    long = "m" * 300
    cameras = tuple(panel(f"{long}{k}", long) for k in range(5))
    for label in labels([row(long, long, cameras)] * 2)[1:]:
        width = ImageFont.load_default(label.size_px).getlength(label.text)
        if label.left_px < TEXT_PX:
            assert label.left_px + width < TEXT_PX
    tops = [label.top_px for label in labels([row(panels=cameras)]) if label.left_px < TEXT_PX]
    assert max(tops) + 20 < tops[1] + 34 + CELL_PX


def test_the_legend_explains_what_is_on_the_sheet_and_nothing_else():
    assert entries([row()], with_poses=True) == [
        ("0.94", SCORE),
        ("red", RED),
        ("PCA of patch tokens", PCA),
        ("CLS attention", ATTENTION),
        ("pose, from above", POSE),
    ]
    unknown = entries([row(truth="")], with_poses=False)
    assert unknown[0] == ("0.94", SCORE) and "red" not in [name for name, _ in unknown]
    assert [name for name, _ in entries([row("", "")], with_poses=False)] == [
        "PCA of patch tokens",
        "CLS attention",
    ]


@pytest.mark.parametrize("width_px", [300, 700, 1500])
def test_lines_of_the_legend_fit(width_px):
    font = ImageFont.load_default(LETTERS_PX)
    for text in (PCA, ATTENTION, POSE, SCORE):
        lines = wrapped(text, width_px)
        assert " ".join(lines) == text
        assert all(font.getlength(line) <= width_px for line in lines)


@pytest.mark.parametrize("paths", [None, {"arm": ArmPath(np.zeros(1), np.zeros((1, 3)))}])
def test_the_sheet_holds_all_columns_rows_and_the_legend(paths):
    rows = [row(hands={"arm": HandPose(np.zeros(3), UPRIGHT)} if paths else {})] * 3
    sheet = draw_sheet(rows, "t", paths=paths)
    columns = 3 + bool(paths)
    assert sheet.width == TEXT_PX + columns * (CELL_PX + GAP_PX) + GAP_PX
    legend_px = legend_height_px(rows, sheet.width, bool(paths))
    assert sheet.height == 68 + 3 * (CELL_PX + GAP_PX) + legend_px and legend_px > 80
    # The scale of attention is in the legend, from its least to its most.
    legend = np.asarray(sheet.crop((0, sheet.height - legend_px, sheet.width, sheet.height)))
    for level in (0, 255):
        colour = attention_colours(np.full((1, 1), level, np.uint8))[0, 0]
        assert np.all(legend == colour, axis=-1).sum() >= 10
    red = np.all(legend == (190, 40, 40), axis=-1)
    assert red.any()


def test_like_tokens_have_like_colours_in_every_camera_and_row():
    """Regression: each camera had colours of its own, so that red meant two things."""
    rng = np.random.default_rng(1)
    kinds = rng.normal(size=(5, 8)).astype(np.float32) * 4
    left = kinds[np.repeat([0, 1, 2, 3], 4)]
    right = kinds[np.repeat([4, 1, 4, 2], 4)]
    rows = [row(panels=(panel("left", tokens=left), panel("right", tokens=right)))]
    view = PcaView.learned_from([left, right])
    sheet = np.asarray(draw_sheet(rows, "t"))

    def centre(column, grid_row):  # of a row of four equal patches
        y = 68 + (2 * grid_row + 1) * CELL_PX // 8
        return sheet[y, TEXT_PX + column * (CELL_PX + GAP_PX) + CELL_PX // 2].astype(int)

    for column, tokens in ((1, left), (4, right)):
        expected = view(tokens, (4, 4), (4, 4))
        for k in range(4):
            assert np.abs(centre(column, k) - expected[k, 0].astype(int)).max() < 30
    assert np.abs(centre(1, 1) - centre(4, 1)).max() < 30  # both are the second kind
    assert np.abs(centre(1, 0) - centre(4, 0)).max() > 40  # these are two kinds


def test_colours_that_were_learned_from_all_are_kept():
    rng = np.random.default_rng(2)
    frames = [rng.normal(size=(16, 8)) * scale for scale in (1.0, 3.0)]
    view = PcaView.learned_from(frames)
    first = view(frames[0], (4, 4), (4, 4))
    view(rng.normal(size=(16, 8)) * 50, (4, 4), (4, 4))
    np.testing.assert_array_equal(view(frames[0], (4, 4), (4, 4)), first)
    # The range is that of all frames: the one of little variation does not span it.
    assert np.ptp(first.astype(int)) < np.ptp(view(frames[1], (4, 4), (4, 4)).astype(int))


def test_a_sheet_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        draw_sheet([], "t")
    assert isinstance(draw_sheet([row()], "t"), Image.Image)
