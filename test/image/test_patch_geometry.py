"""Sizes and offsets worked out by hand, patch <-> source round trips, and rules that are
refused.
"""

import numpy as np
import pytest

from vit_perception.image.patch_geometry import (
    CUT_FROM_SQUARE,
    PatchGeometry,
    ResizeRule,
    plan_resize,
)
from vit_perception.wire.records import BadInput, Roi

RULES = {
    "stretch": ResizeRule((224, 224), "stretch"),
    "stretch wide": ResizeRule((224, 448), "stretch"),
    "crop": ResizeRule((224, 224), "crop"),
    "crop 256": ResizeRule((224, 224), "crop", resize_shortest_edge_px=256),
    "crop wide": ResizeRule((224, 448), "crop"),
    "stretch crop": ResizeRule((224, 224), "stretch_crop", 256),
    "stretch corner": ResizeRule((378, 378), "stretch_corner", 384),
    "pad": ResizeRule((224, 224), "pad"),
    "pad wide": ResizeRule((224, 448), "pad"),
    "pad down": ResizeRule((224, 224), "pad", pad_rounding="down"),
    "pad top left": ResizeRule((448, 448), "pad", pad_rounding="down", pad_sides="top_left"),
}
SOURCES = [(480, 640), (481, 641), (97, 301), (301, 97), (224, 224), (1080, 1920), (30, 31), (1, 1)]


@pytest.mark.parametrize(
    "rule, source, resized, top_left",
    [
        ("stretch", (480, 640), (224, 224), (0, 0)),
        # int(256 * 641 / 481) = 341; (256 - 224) // 2 = 16; (341 - 224) // 2 = 58
        ("crop 256", (481, 641), (256, 341), (-16, -58)),
        ("crop 256", (641, 481), (341, 256), (-58, -16)),
        ("crop", (480, 640), (224, 298), (0, -37)),
        # The height is the tighter axis: 448 / 640 > 224 / 480, so the width is exact and 480 * 0.7
        # = 336.
        ("crop wide", (480, 640), (336, 448), (-56, 0)),
        ("crop wide", (100, 400), (224, 896), (0, -224)),
        ("stretch crop", (480, 640), (256, 256), (-16, -16)),
        ("stretch corner", (480, 640), (384, 384), (0, 0)),
        ("pad", (480, 640), (168, 224), (28, 0)),
        ("pad", (301, 97), (224, 72), (0, 76)),
        ("pad wide", (480, 640), (224, 299), (0, 74)),
        ("pad", (1, 1000), (1, 224), (111, 0)),
        # 301 / 224 = 1.34375; 97 / 1.34375 = 72.19; 481 / (641 / 224) = 168.09 and 227 * 224 / 301
        # = 168.93
        ("pad down", (301, 227), (224, 168), (0, 28)),
        ("pad down", (481, 641), (168, 224), (28, 0)),
        ("pad down", (1, 1000), (1, 224), (111, 0)),
        ("pad top left", (480, 640), (336, 448), (112, 0)),
        ("pad top left", (640, 480), (448, 336), (0, 112)),
    ],
)
def test_sizes_worked_out_by_hand(rule, source, resized, top_left):
    plan = plan_resize(RULES[rule], source)
    assert (plan.resized_size_px, plan.top_left_px) == (resized, top_left)
    assert plan.scale == (resized[0] / source[0], resized[1] / source[1])
    assert plan.offset_px == top_left


@pytest.mark.parametrize(
    "surplus, down, half_even", [(1, 0, 0), (3, 1, 2), (5, 2, 2), (7, 3, 4), (8, 4, 4)]
)
def test_half_a_pixel_before_the_crop_is_cut_or_rounded_half_to_even(surplus, down, half_even):
    for rounding, expected in (("down", down), ("half_even", half_even)):
        rule = ResizeRule((10, 10), "crop", 10 + surplus, crop_rounding=rounding)
        assert plan_resize(rule, (10 + surplus, 10 + surplus)).top_left_px == (-expected, -expected)


def test_an_unknown_crop_rounding_is_refused():
    with pytest.raises(ValueError, match="crop_rounding is 'up'; accepted: down, half_even"):
        ResizeRule((10, 10), crop_rounding="up")


