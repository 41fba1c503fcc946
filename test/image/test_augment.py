"""Random changes of a picture: by hand where values are simple, the same for the same seed."""

import numpy as np
import pytest

from vit_perception.files.errors import InvalidValue
from vit_perception.image.augment import (
    BLOB_NUMBERS,
    CHANNEL_ORDERS,
    CROP,
    FIRST_BLOB,
    GAINS,
    MOST_BLOBS,
    NUMBERS,
    ORDER,
    Strengths,
    applied,
    drawn,
    unchanged,
)

NONE = Strengths(darkest=1.0, brightest=1.0, channel=0.0, blobs=0)


@pytest.fixture
def picture():
    return np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


def test_no_strength_changes_nothing_and_what_is_given_is_not_written(picture):
    before = picture.copy()
    numbers = drawn(NONE, np.random.default_rng(1))
    np.testing.assert_array_equal(numbers, unchanged())
    np.testing.assert_array_equal(applied(picture, numbers), before)
    changed = applied(picture, drawn(Strengths(crop=0.2), np.random.default_rng(1)))
    assert changed.shape == picture.shape and changed.dtype == np.uint8
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(picture, before)


def test_gains_and_exchanged_channels_are_those_of_the_row():
    numbers = unchanged()
    numbers[GAINS] = (0.5, 1.0, 2.0)
    pixels = np.full((2, 2, 3), (100, 150, 200), np.uint8)
    assert applied(pixels, numbers)[0, 0].tolist() == [50, 150, 255]
    numbers[ORDER] = CHANNEL_ORDERS.index((2, 0, 1))
    assert applied(pixels, numbers)[0, 0].tolist() == [100, 100, 255]  # of 200, 100, 150


def test_a_crop_is_resized_to_the_whole_and_lands_where_the_row_says():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[20:, 40:] = 200
    numbers = unchanged()
    numbers[CROP] = (0.5, 0.5, 0.5, 0.5)
    assert (applied(pixels, numbers) == 200).all()
    numbers[CROP] = (0.0, 0.0, 0.5, 0.5)
    assert (applied(pixels, numbers) == 0).all()


def test_a_blob_is_where_the_row_says_and_light_falls_on_it():
    numbers = unchanged()
    numbers[FIRST_BLOB : FIRST_BLOB + BLOB_NUMBERS] = (0.5, 0.25, 0.1, 0.1, 30.0, 200, 100, 40)
    numbers[GAINS] = 0.5
    made = applied(np.full((100, 200, 3), 60, np.uint8), numbers)
    assert made[50, 50].tolist() == [100, 50, 20] and made[50, 150].tolist() == [30, 30, 30]
    share = (made[:, :, 0] == 100).mean()
    assert share == pytest.approx(np.pi * 10**2 / (100 * 200), rel=0.1)


def test_rows_stay_in_their_ranges_and_one_strength_does_not_change_what_others_draw():
    strengths = Strengths(blobs=3, crop=0.3, exchange=0.5)
    rows = np.array([drawn(strengths, np.random.default_rng(seed)) for seed in range(300)])
    assert rows.shape == (300, NUMBERS) and rows.dtype == np.float32
    gains = rows[:, GAINS]
    assert 0.4 * 0.75 <= gains.min() < 0.6 and 1.3 < gains.max() <= 1.4 * 1.25
    top, left, height, width = rows[:, CROP].T
    assert height.min() >= 0.7 and (top + height).max() <= 1.0 + 1e-6 and top.min() >= 0
    np.testing.assert_array_equal(height, width)
    assert (left + width).max() <= 1.0 + 1e-6
    assert 0.4 < (rows[:, ORDER] != 0).mean() < 0.6 and set(rows[:, ORDER]) <= set(range(6))
    blobs = rows[:, FIRST_BLOB:].reshape(300, MOST_BLOBS, BLOB_NUMBERS)
    assert set((blobs[:, :, 2] > 0).sum(axis=1)) == {0, 1, 2, 3}
    other = drawn(Strengths(blobs=0, crop=0.3, exchange=0.0), np.random.default_rng(7))
    np.testing.assert_array_equal(other[GAINS], rows[7][GAINS])
    np.testing.assert_array_equal(other[CROP], rows[7][CROP])


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (2, 3), (1080, 1920)])
def test_any_size_of_picture_is_taken_and_a_view_of_bgr_too(size):
    pixels = np.zeros((*size, 3), np.uint8)[:, :, ::-1]
    for seed in range(5):
        numbers = drawn(Strengths(blobs=8, crop=0.5), np.random.default_rng(seed))
        assert applied(pixels, numbers).shape == (*size, 3)


@pytest.mark.parametrize(
    "texts, said",
    [
        (["blob=2"], "accepted: NAME=VALUE with a name of darkest, .*did you mean 'blobs'"),
        (["blobs=2.5"], "blobs=2.5'; accepted: a number"),
        (["blobs=9"], "blobs=9; accepted: 0 to 8"),
        (["darkest=1.5"], "darkest=1.5; accepted: 0.0 to 1.4"),
        (["channel=nan"], "channel=nan; accepted"),
        (["crop=0.6"], "crop=0.6; accepted: 0.0 to 0.5"),
        (["crop"], "'crop'; accepted: a number"),
    ],
)
def test_a_strength_that_is_not_accepted_is_named(texts, said):
    with pytest.raises(InvalidValue, match="(?s)augment_strength.*" + said):
        Strengths.parsed(texts)


def test_strengths_that_are_not_given_stay():
    assert Strengths.parsed(["blobs=2", "crop=0.1"]) == Strengths(blobs=2, crop=0.1)
