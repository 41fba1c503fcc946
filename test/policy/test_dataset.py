"""`embed`'s files as a torch data set: the same items in any order, from any worker, and no window across a break."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from test.bags.test_embed import settings_of
from test.bags.test_replay import looped
from vit_perception.bags.embed import EmbedOptions, embed
from vit_perception.bags.embed_sources import BagSource
from vit_perception.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset

TOPIC = "/wrist/image/compressed"


@pytest.fixture(scope="module")
def folders(tiny_checkpoint, tmp_path_factory):
    """Three passes over the first 2 s of the demo bag: 3 x 40 frames, each pass an episode."""
    folder = tmp_path_factory.mktemp("data")
    pipeline = Pipeline.open(settings_of(tiny_checkpoint))
    source = BagSource(looped(folder), TOPIC)
    for kind in ("parquet", "safetensors", "mcap"):
        embed(pipeline, [source], folder / kind, EmbedOptions(kind, shard_frames=17))
    pipeline.close()
    return folder


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_windows_stay_in_their_episode_and_any_order_gives_the_same(folders, kind):
    data = FeatureDataset(folders / kind, history=3, stride=2)
    assert len(data) == 3 * (40 - 4)
    items = [data[k] for k in range(len(data))]
    for item in items:
        assert torch.diff(item["stamps_ns"]).tolist() == [100_000_000] * 2
        assert item["tokens"].shape == (3, 35, 64) and item["mask"].all() and item["poses"]["arm"].shape == (3, 7)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    for k in order[:30]:
        assert torch.equal(data[k]["tokens"], items[k]["tokens"])
    # Every pass is the same recording, so its windows are the same too.
    assert all(torch.equal(items[k]["tokens"], items[k + 72]["tokens"]) for k in range(36))


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_worker_processes_and_pickled_copies_read_the_same(folders, kind):
    data = FeatureDataset(folders / kind, history=2)
    alone = torch.cat([batch["tokens"] for batch in DataLoader(data, batch_size=16)])
    # Forked behind an open file, as trainings do.
    shared = torch.cat([batch["tokens"] for batch in DataLoader(data, batch_size=16, num_workers=2)])
    assert torch.equal(alone, shared) and len(alone) == 3 * 39
    assert torch.equal(pickle.loads(pickle.dumps(data))[5]["tokens"], data[5]["tokens"])


def test_gaps_end_a_window_and_columns_go_along(folders):
    data = FeatureDataset(folders / "parquet", history=2, max_gap_s=0.01, columns=("wrist.cls", "index"))
    assert len(data) == 0
    data = FeatureDataset(folders / "parquet", history=1, columns=("wrist.cls", "index"))
    np.testing.assert_array_equal(data[50]["wrist.cls"][0], data[50]["tokens"][0, 17])
    assert data[50]["index"].tolist() == [50]
    with pytest.raises(IndexError):
        data[120]


def test_what_cannot_be_read_is_named(folders, tmp_path):
    with pytest.raises(ValueError, match="no manifest.json"):
        FeatureDataset(tmp_path)
    with pytest.raises(ValueError, match="is of mcap; accepted: parquet or safetensors"):
        FeatureDataset(folders / "mcap")
    with pytest.raises(ValueError, match="columns has action; there are: index"):
        FeatureDataset(folders / "parquet", columns=("action",))
    with pytest.raises(ValueError, match="history is 0"):
        FeatureDataset(folders / "parquet", history=0)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "vit_perception.embed", "complete": False}))
    with pytest.raises(ValueError, match="is not finished"):
        FeatureDataset(tmp_path)
