"""Near-identical frames and a diverse choice, against their definitions."""

import numpy as np
import pytest

from test.datasets.search.stored import clustered, hand_made
from vit_perception.datasets.search import choose
from vit_perception.datasets.search.choose import diverse, frame_distances, near_identical
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.files.errors import InvalidValue


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None]


def features_of(tmp_path, vectors, **given):
    return FeatureSet([hand_made(tmp_path / "features", np.asarray(vectors), **given)])


def apart(degrees):
    return 1 - np.cos(np.radians(degrees))


def test_each_frame_joins_the_nearest_group_or_begins_one(tmp_path):
    features = features_of(tmp_path, on_circle(0, 1, 10, 11, 5.4, 2, 90))
    groups = near_identical(features, apart(5))
    # 5.4 degrees is nearer to the group of 10 than to that of 0.
    assert groups.leader.tolist() == [0, 0, 2, 2, 2, 0, 6]
    assert groups.leaders.tolist() == [0, 2, 6]
    np.testing.assert_allclose(
        groups.distance, [0, apart(1), 0, apart(1), apart(4.6), apart(2), 0], atol=1e-6
    )
    assert len(near_identical(features, apart(0.5)).leaders) == 7


def greedy(unit, within):
    """The definition, frame by frame."""
    kept, leader = [], []
    for k, vectors in enumerate(unit):
        away = [max(1 - float(a @ b) for a, b in zip(vectors, unit[j])) for j in kept]
        if away and min(away) <= within:
            leader.append(kept[int(np.argmin(away))])
        else:
            kept.append(k)
            leader.append(k)
    return leader


def test_blocks_change_nothing(tmp_path, monkeypatch):
    vectors = np.concatenate([clustered(300, seed=3), clustered(300, seed=3)[::-1]], axis=1)
    features = features_of(tmp_path, vectors, cameras=("wrist", "far"))
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    expected = greedy(unit, 0.2)
    assert 20 < len(set(expected)) < 290
    for frames in (1, 5, 2048):
        monkeypatch.setattr(choose, "BLOCK_FRAMES", frames)
        monkeypatch.setattr(choose, "BLOCK_BYTES", 64 * frames)
        assert near_identical(features, 0.2).leader.tolist() == expected


def test_the_diverse_choice_is_the_farthest_point_again_and_again(tmp_path):
    features = features_of(tmp_path, on_circle(40, 0, 10, 90, 50, 70))
    # The mean is at about 44 degrees; then 90 is 50 from 40, then 0, then 70 (20 from 90).
    chosen = diverse(features, 4)
    assert [frame for frame, _ in chosen] == [0, 3, 1, 5]
    expected = [0, apart(50), apart(40), apart(20)]
    np.testing.assert_allclose([distance for _, distance in chosen], expected, atol=1e-6)
    assert diverse(features, 2) == chosen[:2]
    assert [frame for frame, _ in diverse(features, 6)][4:] in ([2, 4], [4, 2])


def test_a_choice_ends_when_all_others_are_equal_and_skips_missing_cameras(tmp_path):
    vectors = on_circle(0, 0, 90, 90, 0)
    vectors[3] = 0
    features = features_of(tmp_path, vectors)
    assert [frame for frame, _ in diverse(features, 5)] == [0, 2]
    with pytest.raises(InvalidValue, match="diverse is 6; accepted: 1 to 5"):
        diverse(features, 6)


def test_a_missing_camera_makes_frames_different_unless_both_lack_it():
    ones = np.zeros((2, 2, 2), np.float32)
    ones[:, 0] = [1, 0]
    ones[0, 1] = [0, 1]
    distances = frame_distances(ones, ones)
    assert distances[0, 0] == 0 and distances[1, 1] == 0 and distances[0, 1] == 3 == distances[1, 0]


def test_what_cannot_be_is_named(tmp_path, monkeypatch):
    features = features_of(tmp_path, on_circle(*range(0, 360, 4)))
    with pytest.raises(InvalidValue, match="within is nan; accepted: 0 to below 2"):
        near_identical(features, float("nan"))
    monkeypatch.setattr(choose, "MOST_KEPT_BYTES", 64 * 2 * 4)
    with pytest.raises(InvalidValue, match="within leaves more than 64 groups"):
        near_identical(features, 0.0)
