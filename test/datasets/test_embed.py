"""`embed` over a bag: whole, once, whatever interrupts it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, FORMATS, contents, pipeline, run_killed, settings_of  # noqa: F401
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_columns import COLUMNS_VERSION
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.encode_recording import replay
from vit_perception.engines.encoder_graph import GRAPH_VERSION
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """The demo bag embedded without a break, a folder a format."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in FORMATS:
        embed(
            pipeline,
            [BagSource(DEMO_BAG, CAMERAS[0].topic)],
            folder / kind,
            EmbedOptions(kind, shard_frames=16),
        )
    return folder


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_columns_hold_what_the_pipeline_gives(pipeline, whole, kind):
    files = FeatureFiles(whole / kind)
    files.verify()
    labels = files.layouts[0].cameras[0].labels
    names = (
        "stamp_ns",
        "tokens",
        "mask",
        "embedding",
        "wrist.cls",
        "wrist.stamp_ns",
        "wrist.class_index",
        "wrist.score",
        "arm.pose",
        "arm.pose_status",
        "arm.skew_ns",
        "index",
        "recorded_ns",
    )
    with BagReader(DEMO_BAG) as bag:
        for index, result in enumerate(replay(pipeline, bag)):
            row = files.row(index, names)
            wrist, arm = result.cameras["wrist"], result.poses["arm"]
            assert row["stamp_ns"] == row["wrist.stamp_ns"] == row["recorded_ns"] == result.stamp_ns
            assert row["index"] == index and row["mask"].all() and row["arm.skew_ns"] == arm.skew_ns
            np.testing.assert_array_equal(row["tokens"], result.sequence.tokens)
            np.testing.assert_array_equal(row["embedding"], result.embedding)
            np.testing.assert_array_equal(row["wrist.cls"], wrist.cls_token)
            np.testing.assert_array_equal(
                row["arm.pose"], [*arm.value.position_m, *arm.value.quaternion_xyzw]
            )
            assert ("missing", "held", "interpolated")[row["arm.pose_status"]] == arm.status
            scored = [(labels[k], s) for k, s in zip(row["wrist.class_index"], row["wrist.score"])]
            assert scored == [(c.class_id, c.score) for c in wrist.classes]
    assert len(files) == index + 1 == 150 and np.all(files.episode == 0)


def test_the_manifest_names_source_model_and_engine(pipeline, whole):
    manifest = json.loads((whole / "parquet/manifest.json").read_text())
    run = manifest["run"]
    assert (
        manifest["complete"]
        and manifest["frames"] == sum(s["frames"] for s in manifest["shards"]) == 150
    )
    assert (
        run["encoder_sha256"] == pipeline.encoder_sha256
        and run["weights_sha256"] == pipeline.card.weights_sha256
    )
    assert (
        run["runtime"] == pipeline.engine.runtime and run["sources"][0]["name"] == "pick_place_demo"
    )
    assert [layout["layout_id"] for layout in manifest["layouts"]] == [
        layout.layout_id for layout in FeatureFiles(whole / "parquet").layouts
    ]


def test_the_bag_is_one_recording_of_several_files(whole):
    with BagReader(whole / "mcap") as bag:
        assert (
            bag.count("/vit_encoder/tokens") == 150
            and len(list((whole / "mcap").glob("*.mcap"))) == 10
        )
        headers = [m.header.stamp for _, _, m in bag.messages(["/vit_encoder/tokens"])]
        stamps = [stamp.sec * 10**9 + stamp.nanosec for stamp in headers]
        (qos,) = set(map(str, (q.durability for q in bag.qos_of("/vit_encoder/layout"))))
    assert np.all(np.diff(stamps) == 50_000_000) and qos == "transient_local"


@pytest.mark.parametrize("kind", FORMATS)
def test_killed_at_random_points_it_ends_with_the_very_same_files(
    whole, tiny_classifier, tmp_path, kind
):
    kills, status = run_killed(tiny_classifier, tmp_path / "out", kind, seed=FORMATS.index(kind))
    assert (kills, status) == (4, 0)
    made, expected = contents(tmp_path / "out"), contents(whole / kind)
    journals = made.pop("journal.jsonl"), expected.pop("journal.jsonl")
    assert made == expected
    assert [json.loads(line)["file"] for line in journals[0].splitlines()] == [
        json.loads(line)["file"] for line in journals[1].splitlines()
    ]


@pytest.mark.parametrize(
    "kind, limit",
    [("parquet", 200), ("parquet", 15_000), ("safetensors", 15_000), ("mcap", 15_000)],
)
def test_a_full_disk_leaves_whole_shards_and_it_goes_on_when_there_is_room(
    pipeline, whole, tiny_classifier, tmp_path, kind, limit
):
    kills, status = run_killed(tiny_classifier, tmp_path / "out", kind, limit)
    assert (kills, status) == (0, 27)  # EFBIG, as a full disk is told by the limit on a file's size
    assert not list((tmp_path / "out").glob("features*"))
    manifest = embed(
        pipeline,
        [BagSource(DEMO_BAG, CAMERAS[0].topic)],
        tmp_path / "out",
        EmbedOptions(kind, shard_frames=16),
    )
    assert manifest["frames"] == 150 and contents(tmp_path / "out") == contents(whole / kind)


