"""The sheet of a search: its pictures stand where they belong."""

from io import BytesIO

import numpy as np
from PIL import Image

from vit_perception.viewing.search.sheet import (
    CAPTION_PX,
    CELL_PX,
    GAP_PX,
    HEADING_PX,
    TITLE_PX,
    SheetPicture,
    search_sheet,
)


def one(colour, box=None):
    pixels = np.full((120, 160, 3), colour, np.uint8)
    return SheetPicture(pixels, ("a", "b"), box=box)


def opened(content):
    return np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int)


def cell(sheet, row, column):
    top = TITLE_PX + HEADING_PX + row * (CELL_PX[1] + CAPTION_PX)
    left = GAP_PX + column * (CELL_PX[0] + GAP_PX)
    return sheet[top : top + CELL_PX[1], left : left + CELL_PX[0]]


def test_queries_come_first_and_results_in_rows_of_five():
    colours = [(250, 0, 0), (0, 200, 0), (0, 0, 250), (90, 90, 0), (0, 90, 90), (90, 0, 90)]
    found = [one(colour) for colour in colours]
    sheet = opened(search_sheet("title", [], found))
    assert sheet.shape[1] == 5 * (CELL_PX[0] + GAP_PX) + GAP_PX
    for k, colour in enumerate(colours):
        middle = cell(sheet, *divmod(k, 5))[90, 120]
        assert np.abs(middle - colour).max() < 20
    with_query = opened(search_sheet("title", [one((9, 9, 9))], found))
    assert np.abs(cell(with_query, 0, 0)[90, 120] - 9).max() < 20
    assert len(with_query) == len(sheet) + HEADING_PX + CELL_PX[1] + CAPTION_PX


def test_a_region_is_outlined_and_clipped_to_the_picture():
    # 160 x 120 px are drawn 1.5 times as large.
    sheet = opened(search_sheet("title", [], [one((255, 255, 255), (40, 40, 80, 1e6))]))
    drawn = cell(sheet, 0, 0)
    outline = (drawn[..., 1] > 200) & (drawn[..., 0] < 120)
    rows, columns = np.nonzero(outline)
    assert (columns.min(), columns.max()) == (60, 120)
    assert rows.min() == 60 and rows.max() >= CELL_PX[1] - 2
    outside = opened(search_sheet("t", [], [one((255, 255, 255), (-90, -90, -10, -10))]))
    assert (cell(outside, 0, 0)[5:, 5:] > 250).all()


def test_a_picture_that_was_not_found_says_why_and_strangers_texts_fit():
    missing = SheetPicture(None, ("\x1b[31m" + "w" * 500, "b"), "day \x00 was not found " * 90)
    sheet = opened(search_sheet("t" * 900, [], [missing], "note " * 300))
    drawn = cell(sheet, 0, 0)
    assert (drawn < 150).any() and (drawn > 200).any()
    assert (sheet[:, -GAP_PX:] > 240).all()


def test_no_results_are_a_sheet_too():
    assert opened(search_sheet("title", [], [])).shape[1] > 600
