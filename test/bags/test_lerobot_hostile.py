"""LeRobot data sets that lie, lack something or reach outside: one line or a counted drop, and the rest comes out."""

import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.bags.test_lerobot import KEY, data_set, picture, write_video
from vit_perception.bags import parquet_bounds
from vit_perception.bags.embed import EmbedOptions, embed
from vit_perception.bags.lerobot import LeRobotSource, is_lerobot
from vit_perception.bags.lerobot_files import SetFiles, filled
from vit_perception.bags.lerobot_info import camera_names, read_info
from vit_perception.bags.parquet_bounds import BoundedParquet
from vit_perception.errors import UserError
from vit_perception.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.settings import CameraSettings, EncoderSettings, EngineSettings, ModelSettings

OTHER = "observation.images.other"


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "compressed")


@pytest.fixture(scope="module")
def of_videos(tiny_checkpoint):
    yield from opened(tiny_checkpoint, "raw")


def opened(checkpoint, transport):
    made = Pipeline.open(EncoderSettings((CameraSettings("top", KEY, transport),), model=ModelSettings(str(checkpoint)),
                                         engine=EngineSettings("torch", "float32", threads=1)))
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
    """What each row gives: its index where a frame came out, else the reason that it was dropped for."""
    return [r.index if hasattr(r.result, "cameras") else r.result.reason for r in source.results(pipeline, 0)]


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
        manifest = embed(pipeline, [LeRobotSource(root)], tmp_path / "out", EmbedOptions("parquet", shard_frames=1))
        assert manifest["frames"] == 3 and sum(manifest["dropped"].values()) == 4 and manifest["dropped"]["file"] == 3
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
    assert outcome(LeRobotSource(root), of_videos) in ([0, "frame", 2, 3, 4, 5, 6], [0, 1, "frame", 3, 4, 5, 6])
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
    change_rows(episode_file(root, 1), lambda rows: [r.update(frame_index=r["frame_index"] + 10) for r in rows])
    source = LeRobotSource(root)
    embed(pipeline, [source], tmp_path / "out", EmbedOptions("parquet"))
    data = FeatureDataset(tmp_path / "out", history=2, columns=("episode_index",))
    assert data.files.episode.tolist() == [0] * 4 + [1] * 3
    assert all(len(set(item["episode_index"].tolist())) == 1 for item in data)
    assert [[r.new_episode for r in source.results(pipeline, first)] for first in (3, 4, 5)] == [
        [False, True, False, False], [True, False, False], [False, False]]


