"""LeRobot data sets that lie or lack something: one line, or a counted drop and the rest."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.datasets.lerobot.hostile_sets import (  # noqa: F401
    OTHER,
    change_feature,
    change_rows,
    episode_file,
    outcome,
    pipeline,
)
from test.datasets.lerobot.test_dataset import KEY, data_set
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.lerobot.info import camera_names
from vit_perception.files.errors import UserError
from vit_perception.policy.dataset import FeatureDataset

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
