"""The novelty of an image, by hand."""

import numpy as np
import pytest

from test.pipeline.monitor.references import CHANNELS, camera_reference
from vit_perception.pipeline.monitor.novelty import (
    Novelty,
    most_novel,
    of_background,
    rank,
)


def test_distances_are_those_to_the_nearest_prototype_and_to_the_space():
    tokens = np.zeros((4, CHANNELS), np.float32)
    tokens[1, :2] = 0.6, 0.3  # nearer to (1, 0): 0.16 + 0.09
    tokens[2, 5] = 0.5  # outside of the space: 0.25
    tokens[3, [1, 7]] = 1.0, 2.0  # 1 inside, 4 outside
    found = Novelty(camera_reference()).distances(tokens)
    assert found == pytest.approx([0, 0.25, 0.25, 5.0], abs=1e-6)


def test_the_most_novel_patches_are_three_in_a_hundred_and_four_at_least():
    assert most_novel(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(3.5)
    assert most_novel(np.arange(200.0)) == pytest.approx(np.arange(194, 200).mean())
    assert most_novel(np.array([2.0, 4.0])) == 3.0


def test_of_the_background_the_middle_and_a_high_one_count():
    assert of_background(np.arange(11.0)[::-1]) == (5.0, 9.0)


def test_the_score_is_the_largest_in_units_of_its_limit():
    novelty = Novelty(camera_reference())  # limits 2, 4, 5
    assert novelty.score(np.array([1.0, 1.0, 1.0])) == 0.5
    assert novelty.score(np.array([1.0, 1.0, 10.0])) == 2.0


def test_parts_of_a_picture_whose_background_has_changed_by_one():
    reference = camera_reference()  # typical 0.5
    moved = reference.background.copy()
    moved[:, 0] += 1.0
    parts = Novelty(reference).parts(np.zeros((len(moved), CHANNELS), np.float32), moved)
    assert parts == pytest.approx([0.0, 2.0, 2.0], rel=1e-5)


def test_the_rank_is_the_share_of_held_out_frames_below():
    held_out = np.array([0.25, 0.5, 0.5, 1.0])
    assert [rank(score, held_out) for score in (0.1, 0.5, 0.6, 1.1)] == [0, 0.25, 0.75, 1]