def test_whole_numbers_and_booleans_go_along_and_texts_are_named(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    for k in (0, 1):
        path, n = episode_file(root, k), (4, 3)[k]
        table = pq.read_table(path)
        for name, values in (("gripper", pa.array(range(n), pa.int64())), ("next.done", pa.array([False] * n)),
                             ("words", pa.array(["a"] * n)), ("half", pa.array([0.5] * n)),
                             ("tokens", pa.array([1.0] * n))):
            table = table.append_column(name, values)
        pq.write_table(table, path)
    for name, dtype in (("gripper", "int64"), ("next.done", "bool"), ("words", "string"), ("half", "int64"),
                        ("tokens", "float32"), ("absent", "float32")):
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


@pytest.mark.parametrize("keys, names", [
    (["observation.images.wrist", "observation.image"], ["wrist", "image"]),
    (["observation.images.rgb.head", "observation.images.depth.head"], ["rgb_head", "depth_head"]),
    (["observation.images.left.rgb", "observation.images.right.rgb"], ["left_rgb", "right_rgb"]),
    (["a.b.x", "c.b.x", "d.x"], ["a_b_x", "c_b_x", "d_x"]),
    (["observation.images.0", "observation.images.1"], ["camera_0", "camera_1"]),
    (["observation.images.cam-1", "observation.images.cam_1"], ["cam_1", "cam_1_2"]),
    (["observation.images.front camera", "observation.images.b__c_"], ["front_camera", "b_c"]),
    (["observation.images.äö", "...", "x.😀"], ["images", "camera", "x"]),
    (["x_2", "a.x", "x"], ["x_2", "a_x", "x"])])
def test_every_camera_has_a_name_of_its_own_that_ros_takes(keys, names):
    assert list(camera_names(keys).values()) == names
    EncoderSettings(tuple(CameraSettings(name, f"/{k}", "raw") for k, name in enumerate(names)))


@pytest.mark.parametrize("said", [{"info": {"is_depth_map": True}}, {"info": {"video.is_depth_map": True}},
                                  {"video_info": {"video.pix_fmt": "gray12le"}}, {"is_depth_map": 1}])
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
    change_rows(episode_file(root, 0), lambda rows: [r.update({KEY: {"bytes": grey, "path": None}}) for r in rows])
    with pytest.raises(UserError, match="has depth features alone"):
        LeRobotSource(root)
    av = pytest.importorskip("av")
    root = data_set(tmp_path / "videos", "v2.1", True)
    with av.open(str(root / f"videos/chunk-000/{KEY}/episode_000000.mp4"), "w", format="matroska") as container:
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
    cells = ["images/in.png", "../out.png", str(outside), "images/pipe.png"], ["images/zero.png", "images/link.png",
                                                                             "images/circle.png"]
    for episode, paths in enumerate(cells):
        change_rows(episode_file(root, episode), lambda rows, paths=paths: [
            r.update({KEY: {"bytes": None, "path": p}}) for r, p in zip(rows, paths)])
    assert outcome(LeRobotSource(root), pipeline) == [0] + ["file"] * 6
    change_rows(episode_file(root, 0), lambda rows: [r.update({KEY: {"bytes": None, "path": p}}) for r, p in zip(
        rows, ["images", "a\0b", "x" * 5000, ""])])
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


@pytest.mark.parametrize("template", ["../{video_key}.mp4", "/etc/{video_key}", "{video_key.__class__}", "{0}", "{}",
                                      "{video_key:>1000000000}", "{episode_index:999999999d}", "{video_key!r}",
                                      "{episode_index:{episode_chunk}d}", "{episode_index:03x}", "{no_field}", "{{}}",
                                      "{video_key:03d}", "a" * 10_000, "videos", "{episode_index:99d}", "{"])
def test_templates_reach_nothing_else_and_format_nothing_else(tmp_path, of_videos, template):
    root = data_set(tmp_path / "set", "v2.1", True)
    change_info(root, video_path=template)
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 7


def test_templates_are_filled_as_the_format_defines_them():
    assert filled("videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4", {
        "video_key": "a.b", "episode_chunk": 1, "episode_index": 1234567}) == (
            "videos/chunk-001/a.b/episode_1234567.mp4")


@pytest.mark.parametrize("content", ["#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n",
                                     "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
                                     "<?xml version='1.0'?><MPD>{}</MPD>"])
def test_playlists_are_no_videos(tmp_path, of_videos, content):
    root = data_set(tmp_path / "set", "v2.1", True)
    first = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    shutil.move(first, root / "other.mp4")
    first.write_text(content.format(root / "other.mp4"))
    results = list(LeRobotSource(root).results(of_videos, 0))
    assert [getattr(r.result, "reason", "") for r in results] == ["file"] * 4 + [""] * 3
    assert "neither MP4 nor Matroska" in results[0].result.text


# Parquet that unpacks to too much


def unpacking_file(path, kind):
    if kind == "one cell":
        table = pa.table({"x": pa.array([bytes(3 << 20)])})
    elif kind == "list of one row":
        table = pa.table({"x": pa.array([np.zeros(1_100_000, np.int8)], pa.list_(pa.int8()))})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize("kind", ["one cell", "list of one row"])
def test_a_row_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(parquet_bounds, "MOST_UNPACKED_BYTES", 2 << 20)  # in small: gigabytes take long to write
    monkeypatch.setattr(parquet_bounds, "MOST_VALUES", 1 << 20)
    unpacking_file(tmp_path / "a.parquet", kind)
    before = pa.total_allocated_bytes()
    with BoundedParquet(tmp_path / "a.parquet") as file, pytest.raises(UserError, match="accepted: at most"):
        next(file.batches(["x"]))
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_rows_that_share_one_large_cell_are_refused_before_they_are_unpacked(tmp_path):
    """Regression: 2.6 kB on disk, one cell of 60 MB in 100,000 rows: memory held, and it took hours."""
    cell = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([bytes(1 << 20)]))
    pq.write_table(pa.table({"x": cell}), tmp_path / "a.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 16
    with BoundedParquet(tmp_path / "a.parquet") as file, pytest.raises(UserError, match="3000 rows that share values"):
        next(file.batches(["x"]))


def test_rows_may_share_a_small_cell(tmp_path):
    pq.write_table(pa.table({"x": pa.array([bytes(1000)] * 3000)}), tmp_path / "a.parquet")
    with BoundedParquet(tmp_path / "a.parquet") as file:
        assert sum(len(batch) for batch in file.batches(["x"])) == 3000


def test_pictures_that_do_not_shrink_may_fill_a_page(tmp_path):
    data = np.random.default_rng(0).bytes(3 << 20)
    pq.write_table(pa.table({"x": pa.array([data] * 30)}), tmp_path / "a.parquet", use_dictionary=False,
                   compression="none", data_page_size=1 << 30)
    with BoundedParquet(tmp_path / "a.parquet") as file:
        batches = list(file.batches(["x"]))
    assert sum(len(b) for b in batches) == 30 and max(len(b) for b in batches) <= 16


def test_damaged_parquet_is_named_and_ends_nothing_else(tmp_path, pipeline):
    whole = episode_file(data_set(tmp_path / "set", "v2.1", False), 0).read_bytes()
    rng = random.Random(5)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "a.parquet"
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            with BoundedParquet(path) as file:
                for batch in file.batches([name for name in file.schema.names]):
                    batch.num_rows
        except UserError as error:
            assert "a.parquet" in str(error)


# info.json


@pytest.mark.parametrize("fields, said", [
    ({"fps": 10**400}, "fps is"), ({"fps": float("nan")}, "fps is nan"), ({"fps": 0}, "fps is 0"),
    ({"fps": -10}, "fps is -10"), ({"fps": "10"}, "fps is '10'"), ({"fps": True}, "fps is True"),
    ({"fps": None}, "fps is None"), ({"fps": float("inf")}, "fps is inf"), ({"total_frames": 1e3}, "total_frames is"),
    ({"total_frames": -1}, "total_frames is -1"), ({"total_frames": 10**400}, "total_frames is"),
    ({"chunks_size": 0}, "chunks_size is 0"), ({"video_path": 3}, "video_path is 3"), ({"features": []}, "features is"),
    ({"features": {"a": 3}}, "the feature 'a' is 3"), ({"features": {"a": {"dtype": 3}}}, "the feature 'a'"),
    ({"features": {"a": {"dtype": "float32", "shape": [10**400, -1]}}}, "the feature 'a'"),
    ({"features": {str(k): {"dtype": "image"} for k in range(5000)}}, r"5000 entries"),
    ({"features": {str(k): {"dtype": "image"} for k in range(100)}}, "more than 64 image features"),
    ({"features": {"a" * 10**6: {"dtype": "image"}}}, "1000000 characters"),
    ({"codebase_version": "v1.6"}, "codebase_version is 'v1.6'; accepted: v2.0, v2.1, v3.0"),
    ({"codebase_version": ["v3.0"]}, "codebase_version is"),
    ({"storage_format": "lance"}, "storage_format is 'lance'")])
def test_odd_fields_of_info_json_are_named(tmp_path, fields, said):
    root = data_set(tmp_path / "set", "v2.1", False)
    change_info(root, **fields)
    with pytest.raises(UserError, match=said) as raised:
        LeRobotSource(root)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("content", ["", "null", "[]", "3", "[" * 100_000, '{"fps": ' + "9" * 5000 + "}", "\0",
                                     "\ud800"])
def test_info_that_is_no_object_is_named(tmp_path, content):
    root = data_set(tmp_path / "set", "v2.1", False)
    (root / "meta/info.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="info.json"):
        LeRobotSource(root)
    (root / "meta/info.json").unlink()
    os.mkfifo(root / "meta/info.json")
    assert is_lerobot(root)
    with pytest.raises(UserError, match="is a FIFO"):
        LeRobotSource(root)


def test_lance_and_version_1_are_refused_by_name(tmp_path):
    root = data_set(tmp_path / "set", "v3.0", False)
    (root / "data/frames.lance").mkdir()
    with pytest.raises(UserError, match="is stored as Lance .data/frames.lance."):
        LeRobotSource(root)
    old = tmp_path / "old/meta_data/info.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"codebase_version": "v1.6", "fps": 10}')
    assert is_lerobot(tmp_path / "old")
    with pytest.raises(UserError, match="of version 1"):
        LeRobotSource(tmp_path / "old")


def test_changed_info_and_templates_raise_nothing_but_errors_for_users(tmp_path):
    """Seeded mutations of info.json: another value anywhere in it, or other bytes."""
    root = data_set(tmp_path / "set", "v2.1", False)
    path, rng = root / "meta/info.json", random.Random(11)
    whole = json.loads(path.read_text())
    odd = [None, True, -1, 0, 10**400, 1e308, float("nan"), "", "x" * 10_000, "{video_key.x}", "../..", [], {}, [[1]]]
    for turn in range(300):
        info = json.loads(json.dumps(whole))
        place = info
        for _ in range(rng.randint(0, 3)):
            inner = [v for v in place.values() if isinstance(v, dict) and v]
            place = rng.choice(inner) if inner else place
        place[rng.choice(list(place))] = rng.choice(odd)
        text = json.dumps(info).encode()
        if turn % 3 == 0:
            at = rng.randrange(len(text))
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + rng.randint(0, 2):]
        path.write_bytes(text)
        try:
            info = read_info(root)
            LeRobotSource(root)
            SetFiles(root).inside(filled(info.video_path, {"video_key": KEY, "episode_index": 0, "episode_chunk": 0}))
        except (UserError, OSError) as error:
            assert len(str(error)) < 5000


def test_columns_of_other_types_than_declared_end_in_drops_or_a_line(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    table = pq.read_table(episode_file(root, 0))
    paths = pa.array([b"\xff.png"] * 4).view(pa.string())
    cells = pa.StructArray.from_arrays([pa.nulls(4, pa.binary()), paths], ["bytes", "path"])
    pq.write_table(table.set_column(table.schema.get_field_index(KEY), KEY, cells), episode_file(root, 0))
    assert outcome(LeRobotSource(root), pipeline) == ["file"] * 4 + [4, 5, 6]
    at = table.schema.get_field_index("frame_index")
    pq.write_table(table.set_column(at, "frame_index", pa.array(["a"] * 4)), episode_file(root, 0))
    assert outcome(LeRobotSource(root), pipeline) == ["column"] * 4 + [4, 5, 6]
    pq.write_table(table.append_column("action", table["action"]), episode_file(root, 0))
    with pytest.raises(UserError, match="two columns of one name"):
        LeRobotSource(root)
    pq.write_table(table.drop_columns(["action"]), episode_file(root, 1))
    pq.write_table(table, episode_file(root, 0))
    with pytest.raises(UserError, match="has no column action"):
        outcome(LeRobotSource(root), pipeline)
