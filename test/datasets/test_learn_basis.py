"""A basis learnt from features: known directions, what it keeps, and what it cannot learn from."""

import numpy as np
import pytest

from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.datasets import learn_basis as module
from vit_perception.datasets.learn_basis import learn_basis
from vit_perception.files.errors import InvalidValue
from vit_perception.policy.features import FeatureFiles


def test_the_directions_of_made_up_tokens_are_found():
    """Variances of 9, 4 and 1 along three known axes, and almost none along the other five."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(8, 8)))[0].T
    numbers = random.normal(size=(40_000, 8)) * [3, 2, 1, *[1e-3] * 5]
    found = module._directions(np.cov((numbers @ axes).T))
    assert np.abs(found @ axes.T)[:3, :3] == pytest.approx(np.eye(3), abs=0.02)
    largest = np.abs(found).argmax(axis=1)
    assert (found[np.arange(8), largest] > 0).all()


def test_of_recorded_features_more_directions_keep_more(folders):
    files = FeatureFiles(folders / "parquet")
    seen: list[int] = []
    learnt = learn_basis(files, 16, seen.append)
    assert (learnt.frames, learnt.held_out_frames) == (96, 24) and sum(seen) == 120
    assert [kept.dims for kept in learnt.curve] == [8, 16, 32] and learnt.kept.dims == 16
    for name in ("variance", "mean_cosine", "worst_cosine"):
        values = [getattr(kept, name) for kept in learnt.curve]
        assert values == sorted(values) and 0 < values[0] < values[-1] <= 1
    assert learnt.kept.worst_cosine <= learnt.kept.mean_cosine
    assert learnt.basis.encoder_sha256 == files.layouts[0].encoder_sha256
    # The measured loss is that of the basis itself, on the frames that were left out.
    rows = [k for k in range(120) if k % 40 >= 32]
    groups = [g for g in files.layouts[0].groups if g.kind == "patch"]
    rows_of = (files.row(k, ("tokens",))["tokens"] for k in rows)
    tokens = np.concatenate([all_[g.start : g.stop] for all_ in rows_of for g in groups])
    restored = learnt.basis.expand(learnt.basis.reduce(tokens))
    cosine = (restored * tokens).sum(1)
    cosine /= np.linalg.norm(restored, axis=1) * np.linalg.norm(tokens, axis=1)
    assert cosine.mean() == pytest.approx(learnt.kept.mean_cosine, abs=2e-3)


def test_the_same_features_give_the_same_basis(folders):
    digests = {
        learn_basis(FeatureFiles(folders / kind), 8).basis.sha256
        for kind in ("parquet", "safetensors")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("dims", [0, -1, 65])
def test_a_count_that_cannot_be_is_refused(folders, dims):
    with pytest.raises(InvalidValue, match=f"is {dims}; accepted: 1 to 64") as caught:
        learn_basis(FeatureFiles(folders / "parquet"), dims)
    assert caught.value.argument == "dims"
