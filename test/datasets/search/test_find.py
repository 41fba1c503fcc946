"""The nearest frames: the exact scan and the index against brute force, the rule that spreads."""

import numpy as np
import pytest

from test.datasets.search.stored import clustered, hand_made
from vit_perception.datasets.search.exact import compared, exact_hits
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.find import Queries, find, mean_patch, method_of
from vit_perception.datasets.search.hits import Hit, SpreadRule, spread
from vit_perception.files.errors import InvalidValue

ALL = SpreadRule(apart_s=0, per_episode=0)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """500 frames of five recordings, two cameras; the second camera of frame 7 is missing."""
    vectors = np.concatenate([clustered(500, seed=1), clustered(500, seed=2)], axis=1)
    vectors[7, 1] = 0
    folder = hand_made(
        tmp_path_factory.mktemp("five") / "features",
        vectors,
        episodes=np.arange(500) // 100,
        stamps_s=np.arange(500) % 100 * 0.5,
        names=("a", "b", "c", "d", "e"),
        cameras=("wrist", "far"),
        shard_frames=60,
    )
    return folder, vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)


def asked(vectors):
    return Queries(vectors.astype(np.float32), tuple("q" for _ in vectors))


def test_the_exact_scan_gives_what_brute_force_gives(five):
    folder, unit = five
    features = FeatureSet([folder])
    queries = np.stack([unit[3, 0], unit[400, 1]]).astype(np.float32)
    hits = list(exact_hits(features, queries))
    distances = 1 - unit @ queries.T  # (frames, cameras, queries)
    distances[7, 1] = 9
    best = distances.reshape(500, -1).min(axis=1)
    assert {hit.frame for hit in hits[:2]} == {3, 400}
    assert sorted(hit.frame for hit in hits) == list(range(500))
    np.testing.assert_allclose(
        [hit.distance for hit in hits], best[[h.frame for h in hits]], atol=1e-6
    )
    np.testing.assert_allclose([hit.distance for hit in hits], np.sort(best), atol=1e-6)
    for hit in hits:
        k = distances[hit.frame].argmin()
        assert (features.cameras[k // 2], k % 2) == (hit.camera, hit.query)


def test_a_camera_that_is_missing_is_never_found(five):
    folder, unit = five
    features = FeatureSet([folder], cameras=["far"])
    hits = list(exact_hits(features, unit[:1, 1].astype(np.float32)))
    assert len(hits) == 499 and 7 not in [hit.frame for hit in hits]
    assert {hit.camera for hit in hits} == {"far"}


def test_the_index_gives_what_the_exact_scan_gives(five, tmp_path):
    folder, unit = five
    for cameras in ((), ("far",)):
        features = FeatureSet([folder], cameras=cameras)
        for frame in (0, 123, 499):
            queries = asked(unit[frame, 1:])
            given = {"count": 12, "rule": SpreadRule(1.0, 4)}
            exact = find(features, queries, method="exact", **given)
            indexed = find(
                features, queries, method="lancedb", index_folder=tmp_path / "index", **given
            )
            for one, other in zip(exact.hits, indexed.hits, strict=True):
                assert (one.frame, one.camera) == (other.frame, other.camera)
                assert one.distance == pytest.approx(other.distance, abs=1e-6)
            assert "exact scan" in exact.how and "LanceDB index of 999" in indexed.how


def test_the_method_is_by_the_number_of_frames():
    assert method_of(100_000, "auto", False) == "exact"
    assert method_of(100_001, "auto", False) == "lancedb"
    assert method_of(100_001, "auto", True) == "exact"
    with pytest.raises(InvalidValue, match="lancedb with regions.*accepted: auto or exact"):
        method_of(10, "lancedb", True)
    with pytest.raises(InvalidValue, match="method is 'faiss'; accepted: auto, exact, lancedb"):
        method_of(10, "faiss", False)


def test_a_projection_is_applied_before_lengths_are_compared():
    vectors = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32) / [[5], [1]]
    projection = np.array([[10.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    query = np.array([[1.0, 0.0, 0.0]], np.float32)
    expected = 1 - np.array([6.0 / np.hypot(6.0, 0.8), 1.0])
    np.testing.assert_allclose(compared(vectors, query, projection)[:, 0], expected, atol=1e-6)


def frames(*numbers):
    return [Hit(n, "wrist", 0.01 * k, 0) for k, n in enumerate(numbers)]


def test_results_of_one_episode_are_apart_and_limited():
    episode = np.repeat([0, 1, 2], 10)
    stamp_ns = np.tile(np.arange(10) * 10**9, 3)

    def chosen(*given, count=10, queries=(), **rule):
        hits = spread(
            frames(*given),
            count,
            episode=episode,
            stamp_ns=stamp_ns,
            rule=SpreadRule(**rule),
            queries=queries,
        )
        return [hit.frame for hit in hits]

    assert chosen(0, 1, 2, 3, 4, apart_s=2, per_episode=0) == [0, 2, 4]
    assert chosen(0, 1, 2, 3, 4, 10, 20, apart_s=2, per_episode=1) == [0, 10, 20]
    assert chosen(5, 6, 4, 15, apart_s=1, per_episode=2) == [5, 6, 15]
    # Neighbours of a query are no results, and neither is it itself where nothing has to be apart.
    assert chosen(5, 6, 7, 16, apart_s=2, per_episode=0, queries=[5]) == [7, 16]
    assert chosen(5, 6, 7, apart_s=0, per_episode=0, queries=[5]) == [6, 7]
    assert chosen(9, 8, 7, 29, count=2, apart_s=0, per_episode=0) == [9, 8]


@pytest.mark.parametrize(
    "rule, said",
    [
        ({"apart_s": float("nan")}, "apart_s is nan; accepted: 0 to 86400 s"),
        ({"apart_s": -1}, "apart_s is -1"),
        ({"per_episode": -1}, "per_episode is -1; accepted: 0"),
    ],
)
def test_a_rule_that_cannot_be_is_named(rule, said):
    with pytest.raises(InvalidValue, match=said):
        SpreadRule(**rule)


def test_what_cannot_be_asked_is_named(five):
    features = FeatureSet([five[0]])
    queries = asked(five[1][:1, 0])
    with pytest.raises(InvalidValue, match="count is 0; accepted: 1 to 1000"):
        find(features, queries, 0, rule=ALL)
    with pytest.raises(InvalidValue, match="the query q has no features"):
        find(features, asked(np.zeros((1, 8))), 3, rule=ALL)
    with pytest.raises(InvalidValue, match="has no patch tokens; accepted: features with tokens"):
        find(features, queries, 3, rule=ALL, regions=True)


def test_the_mean_of_patches_is_a_direction():
    patches = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(mean_patch(patches), np.full(4, 0.5))
    np.testing.assert_allclose(mean_patch(patches, [1, 2]), [0, 0.5**0.5, 0.5**0.5, 0])
    assert not mean_patch(np.zeros((3, 4), np.float32)).any()
