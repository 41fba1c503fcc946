"""The arithmetic of the examples, by hand; and the transformer's mask."""

import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from test.conftest import ROOT

sys.path.insert(0, str(ROOT / "examples"))
try:
    import demonstrations
    import knn_policy
    import transformer_policy
finally:
    sys.path.pop(0)

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS


def path(seconds: np.ndarray, x_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along x, turning about z by 0.1 rad a second."""
    poses = np.zeros((len(seconds), 7))
    poses[:, 0] = x_m
    poses[:, 3:] = Rotation.from_rotvec(
        np.stack([0 * seconds, 0 * seconds, 0.1 * seconds], axis=1)
    ).as_quat()
    return START_NS + np.round(seconds * 1e9).astype(np.int64), poses


def test_an_action_is_the_way_and_the_turn_within_the_horizon():
    seconds = np.arange(0, 3, 0.05)
    path_ns, poses = path(seconds, 0.2 * seconds)
    at_ns = START_NS + np.array([0, 333_000_000, 2 * SECOND_NS])
    actions = demonstrations.actions_of(path_ns, poses, at_ns, 0.5)
    np.testing.assert_allclose(actions, [[0.1, 0, 0, 0, 0, 0.05]] * 3, atol=1e-7)
    # The path ends at 2.95 s: a horizon that ends after it has no action.
    assert np.isnan(
        demonstrations.actions_of(path_ns, poses, START_NS + np.array([2_500_000_000]), 0.5)
    ).all()


def test_no_action_spans_a_scene_that_was_set_up_anew():
    seconds = np.arange(0, 2, 0.05)
    path_ns, poses = path(seconds, np.where(seconds < 1, 0.2 * seconds, 0.6))
    poses[20:, 1] = 0.5
    assert demonstrations.episode_starts(path_ns, poses[:, :3]).tolist() == [0, 20]
    actions = demonstrations.actions_of(path_ns, poses, path_ns, 0.5)
    assert np.isnan(actions[10:20]).all() and np.isnan(actions[30:]).all()
    assert (
        not np.isnan(actions[:10]).any()
        and np.abs(actions[:, 1][~np.isnan(actions[:, 1])]).max() < 1e-9
    )


def test_the_nearest_demonstrations_are_averaged_by_weight():
    features = np.array([[0.0], [1.0], [10.0]])
    actions = np.zeros((3, 6))
    actions[:, 0] = [1, 2, 50]
    assert knn_policy.KnnPolicy(features, actions, 1).act(np.array([0.9]))[0] == 2
    # Distances 0.25 and 0.75, mean 0.5: weights exp(-1.5) and exp(-4.5).
    near, far = np.exp(-1.5), np.exp(-4.5)
    assert knn_policy.KnnPolicy(features, actions, 2).act(np.array([0.25]))[0] == pytest.approx(
        (near * 1 + far * 2) / (near + far)
    )
    assert knn_policy.KnnPolicy(features, actions, 2).act(np.array([0.0]))[0] == pytest.approx(
        1, abs=0.003
    )


def test_every_block_of_an_embedding_counts_alike():
    embedding = np.array([3.0, 4.0, 0.0, 0.0, 0.0, 100.0])
    np.testing.assert_allclose(demonstrations.unit_blocks(embedding, 2), [0.6, 0.8, 0, 0, 0, 1])


def test_missing_tokens_have_no_influence_on_the_transformer():
    policy = transformer_policy.load_policy(32, 8, None)
    tokens = torch.randn(1, 10, 32)
    mask = torch.ones(1, 10, dtype=torch.bool)
    mask[0, 6:] = False
    changed = tokens.clone()
    changed[0, 6:] = 100
    with torch.inference_mode():
        one, other = policy(tokens, mask), policy(changed, mask)
        assert one.shape == (1, 8, 7)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        assert (policy(changed, torch.ones_like(mask)) - one).abs().max() > 1e-3