def test_a_shard_without_its_line_and_half_a_line_are_made_anew(pipeline, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole / "parquet", out)
    expected = contents(out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest |= {"complete": False, "frames": 0, "shards": [], "layouts": [], "dropped": {}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    lines = (out / "journal.jsonl").read_text().splitlines(keepends=True)
    (out / "journal.jsonl").write_text("".join(lines[:6]) + lines[6][:100])
    (out / ".features_000007.parquet.partial").write_bytes(b"half")
    done = []
    embed(
        pipeline,
        [BagSource(DEMO_BAG, CAMERAS[0].topic)],
        out,
        EmbedOptions("parquet", shard_frames=16),
        done.append,
    )
    assert contents(out) == expected and done[0] == 96 and sum(done) == 150


@pytest.mark.parametrize("kind", ["parquet", "mcap"])
def test_an_engine_that_is_measured_a_little_differently_goes_on_with_the_run(
    pipeline, whole, tmp_path, kind
):
    out = tmp_path / "out"
    shutil.copytree(whole / kind, out)
    expected = contents(out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest |= {"complete": False, "frames": 0, "shards": [], "layouts": [], "dropped": {}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    lines = (out / "journal.jsonl").read_text().splitlines(keepends=True)
    (out / "journal.jsonl").write_text("".join(lines[:6]))
    before, opened = pipeline.layout(), pipeline.opened
    try:
        report = replace(opened.report, cls_cosine=opened.report.cls_cosine - 3e-6)
        pipeline.every_opened = (replace(opened, report=report),)
        assert (
            pipeline.layout().min_cosine != before.min_cosine
            and pipeline.layout().layout_id == before.layout_id
        )
        embed(
            pipeline,
            [BagSource(DEMO_BAG, CAMERAS[0].topic)],
            out,
            EmbedOptions(kind, shard_frames=16),
        )
    finally:
        pipeline.every_opened = (opened,)
    assert contents(out) == expected
    if kind == "parquet":
        assert len(FeatureDataset(out)) == 150


def test_columns_that_change_get_another_version(whole):
    """Whoever changes what is expected here adds one to COLUMNS_VERSION: runs begun before are then
    refused.
    """
    files = FeatureFiles(whole / "parquet")
    row = files.row(0, files.columns)
    found = {name: f"{value.dtype} {len(value.shape)}" for name, value in row.items()}
    classes = {
        f"{camera}.{name}": kind
        for camera in ("agentview", "wrist")
        for name, kind in (
            ("cls", "float32 1"),
            ("class_index", "int32 1"),
            ("score", "float64 1"),
            ("stamp_ns", "int64 0"),
        )
    }
    assert (COLUMNS_VERSION, found) == (
        2,
        classes
        | {
            "index": "int64 0",
            "source": "int64 0",
            "episode": "int64 0",
            "layout": "int64 0",
            "recorded_ns": "int64 0",
            "stamp_ns": "int64 0",
            "mask": "bool 1",
            "tokens": "float32 2",
            "embedding": "float32 1",
            "arm.pose": "float64 1",
            "arm.pose_status": "int8 0",
            "arm.skew_ns": "int64 0",
        },
    )
    run = json.loads((whole / "parquet/manifest.json").read_text())["run"]
    assert (run["columns_version"], run["graph_version"]) == (COLUMNS_VERSION, GRAPH_VERSION)


def test_another_run_s_folder_and_one_in_use_are_refused(pipeline, whole, tmp_path):
    source = BagSource(DEMO_BAG, CAMERAS[0].topic)
    with pytest.raises(
        ValueError, match="begun with other settings.*shard_frames is 7 where 16 is expected"
    ):
        embed(pipeline, [source], whole / "parquet", EmbedOptions("parquet", shard_frames=7))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ValueError, match="holds other files .notes.txt.; accepted: a new or an empty folder"
    ):
        embed(pipeline, [source], tmp_path, EmbedOptions("parquet"))
    with pytest.raises(ValueError, match="is being written by another process"):
        embed(
            pipeline,
            [source],
            tmp_path / "new",
            EmbedOptions("parquet", shard_frames=16),
            lambda n: embed(
                pipeline, [source], tmp_path / "new", EmbedOptions("parquet", shard_frames=16)
            ),
        )
    with pytest.raises(ValueError, match="format is 'csv'; accepted: parquet, safetensors, mcap"):
        EmbedOptions("csv")


@pytest.mark.parametrize(
    "field, value",
    [("hidden_act", "quick_gelu"), ("num_attention_heads", 4), ("layer_norm_eps", 0.1)],
)
def test_the_same_weights_as_another_function_do_not_go_on_with_a_run(
    whole, tiny_classifier, tmp_path, field, value
):
    other = shutil.copytree(tiny_classifier, tmp_path / tiny_classifier.name)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {field: value}))
    out = shutil.copytree(whole / "parquet", tmp_path / "out")
    changed = Pipeline.open(settings_of(other))
    with pytest.raises(ValueError, match="begun with other settings.*encoder_sha256 is"):
        embed(
            changed,
            [BagSource(DEMO_BAG, CAMERAS[0].topic)],
            out,
            EmbedOptions("parquet", shard_frames=16),
        )
    changed.close()
    assert contents(out) == contents(whole / "parquet")


def test_a_missing_shard_is_named(pipeline, whole, tmp_path):
    shutil.copytree(whole / "parquet", tmp_path / "out")
    (tmp_path / "out/features_000003.parquet").unlink()
    with pytest.raises(ValueError, match="features_000003.parquet is missing or not of"):
        embed(
            pipeline,
            [BagSource(DEMO_BAG, CAMERAS[0].topic)],
            tmp_path / "out",
            EmbedOptions("parquet", shard_frames=16),
        )
