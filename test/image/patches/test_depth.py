"""The median of the valid depth in each patch, against numbers computed by hand."""

import math

import numpy as np
import pytest

from test.image.patches.depth_images import depth_message
from test.image.patches.test_rays import STRETCHED, view_of
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.patches.depth import patch_depths_m
from vit_perception.wire.records import BadInput, Roi

NAN, INF = math.nan, math.inf
# 2 × 2 patches of 2 rows and 4 columns: medians 1500, 2000, none, and of an even count 25.
MILLIMETRES = [
    [1000, 1500, 0, 0, 2000, 2000, 2000, 9],
    [1500, 9000, 0, 1600, 2000, 9000, 0, 0],
    [0, 0, 0, 0, 10, 20, 30, 40],
    [0, 0, 0, 0, 0, 0, 0, 0],
]
METRES = np.array(MILLIMETRES) / 1000


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pixels", [np.array(MILLIMETRES), METRES], ids=["mm", "m"])
def test_the_median_of_what_is_valid(pixels, big, padding):
    found = patch_depths_m(depth_message(pixels, padding=padding, big=big), STRETCHED)
    np.testing.assert_allclose(found, [1.5, 2.0, NAN, 0.025], rtol=1e-6)


def test_nan_infinity_negative_and_absurd_numbers_are_not_valid():
    pixels = np.full((4, 8), NAN)
    pixels[0, :4] = [INF, -1.0, 0.5, 1e30]
    pixels[2, :3] = [-INF, 0.0, 1001.0]
    found = patch_depths_m(depth_message(pixels), STRETCHED)
    np.testing.assert_allclose(found, [0.5, NAN, NAN, NAN])


def test_only_the_region_counts():
    """Of columns 2 to 5 the left patches see 2 and 3, the right ones 4 and 5."""
    view = view_of(ResizeRule((4, 4)), (4, 8), Roi(2, 0, 4, 2))
    found = patch_depths_m(depth_message(np.array(MILLIMETRES)), view)
    np.testing.assert_allclose(found, [NAN, 2.0, 1.6, 5.5])


def test_patches_smaller_than_a_pixel_have_the_one_that_they_are_in():
    """A region of 2 × 1 px over 2 × 2 patches: both rows of patches are in the one row of px."""
    view = view_of(ResizeRule((4, 4)), (4, 8), Roi(4, 2, 2, 1))
    found = patch_depths_m(depth_message(np.array(MILLIMETRES)), view)
    np.testing.assert_allclose(found, [0.01, 0.02, 0.01, 0.02])


def test_a_patch_in_the_padding_has_none():
    view = view_of(ResizeRule((4, 4), fit="pad"), (1, 4))
    found = patch_depths_m(depth_message(np.array([[100, 300, 500, 700]])), view)
    np.testing.assert_allclose(found, [0.2, 0.6, NAN, NAN])


@pytest.mark.parametrize(
    "fields, text",
    [
        ({"encoding": "mono16"}, "encoding is 'mono16'; accepted: 16UC1 .mm. or 32FC1"),
        ({"encoding": "rgb8\x00" * 99}, "accepted: 16UC1"),
        ({"height": 480, "width": 640}, "is 480 x 640 px; accepted: 4 x 8 px"),
        ({"data": b"\0" * 60}, "data has 60 bytes"),
        ({"step": 3}, "step is 3 bytes"),
        ({"step": 2**31}, "data has 64 bytes"),
    ],
)
def test_what_is_no_depth_image_is_refused(fields, text):
    with pytest.raises(BadInput, match=text) as refused:
        patch_depths_m(depth_message(np.array(MILLIMETRES), **fields), STRETCHED)
    assert refused.value.reason == "depth" and len(str(refused.value)) < 500