def test_crop_of_480_x_640_by_hand():
    geometry = PatchGeometry(plan_resize(RULES["crop"], (480, 640)), 14)
    assert geometry.grid == (16, 16)
    top, left, bottom, right = geometry.patch_box_in_source(16 * 2 + 3)
    # Rows 28..42 at 224/480; columns 42..56, 37 px into an image resized by 298/640.
    np.testing.assert_allclose((top, bottom), (60, 90))
    np.testing.assert_allclose((left, right), ((42 + 37) * 640 / 298, (56 + 37) * 640 / 298))
    assert geometry.patch_at(75, 180) == 16 * 2 + 3
    # 37 of the 298 resized columns are cut off on either side: 79.46 source pixels.
    assert geometry.patch_at(75, 79.4) is None
    assert geometry.patch_at(75, 79.5) == 16 * 2


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("rule", RULES)
def test_every_patch_centre_leads_back_to_its_patch(rule, source):
    geometry = PatchGeometry(plan_resize(RULES[rule], source), 14)
    rows, columns = geometry.grid
    seen = 0
    for index in range(rows * columns):
        top, left, bottom, right = geometry.patch_box_in_source(index)
        y, x = (top + bottom) / 2, (left + right) / 2
        if 0 <= y < source[0] and 0 <= x < source[1]:
            assert geometry.patch_at(y, x) == index
            seen += 1
        else:
            assert RULES[rule].fit == "pad" and geometry.patch_at(y, x) is None
    # Without padding, every patch sees the source.
    assert seen == rows * columns or (RULES[rule].fit == "pad" and seen > 0)


@pytest.mark.parametrize("rule", RULES)
def test_every_source_point_lies_in_the_box_of_its_patch(rule):
    source = (97, 301)
    geometry = PatchGeometry(plan_resize(RULES[rule], source), 14)
    rng = np.random.default_rng(0)
    hits = 0
    for y, x in rng.uniform((0, 0), source, (300, 2)):
        index = geometry.patch_at(y, x)
        if index is not None:
            top, left, bottom, right = geometry.patch_box_in_source(index)
            assert top - 1e-9 <= y <= bottom + 1e-9 and left - 1e-9 <= x <= right + 1e-9
            hits += 1
        else:
            assert RULES[rule].fit in ("crop", *CUT_FROM_SQUARE)
    assert hits > 50


def test_neighbouring_boxes_share_their_edge():
    geometry = PatchGeometry(plan_resize(RULES["crop 256"], (481, 641)), 16)
    _, _, bottom, right = geometry.patch_box_in_source(0)
    assert geometry.patch_box_in_source(1)[1] == right
    assert geometry.patch_box_in_source(14)[0] == bottom


@pytest.mark.parametrize(
    "y, x", [(-0.1, 5), (5, -0.1), (480, 5), (5, 640), (float("nan"), 5), (5, float("nan"))]
)
def test_a_point_outside_the_source_has_no_patch(y, x):
    assert PatchGeometry(plan_resize(RULES["stretch"], (480, 640)), 14).patch_at(y, x) is None


@pytest.mark.parametrize("index", [-1, 256])
def test_a_patch_that_does_not_exist(index):
    with pytest.raises(IndexError, match="0 to 255"):
        PatchGeometry(plan_resize(RULES["stretch"], (480, 640)), 14).patch_box_in_source(index)


@pytest.mark.parametrize(
    "fields, name",
    [
        ({"network_size_px": (224,)}, "network_size_px"),
        ({"network_size_px": (0, 224)}, "network_size_px"),
        ({"network_size_px": (224.5, 224)}, "network_size_px"),
        ({"network_size_px": 224}, "network_size_px"),
        ({"fit": "squash"}, "fit"),
        ({"interpolation": "area"}, "interpolation"),
        ({"fit": "crop", "resize_shortest_edge_px": 223}, "resize_shortest_edge_px"),
        ({"fit": "stretch", "resize_shortest_edge_px": 256}, "resize_shortest_edge_px"),
        ({"fit": "stretch_crop"}, "resize_shortest_edge_px"),
        ({"fit": "stretch_corner", "resize_shortest_edge_px": 223}, "resize_shortest_edge_px"),
        ({"pad_value_rgb": (0, 0, 256)}, "pad_value_rgb"),
        ({"pad_value_rgb": (0, 0)}, "pad_value_rgb"),
    ],
)
def test_a_bad_rule_names_the_field_and_what_is_accepted(fields, name):
    with pytest.raises(ValueError, match=f"{name} is .*accepted"):
        ResizeRule(**{"network_size_px": (224, 224), **fields})


