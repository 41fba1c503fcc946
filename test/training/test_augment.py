import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.training.augment import (
    ASPECT_RATIOS,
    Augment,
    generator_of,
    jitter,
    random_crop,
)
from vit_perception.training.recipe import Recipe
from vit_perception.wire.records import RgbImage

RULE = ResizeRule((16, 16), "stretch")


def picture(height=40, width=60):
    return RgbImage(
        np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8), 1, "camera"
    )


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 1.0), st.integers(0, 1000))
def test_a_crop_lies_inside_and_is_of_the_wanted_area_and_ratio(height, width, smallest, seed):
    top, left, rows, columns = random_crop((height, width), smallest, np.random.default_rng(seed))
    assert (
        0 <= top <= top + rows <= height
        and 0 <= left <= left + columns <= width
        and rows
        and columns
    )
    if (rows, columns) != (height, width):
        # Both sides are rounded to whole pixels.
        assert (rows + 0.5) * (columns + 0.5) >= smallest * height * width
        assert (columns - 0.5) / (rows + 0.5) <= ASPECT_RATIOS[1] and (columns + 0.5) / (
            rows - 0.5
        ) >= ASPECT_RATIOS[0]


def test_the_same_generator_gives_the_same_picture_and_another_epoch_another():
    augment = Augment(RULE, Recipe(flip=True, colour=0.4))
    first = augment(picture(), generator_of(0, 1, 7))
    assert first.shape == (3, 16, 16) and first.dtype == torch.uint8
    assert torch.equal(first, augment(picture(), generator_of(0, 1, 7)))
    others = [augment(picture(), generator_of(*key)) for key in ((1, 1, 7), (0, 2, 7), (0, 1, 8))]
    assert not any(torch.equal(first, other) for other in others)


def test_the_mirror_is_on_half_of_the_pictures_and_leaves_the_crops_as_they_are():
    plain, mirrored = Augment(RULE, Recipe()), Augment(RULE, Recipe(flip=True))
    flips = []
    for index in range(40):
        a, b = (f(picture(), generator_of(0, 1, index)) for f in (plain, mirrored))
        flips.append(not torch.equal(a, b))
        assert torch.equal(a.flip(2) if flips[-1] else a, b)
    assert 10 < sum(flips) < 30


def test_without_a_crop_it_is_the_nodes_own_resizing(monkeypatch):
    monkeypatch.setattr(
        "vit_perception.training.augment.random_crop", lambda size, share, generator: (0, 0, *size)
    )
    augmented = Augment(RULE, Recipe())(picture(), generator_of(0, 1, 0))
    assert torch.equal(augmented, Preprocessor(RULE)(picture()))


@pytest.mark.parametrize(
    "factors, expected",
    [
        ((1.0, 1.0, 1.0), [[100, 200], [50, 50], [0, 100]]),
        ((1.5, 1.0, 1.0), [[150, 255], [75, 75], [0, 150]]),
        # The grey values are 59.25 and 100.55: their mean 79.9 stays, what is beside it doubles.
        ((1.0, 2.0, 1.0), [[120, 255], [20, 20], [0, 120]]),
        # Towards each pixel's own grey.
        ((1.0, 1.0, 0.0), [[59, 101], [59, 101], [59, 101]]),
    ],
)
def test_colours_change_by_hand_computed_values(factors, expected):
    pixels = torch.tensor([[[100, 200]], [[50, 50]], [[0, 100]]], dtype=torch.uint8)
    assert jitter(pixels, np.array(factors))[:, 0].tolist() == expected
