"""A reference learnt from features: by hand on made-up tokens, and from recorded ones."""

import numpy as np
import pytest

from test.pipeline.monitor.references import COLUMNS, ROWS, VIEW, background
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.datasets.reference.learn import (
    learn_camera,
    learn_reference,
    parts_of,
    reads_of,
)
from vit_perception.datasets.reference.statistics import (
    mean_tokens,
    prototypes_of,
    static_patches,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.policy.features import FeatureFiles

CHANNELS = 24


def scene(count, seed, x_px=0.0):
    """Frames (P, D) of a background with little noise, before which something moves about."""
    random = np.random.default_rng(seed)
    mixing = np.linalg.qr(np.random.default_rng(7).normal(size=(CHANNELS, CHANNELS)))[0]
    for _ in range(count):
        tokens = np.zeros((ROWS, COLUMNS, CHANNELS), np.float32)
        tokens[..., :6] = background(x_px).reshape(ROWS, COLUMNS, -1)
        row, column = random.integers(2, ROWS - 2), random.integers(1, 3)
        tokens[row : row + 2, column : column + 2, 6:10] = 2.0
        tokens += random.normal(scale=0.02, size=tokens.shape)
        yield tokens.reshape(ROWS * COLUMNS, CHANNELS) @ mixing


def test_a_moved_camera_is_found_with_what_was_learnt():
    reference, count = learn_camera(
        "wrist", VIEW, learn=lambda: scene(30, seed=0), held_out=lambda: scene(10, seed=1)
    )
    assert count == 30 and len(reference.held_out) == 10
    # What moves about does so in the first columns; nothing else is left out of the background
    # but the share that is the most.
    static = reference.static.reshape(ROWS, COLUMNS)
    assert not static[4:7, 1:3].any() and 0.5 < static.mean() <= 0.6
    monitor = CameraMonitor(reference)
    still = [monitor(tokens) for tokens in scene(10, seed=2)]
    moved = [monitor(tokens) for tokens in scene(10, seed=2, x_px=8.0)]
    assert max(abs(each.shift.x_px) for each in still) < 1.0
    assert all(each.shift.x_px == pytest.approx(8.0, abs=2.0) for each in moved)
    assert max(each.score for each in still) < 2 < min(each.score for each in moved)
    assert all(each.novelty == 1.0 for each in moved)


def test_the_same_frames_give_the_same_numbers():
    first, second = (
        learn_camera("wrist", VIEW, lambda: scene(12, 0), lambda: scene(5, 1))[0] for _ in range(2)
    )
    for name in ("directions", "background", "prototypes", "held_out"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_means_and_static_patches_by_hand():
    frames = [np.array([[3.0, 0], [2, 0]]), np.array([[5.0, 0], [0, 4]])]
    means, count = mean_tokens(frames)
    assert count == 2
    np.testing.assert_allclose(means, [[1, 0], [0.5, 0.5]])
    # The second one's mean has the length 0.71: it changes by far too much.
    assert static_patches(means).tolist() == [True, False]


def test_prototypes_are_far_from_each_other():
    points = np.array([[0.0], [0.1], [10], [10.1], [4]])
    assert prototypes_of(points, 3).ravel().tolist() == [0.0, 10.1, 4.0]
    assert len(prototypes_of(np.zeros((5, 2)), 3)) == 1


def test_every_fifth_episode_is_held_out_or_the_end_of_each():
    learn, held_out = parts_of(np.repeat(np.arange(10), 3))
    assert held_out.tolist() == [12, 13, 14, 27, 28, 29] and len(learn) == 24
    learn, held_out = parts_of(np.repeat([0, 1], 10))
    assert held_out.tolist() == [8, 9, 18, 19] and len(learn) == 16
    assert [len(part) for part in parts_of(np.zeros(100_000, np.int64))] == [2000, 2000]


def test_a_reference_of_recorded_features(folders):
    files = FeatureFiles(folders / "parquet")
    seen: list[int] = []
    learnt = learn_reference(files, seen.append)
    assert sum(seen) == reads_of(files) == 2 * (2 * 96 + 24)
    assert learnt.frames == {"agentview": (96, 24), "wrist": (96, 24)}
    assert learnt.reference.encoder_sha256 == files.layouts[0].encoder_sha256
    view = learnt.reference.cameras["wrist"].view
    assert view.source_size_px == (240, 320) and view.grid == (4, 4)


def test_too_few_frames_and_features_without_tokens_are_refused(folders, monkeypatch):
    with pytest.raises(InvalidValue, match="camera wrist has 7 frames .* accepted: 8 or more"):
        learn_camera("wrist", VIEW, lambda: scene(7, 0), lambda: scene(7, 1))
    with pytest.raises(InvalidValue, match="has 3 frames that are held out"):
        learn_camera("wrist", VIEW, lambda: scene(8, 0), lambda: scene(3, 1))
    files = FeatureFiles(folders / "parquet")
    monkeypatch.setattr(files, "columns", ("stamp_ns",))
    with pytest.raises(InvalidValue, match="has no tokens; accepted: output of"):
        learn_reference(files)
