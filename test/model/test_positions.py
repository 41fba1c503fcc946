"""Each family's way to resize a position embedding, by the library or the formula that the family
uses.
"""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.nn import functional

from vit_perception.model.positions import INTERPOLATIONS, resize_grid

GRIDS = [(7, 7), (3, 5), (10, 4), (1, 8)]


def learned(rows=5, columns=5):
    return torch.randn(1, 6, rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("grid", GRIDS)
def test_googles_is_scipys_zoom(grid):
    given = learned()
    ours = resize_grid(given, grid, "bilinear_corners")[0].numpy()
    zoom = (1, grid[0] / 5, grid[1] / 5)
    np.testing.assert_allclose(ours, scipy.ndimage.zoom(given[0].numpy(), zoom, order=1), atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_metas_adds_a_tenth_to_the_size(grid):
    """The scale of arXiv:2104.14294's code: (w0 + 0.1) / sqrt(N), rows and columns apart."""
    given = learned()
    scale = tuple((side + 0.1) / math.sqrt(25) for side in grid)
    expected = functional.interpolate(given, scale_factor=scale, mode="bicubic")
    assert expected.shape[2:] == grid
    assert torch.allclose(resize_grid(given, grid, "bicubic_offset"), expected, atol=1e-5)


@pytest.mark.parametrize(
    "name, options",
    [
        ("bicubic", {"mode": "bicubic"}),
        ("bicubic_antialias", {"mode": "bicubic", "antialias": True}),
        ("bilinear", {"mode": "bilinear"}),
        ("bilinear_antialias", {"mode": "bilinear", "antialias": True}),
    ],
)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_others_are_torchs_with_edges_aligned(name, options, grid):
    expected = functional.interpolate(learned(), size=grid, align_corners=False, **options)
    assert torch.allclose(resize_grid(learned(), grid, name), expected, atol=1e-5)


def test_all_of_them_differ():
    results = [resize_grid(learned(), (3, 8), name) for name in INTERPOLATIONS]
    for index, one in enumerate(results):
        assert all((one - other).abs().max() > 1e-3 for other in results[:index])
        assert one.dtype == torch.float32


def test_cut_is_the_top_left_part_of_the_resized_square():
    square = resize_grid(learned(), (8, 8), "bilinear")
    assert torch.equal(resize_grid(learned(), (3, 8), "bilinear_cut"), square[:, :, :3])
    assert torch.equal(resize_grid(learned(), (8, 5), "bilinear_cut"), square[:, :, :, :5])
