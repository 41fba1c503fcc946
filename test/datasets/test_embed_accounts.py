"""What `embed` says of what it left out: the same whatever interrupted it."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, contents, pipeline, run_killed, settings_of  # noqa: F401
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

POSES = "/ee_pose"
OPTIONS = EmbedOptions("parquet", shard_frames=16)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """The demo bag; every 40th wrist image without its end, every 50th pose NaN and every 90th cut,
    the last too.
    """
    path = tmp_path_factory.mktemp("spoiled") / "spoiled"
    with BagReader(DEMO_BAG) as bag, BagWriter(path) as out:
        seen = dict.fromkeys(bag.topics, 0)
        last = bag.count(POSES)
        for message in bag.raw([CAMERAS[0].topic, CAMERAS[1].topic, POSES]):
            seen[message.topic] += 1
            data, number = message.data, seen[message.topic]
            if message.topic == CAMERAS[1].topic and number % 40 == 0:
                data = data[:-40] + bytes(40)
            elif message.topic == POSES and (number % 90 == 0 or number == last):
                data = data[:20]
            elif message.topic == POSES and number % 50 == 0:
                data = data[:-56] + struct.pack(
                    "<7d", float("nan"), *struct.unpack("<6d", data[-48:])
                )
            out.write(message.topic, message.type_name, data, message.stamp_ns)
    return path


@pytest.fixture(scope="module")
def uninterrupted(pipeline, spoiled, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    embed(pipeline, [BagSource(spoiled, CAMERAS[0].topic)], out, OPTIONS)
    return out


def test_every_message_is_in_the_manifest(uninterrupted, spoiled):
    manifest = json.loads((uninterrupted / "manifest.json").read_text())
    with BagReader(spoiled) as bag:
        images, poses = bag.count(CAMERAS[1].topic), bag.count(POSES)
    cut = poses // 90 + (poses % 90 != 0)
    unusable = [number for number in range(50, poses, 50) if number % 90]
    assert manifest["frames"] == images - images // 40 and manifest["dropped"] == {
        "short_data": images // 40
    }
    assert "end marker" in manifest["drop_texts"]["short_data"]
    rows = {row["reason"]: row for row in manifest["skipped"]}
    assert len(rows) == len(manifest["skipped"]) == 2 and {
        row["topic"] for row in rows.values()
    } == {POSES}
    counts = sorted(row["count"] for row in rows.values())
    assert counts == sorted([cut, len(unusable)]) and rows["undecodable"]["count"] == cut
    assert str(spoiled.parent) not in json.dumps(manifest) and all(
        row["first"] for row in rows.values()
    )


@pytest.mark.parametrize("at", [1, 16, 17, 39, 40, 41, 80, 149])
def test_interrupted_anywhere_it_says_the_same(pipeline, uninterrupted, spoiled, tmp_path, at):
    done = 0

    def stops(results):
        nonlocal done
        done += results
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(pipeline, [BagSource(spoiled, CAMERAS[0].topic)], tmp_path / "out", OPTIONS, stops)
    embed(pipeline, [BagSource(spoiled, CAMERAS[0].topic)], tmp_path / "out", OPTIONS)
    assert contents(tmp_path / "out") == contents(uninterrupted)


def test_killed_at_random_points_it_says_the_same(
    uninterrupted, spoiled, tiny_classifier, tmp_path
):
    kills, status = run_killed(tiny_classifier, tmp_path / "out", "parquet", seed=3, bag=spoiled)
    assert status == 0 and kills >= 2 and contents(tmp_path / "out") == contents(uninterrupted)


def test_images_in_whose_place_a_camera_is_masked_are_counted(tiny_checkpoint, spoiled, tmp_path):
    settings = settings_of(tiny_checkpoint)
    masked = Pipeline.open(replace(settings, sync=replace(settings.sync, policy="mask")))
    manifest = embed(masked, [BagSource(spoiled, CAMERAS[0].topic)], tmp_path / "out", OPTIONS)
    masked.close()
    rows = {row["topic"]: row for row in manifest["skipped"] if row["reason"] == "short_data"}
    files = FeatureFiles(tmp_path / "out")
    missing = [k for k in range(150) if not files.row(k, ("wrist.stamp_ns",))["wrist.stamp_ns"]]
    assert manifest["frames"] == 150 and manifest["dropped"] == {}
    assert (
        rows[CAMERAS[1].topic]["count"] == len(missing) == 3
        and "camera wrist" in rows[CAMERAS[1].topic]["first"]
    )


def test_a_folder_with_a_colon_is_a_folder(pipeline, spoiled, uninterrupted, tmp_path, monkeypatch):
    """Regression: pyarrow took such a path for a URI, when a whole shard had been encoded."""
    monkeypatch.chdir(tmp_path)
    manifest = embed(pipeline, [BagSource(spoiled, CAMERAS[0].topic)], Path("run:3"), OPTIONS)
    assert manifest["complete"] and contents(tmp_path / "run:3") == contents(uninterrupted)
