"""LeRobot data sets that lie, lack something or reach outside: one line or a counted drop, and the
rest comes out.
"""

import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.datasets.lerobot.test_dataset import KEY, data_set, picture, write_video
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.lerobot.files import filled
from vit_perception.datasets.lerobot.info import camera_names
from vit_perception.files.errors import UserError
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset

OTHER = "observation.images.other"


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "compressed")


@pytest.fixture(scope="module")
def of_videos(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "raw")


def opened(checkpoint, transport):
    made = Pipeline.open(
        EncoderSettings(
            (CameraSettings("top", KEY, transport),),
            model=ModelSettings(str(checkpoint)),
            engine=EngineSettings("torch", "float32", threads=1),
        )
    )
    yield made
    made.close()


def change_info(root, **fields):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_feature(root, key, **fields):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[key] = features.get(key, {"dtype": "int64", "shape": [1]}) | fields
    change_info(root, features=features)


def change_rows(path, change):
    """``change`` takes the rows as dictionaries and changes them."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def outcome(source, pipeline):
    """What each row gives: its index where a frame came out, else the reason that it was dropped
    for.
    """
    return [
        r.index if hasattr(r.result, "cameras") else r.result.reason
        for r in source.results(pipeline, 0)
    ]


def episode_file(root, episode):
    return root / f"data/chunk-000/episode_{episode:06d}.parquet"


# One frame that cannot be read


def test_a_frame_without_a_picture_is_dropped_and_the_rest_comes_out_also_again(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)

    def spoil(rows):
        rows[0][KEY] = None
        rows[1][KEY] = {"bytes": None, "path": "images/none.png"}
        rows[2][KEY] = {"bytes": rows[2][KEY]["bytes"][:100], "path": None}
        rows[3][KEY] = {"bytes": None, "path": None}

    change_rows(episode_file(root, 0), spoil)
    for _ in range(2):
        manifest = embed(
            pipeline,
            [LeRobotSource(root)],
            tmp_path / "out",
            EmbedOptions("parquet", shard_frames=1),
        )
        assert (
            manifest["frames"] == 3
            and sum(manifest["dropped"].values()) == 4
            and manifest["dropped"]["file"] == 3
        )
    assert FeatureDataset(tmp_path / "out").files.row(0, ("frame_index",))["frame_index"] == 0


def test_a_video_that_is_short_missing_or_cut_costs_its_own_frames_only(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    first = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    write_video(first, range(3))
    assert outcome(LeRobotSource(root), of_videos) == [0, 1, 2, "frame", 4, 5, 6]
    first.write_bytes(first.read_bytes()[:60])
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 4 + [4, 5, 6]
    first.unlink()
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 4 + [4, 5, 6]


def test_a_frame_that_the_video_lacks_costs_that_frame_only(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    change_rows(episode_file(root, 0), lambda rows: rows[1].update(timestamp=0.151))
    assert outcome(LeRobotSource(root), of_videos) in (
        [0, "frame", 2, 3, 4, 5, 6],
        [0, 1, "frame", 3, 4, 5, 6],
    )
    change_rows(episode_file(root, 0), lambda rows: rows[1].update(timestamp=float("nan")))
    assert outcome(LeRobotSource(root), of_videos) == [0, "file", 2, 3, 4, 5, 6]


def test_damage_inside_a_video_never_ends_the_run_and_spares_the_other_episode(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    first, rng = root / f"videos/chunk-000/{KEY}/episode_000000.mp4", random.Random(3)
    whole = first.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(8):
            data[rng.randrange(len(data))] = rng.randrange(256)
        first.write_bytes(data)
        results = outcome(LeRobotSource(root), of_videos)
        assert len(results) == 7 and results[4:] == [4, 5, 6]


# Episodes, columns, names, depth


def test_a_trimmed_episode_is_one_of_its_own_also_when_the_run_goes_on(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    change_rows(
        episode_file(root, 1),
        lambda rows: [r.update(frame_index=r["frame_index"] + 10) for r in rows],
    )
    source = LeRobotSource(root)
    embed(pipeline, [source], tmp_path / "out", EmbedOptions("parquet"))
    data = FeatureDataset(tmp_path / "out", history=2, columns=("episode_index",))
    assert data.files.episode.tolist() == [0] * 4 + [1] * 3
    assert all(len(set(item["episode_index"].tolist())) == 1 for item in data)
    assert [[r.new_episode for r in source.results(pipeline, first)] for first in (3, 4, 5)] == [
        [False, True, False, False],
        [True, False, False],
        [False, False],
    ]


def test_whole_numbers_and_booleans_go_along_and_texts_are_named(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    for k in (0, 1):
        path, n = episode_file(root, k), (4, 3)[k]
        table = pq.read_table(path)
        for name, values in (
            ("gripper", pa.array(range(n), pa.int64())),
            ("next.done", pa.array([False] * n)),
            ("words", pa.array(["a"] * n)),
            ("half", pa.array([0.5] * n)),
            ("tokens", pa.array([1.0] * n)),
        ):
            table = table.append_column(name, values)
        pq.write_table(table, path)
    for name, dtype in (
        ("gripper", "int64"),
        ("next.done", "bool"),
        ("words", "string"),
        ("half", "int64"),
        ("tokens", "float32"),
        ("absent", "float32"),
    ):
        change_feature(root, name, dtype=dtype, shape=[1])
    for kind in ("parquet", "safetensors"):
        manifest = embed(pipeline, [LeRobotSource(root)], tmp_path / kind, EmbedOptions(kind))
        files = FeatureDataset(tmp_path / kind).files
        assert files.row(2, ("gripper", "next.done")) == {"gripper": 2, "next.done": False}
        assert files.row(2, ("tokens",))["tokens"].ndim == 2  # ours, not the data set's
        assert {s["topic"] for s in manifest["skipped"]} == {"words", "half", "tokens", "absent"}


def test_a_missing_number_drops_its_frame_and_is_never_zero(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)

    def spoil(rows):
        rows[0]["action"] = rows[1]["task_index"] = rows[3]["episode_index"] = None
        rows[2]["frame_index"] = -1

    change_rows(episode_file(root, 0), spoil)
    assert outcome(LeRobotSource(root), pipeline) == ["column"] * 4 + [4, 5, 6]


@pytest.mark.parametrize(
    "keys, names",
    [
        (["observation.images.wrist", "observation.image"], ["wrist", "image"]),
        (
            ["observation.images.rgb.head", "observation.images.depth.head"],
            ["rgb_head", "depth_head"],
        ),
        (
            ["observation.images.left.rgb", "observation.images.right.rgb"],
            ["left_rgb", "right_rgb"],
        ),
        (["a.b.x", "c.b.x", "d.x"], ["a_b_x", "c_b_x", "d_x"]),
        (["observation.images.0", "observation.images.1"], ["camera_0", "camera_1"]),
        (["observation.images.cam-1", "observation.images.cam_1"], ["cam_1", "cam_1_2"]),
        (["observation.images.front camera", "observation.images.b__c_"], ["front_camera", "b_c"]),
        (["observation.images.äö", "...", "x.😀"], ["images", "camera", "x"]),
        (["x_2", "a.x", "x"], ["x_2", "a_x", "x"]),
    ],
)
def test_every_camera_has_a_name_of_its_own_that_ros_takes(keys, names):
    assert list(camera_names(keys).values()) == names
    EncoderSettings(tuple(CameraSettings(name, f"/{k}", "raw") for k, name in enumerate(names)))


@pytest.mark.parametrize(
    "said",
    [
        {"info": {"is_depth_map": True}},
        {"info": {"video.is_depth_map": True}},
        {"video_info": {"video.pix_fmt": "gray12le"}},
        {"is_depth_map": 1},
    ],
)
def test_depth_that_the_set_declares_is_left_out_by_name(tmp_path, pipeline, said):
    root = data_set(tmp_path / "set", "v2.1", False)
    change_feature(root, OTHER, dtype="video", shape=[40, 60, 1], **said)
    source = LeRobotSource(root)
    assert [c.name for c in source.cameras] == ["top"]
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("parquet"))
    (row,) = manifest["skipped"]
    assert (row["topic"], row["reason"]) == (OTHER, "depth feature") and manifest["frames"] == 7


def test_depth_that_only_its_pixels_say_is_refused(tmp_path):
    import cv2

    root = data_set(tmp_path / "images", "v2.1", False)
    grey = cv2.imencode(".png", np.full((40, 60), 3000, np.uint16))[1].tobytes()
    change_rows(
        episode_file(root, 0),
        lambda rows: [r.update({KEY: {"bytes": grey, "path": None}}) for r in rows],
    )
    with pytest.raises(UserError, match="has depth features alone"):
        LeRobotSource(root)
    av = pytest.importorskip("av")
    root = data_set(tmp_path / "videos", "v2.1", True)
    with av.open(
        str(root / f"videos/chunk-000/{KEY}/episode_000000.mp4"), "w", format="matroska"
    ) as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 40, 60, "gray12le"
        frame = av.VideoFrame.from_ndarray(np.full((40, 60), 3000, np.uint16), format="gray12le")
        container.mux(stream.encode(frame)), container.mux(stream.encode())
    with pytest.raises(UserError, match="has depth features alone"):
        LeRobotSource(root)


# Files stay inside


def test_cells_that_point_outside_or_at_a_pipe_or_device_give_no_picture(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    import cv2

    inside, outside = root / "images/in.png", tmp_path / "out.png"
    inside.parent.mkdir()
    cv2.imwrite(str(inside), picture(0)), cv2.imwrite(str(outside), picture(0))
    os.mkfifo(root / "images/pipe.png")
    (root / "images/zero.png").symlink_to("/dev/zero")
    (root / "images/link.png").symlink_to(outside)
    (root / "images/circle.png").symlink_to("circle.png")
    cells = (
        ["images/in.png", "../out.png", str(outside), "images/pipe.png"],
        ["images/zero.png", "images/link.png", "images/circle.png"],
    )
    for episode, paths in enumerate(cells):
        change_rows(
            episode_file(root, episode),
            lambda rows, paths=paths: [
                r.update({KEY: {"bytes": None, "path": p}}) for r, p in zip(rows, paths)
            ],
        )
    assert outcome(LeRobotSource(root), pipeline) == [0] + ["file"] * 6
    change_rows(
        episode_file(root, 0),
        lambda rows: [
            r.update({KEY: {"bytes": None, "path": p}})
            for r, p in zip(rows, ["images", "a\0b", "x" * 5000, ""])
        ],
    )
    assert outcome(LeRobotSource(root), pipeline)[:4] == ["file"] * 4


def test_links_of_the_hub_cache_are_followed_and_data_files_elsewhere_are_refused(tmp_path):
    root = data_set(tmp_path / "hub/datasets--a--b/snapshots/0123", "v2.1", False)
    blobs = tmp_path / "hub/datasets--a--b/blobs"
    blobs.mkdir()
    shutil.move(episode_file(root, 0), blobs / "abc")
    episode_file(root, 0).symlink_to("../../../../blobs/abc")
    assert LeRobotSource(root).total() == 7
    episode_file(root, 0).unlink()
    shutil.move(blobs / "abc", tmp_path / "abc")
    episode_file(root, 0).symlink_to(tmp_path / "abc")
    with pytest.raises(UserError, match="lies outside of"):
        LeRobotSource(root)


@pytest.mark.parametrize(
    "template",
    [
        "../{video_key}.mp4",
        "/etc/{video_key}",
        "{video_key.__class__}",
        "{0}",
        "{}",
        "{video_key:>1000000000}",
        "{episode_index:999999999d}",
        "{video_key!r}",
        "{episode_index:{episode_chunk}d}",
        "{episode_index:03x}",
        "{no_field}",
        "{{}}",
        "{video_key:03d}",
        "a" * 10_000,
        "videos",
        "{episode_index:99d}",
        "{",
    ],
)
def test_templates_reach_nothing_else_and_format_nothing_else(tmp_path, of_videos, template):
    root = data_set(tmp_path / "set", "v2.1", True)
    change_info(root, video_path=template)
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 7


def test_templates_are_filled_as_the_format_defines_them():
    assert filled(
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        {"video_key": "a.b", "episode_chunk": 1, "episode_index": 1234567},
    ) == ("videos/chunk-001/a.b/episode_1234567.mp4")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD>{}</MPD>",
    ],
)
def test_playlists_are_no_videos(tmp_path, of_videos, content):
    root = data_set(tmp_path / "set", "v2.1", True)
    first = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    shutil.move(first, root / "other.mp4")
    first.write_text(content.format(root / "other.mp4"))
    results = list(LeRobotSource(root).results(of_videos, 0))
    assert [getattr(r.result, "reason", "") for r in results] == ["file"] * 4 + [""] * 3
    assert "neither MP4 nor Matroska" in results[0].result.text
