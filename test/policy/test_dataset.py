"""`embed`'s files as a torch data set: the same items in any order, from any worker, and no window
across a break.
"""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from test.datasets.embed_runs import settings_of
from test.datasets.test_encode_recording import looped
from vit_perception.config.settings import CameraSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource, PicturesSource
from vit_perception.pipeline.pipeline import Pipeline
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
        assert (
            item["tokens"].shape == (3, 35, 64)
            and item["mask"].all()
            and item["poses"]["arm"].shape == (3, 7)
        )
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
    shared = torch.cat(
        [batch["tokens"] for batch in DataLoader(data, batch_size=16, num_workers=2)]
    )
    assert torch.equal(alone, shared) and len(alone) == 3 * 39
    assert torch.equal(pickle.loads(pickle.dumps(data))[5]["tokens"], data[5]["tokens"])


def test_gaps_end_a_window_and_columns_go_along(folders):
    data = FeatureDataset(
        folders / "parquet", history=2, max_gap_s=0.01, columns=("wrist.cls", "index")
    )
    assert len(data) == 0
    data = FeatureDataset(folders / "parquet", history=1, columns=("wrist.cls", "index"))
    np.testing.assert_array_equal(data[50]["wrist.cls"][0], data[50]["tokens"][0, 17])
    assert data[50]["index"].tolist() == [50]
    with pytest.raises(IndexError):
        data[120]


@pytest.fixture(scope="module")
def two_layouts(tiny_checkpoint, tmp_path_factory):
    """Pictures whose size changes: three of 40 x 60 px, two of 30 x 50, two of 40 x 60."""
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "pictures").mkdir()
    for k, size in enumerate([(40, 60)] * 3 + [(30, 50)] * 2 + [(40, 60)] * 2):
        cv2.imwrite(str(folder / f"pictures/{k}.png"), np.full((*size, 3), 30 * k, np.uint8))
    single = Pipeline.open(
        settings_of(tiny_checkpoint, (CameraSettings("camera", "pictures", "compressed"),), ())
    )
    for kind in ("parquet", "safetensors"):
        embed(
            single,
            [PicturesSource(folder / "pictures", "camera")],
            folder / kind,
            EmbedOptions(kind),
        )
    single.close()
    return folder


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_every_item_says_its_layout_and_no_window_spans_two(two_layouts, kind):
    data = FeatureDataset(two_layouts / kind)
    sizes = [
        data.layouts[item["layout"]].cameras[0].source_size_px
        for item in (data[k] for k in range(7))
    ]
    assert sizes == [(40, 60)] * 3 + [(30, 50)] * 2 + [(40, 60)] * 2 and len(data.layouts) == 2
    (batch,) = DataLoader(data, batch_size=7)
    assert batch["layout"].tolist() == [0, 0, 0, 1, 1, 0, 0]
    pairs = FeatureDataset(two_layouts / kind, history=2, columns=("index",))
    assert [pairs[k]["index"].tolist() for k in range(len(pairs))] == [
        [0, 1],
        [1, 2],
        [3, 4],
        [5, 6],
    ]


def changed(two_layouts, folder, change):
    """A copy of the Parquet folder whose manifest ``change`` has edited."""
    shutil.copytree(two_layouts / "parquet", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_layouts_of_another_meaning_are_refused_by_name(two_layouts, tmp_path):
    def widen(manifest):
        manifest["layouts"][1] |= {"width": 65, "weights_sha256": "other"}

    with pytest.raises(
        ValueError,
        match="wide: layout 1 is not that of layout 0: .*width is 65 where 64 is "
        "expected.*; accepted: layouts that differ in the geometry of a camera alone",
    ):
        FeatureDataset(changed(two_layouts, tmp_path / "wide", widen))
    with pytest.raises(
        ValueError,
        match="few has rows of layout 0 to 1; accepted: 0 to 0, as its manifest has them",
    ):
        FeatureDataset(
            changed(two_layouts, tmp_path / "few", lambda manifest: manifest["layouts"].pop())
        )


def test_what_cannot_be_read_is_named(folders, tmp_path):
    with pytest.raises(ValueError, match="no manifest.json"):
        FeatureDataset(tmp_path)
    with pytest.raises(ValueError, match="is of mcap; accepted: parquet or safetensors"):
        FeatureDataset(folders / "mcap")
    with pytest.raises(ValueError, match="columns has action; there are: index"):
        FeatureDataset(folders / "parquet", columns=("action",))
    with pytest.raises(ValueError, match="history is 0"):
        FeatureDataset(folders / "parquet", history=0)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"format": "vit_perception.embed", "complete": False})
    )
    with pytest.raises(ValueError, match="is not finished"):
        FeatureDataset(tmp_path)