def test_a_rule_from_json_equals_the_one_in_code():
    assert ResizeRule([224, 224], pad_value_rgb=[1, 2, 3]) == ResizeRule(
        (224, 224), pad_value_rgb=(1, 2, 3)
    )
    assert hash(ResizeRule([224, 224])) == hash(ResizeRule((224, 224)))


def test_the_network_size_must_be_whole_patches():
    with pytest.raises(ValueError, match="multiples of the patch size, 15"):
        PatchGeometry(plan_resize(RULES["stretch"], (480, 640)), 15)


@pytest.mark.parametrize("source", [(0, 640), (480, 0), (-1, 5)])
def test_a_source_without_pixels_is_refused(source):
    with pytest.raises(ValueError, match="source_size_px"):
        plan_resize(RULES["crop"], source)


def test_fields_of_older_rules_are_what_they_were():
    """Heads and engines are bound to digests of them."""
    rule = ResizeRule((224, 224), "pad")
    assert not {"pad_rounding", "pad_sides"} & set(rule.fields())
    changed = RULES["pad top left"]
    assert ResizeRule(**changed.fields()) == changed
    with pytest.raises(ValueError, match="accepted: only fit 'pad'"):
        ResizeRule((224, 224), "stretch", pad_sides="top_left")


def test_a_region_of_interest_by_hand():
    """320 x 240 px at (200, 100) of 640 x 480: the crop's scale is 224 / 240 on both axes, and 37
    of the 298 columns are cut off on either side.
    """
    plan = plan_resize(RULES["crop"], (480, 640), Roi(x=200, y=100, width=320, height=240))
    assert (plan.resized_size_px, plan.top_left_px) == ((224, 298), (0, -37))
    assert plan.source_size_px == (480, 640)
    assert plan.scale == (224 / 240, 298 / 320)
    np.testing.assert_allclose(plan.offset_px, (-100 * 224 / 240, -37 - 200 * 298 / 320))
    geometry = PatchGeometry(plan, 14)
    top, left, bottom, right = geometry.patch_box_in_source(16 * 2 + 3)
    np.testing.assert_allclose((top, bottom), (100 + 30, 100 + 45))
    np.testing.assert_allclose(
        (left, right), (200 + (42 + 37) * 320 / 298, 200 + (56 + 37) * 320 / 298)
    )
    assert geometry.patch_at(130.1, 300) == 16 * 2 + 4
    # The first row is row 100 of the image; 37 / (298 / 320) = 39.7 columns are cut off.
    assert geometry.patch_at(99.9, 300) is None and geometry.patch_at(100, 300) == 4
    assert geometry.patch_at(340, 300) is None and geometry.patch_at(339.9, 300) == 16 * 15 + 4
    assert geometry.patch_at(100, 239.7) is None and geometry.patch_at(100, 239.8) == 0


@pytest.mark.parametrize("rule", RULES)
def test_a_region_has_the_patches_of_an_image_that_ends_at_its_edges(rule):
    roi = Roi(x=31, y=7, width=97, height=301)
    whole = PatchGeometry(plan_resize(RULES[rule], (500, 640), roi), 14)
    alone = PatchGeometry(plan_resize(RULES[rule], (301, 97)), 14)
    for index in range(0, whole.grid[0] * whole.grid[1], 7):
        box = np.add(alone.patch_box_in_source(index), (7, 31, 7, 31))
        np.testing.assert_allclose(whole.patch_box_in_source(index), box, atol=1e-9)
    for y, x in np.random.default_rng(0).uniform((0, 0), (500, 640), (300, 2)):
        assert whole.patch_at(y, x) == alone.patch_at(y - 7, x - 31)


@pytest.mark.parametrize(
    "roi", [(0, 0, 641, 480), (0, 0, 640, 481), (540, 0, 101, 10), (0, 479, 1, 2)]
)
def test_a_region_outside_the_image_is_refused(roi):
    with pytest.raises(BadInput, match="the image is 480 x 640 px, and roi .* accepted: a") as bad:
        plan_resize(RULES["crop"], (480, 640), Roi(*roi))
    assert bad.value.reason == "roi" and str(list(roi)) in str(bad.value)
    plan_resize(RULES["crop"], (481, 641), Roi(*roi))
