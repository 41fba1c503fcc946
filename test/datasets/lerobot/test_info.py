"""`info.json` of LeRobot data sets: odd fields, contents and versions."""

import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test.datasets.lerobot.hostile_sets import change_info, episode_file, outcome, pipeline  # noqa: F401
from test.datasets.lerobot.test_dataset import KEY, data_set
from vit_perception.datasets.lerobot.dataset import LeRobotSource, is_lerobot
from vit_perception.datasets.lerobot.files import SetFiles, filled
from vit_perception.datasets.lerobot.info import read_info
from vit_perception.files.errors import UserError


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"fps": 10**400}, "fps is"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": -10}, "fps is -10"),
        ({"fps": "10"}, "fps is '10'"),
        ({"fps": True}, "fps is True"),
        ({"fps": None}, "fps is None"),
        ({"fps": float("inf")}, "fps is inf"),
        ({"total_frames": 1e3}, "total_frames is"),
        ({"total_frames": -1}, "total_frames is -1"),
        ({"total_frames": 10**400}, "total_frames is"),
        ({"chunks_size": 0}, "chunks_size is 0"),
        ({"video_path": 3}, "video_path is 3"),
        ({"features": []}, "features is"),
        ({"features": {"a": 3}}, "the feature 'a' is 3"),
        ({"features": {"a": {"dtype": 3}}}, "the feature 'a'"),
        ({"features": {"a": {"dtype": "float32", "shape": [10**400, -1]}}}, "the feature 'a'"),
        ({"features": {str(k): {"dtype": "image"} for k in range(5000)}}, r"5000 entries"),
        (
            {"features": {str(k): {"dtype": "image"} for k in range(100)}},
            "more than 64 image features",
        ),
        ({"features": {"a" * 10**6: {"dtype": "image"}}}, "1000000 characters"),
        ({"codebase_version": "v1.6"}, "codebase_version is 'v1.6'; accepted: v2.0, v2.1, v3.0"),
        ({"codebase_version": ["v3.0"]}, "codebase_version is"),
        ({"storage_format": "lance"}, "storage_format is 'lance'"),
    ],
)
def test_odd_fields_of_info_json_are_named(tmp_path, fields, said):
    root = data_set(tmp_path / "set", "v2.1", False)
    change_info(root, **fields)
    with pytest.raises(UserError, match=said) as raised:
        LeRobotSource(root)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "3", "[" * 100_000, '{"fps": ' + "9" * 5000 + "}", "\0", "\ud800"]
)
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
    odd = [
        None,
        True,
        -1,
        0,
        10**400,
        1e308,
        float("nan"),
        "",
        "x" * 10_000,
        "{video_key.x}",
        "../..",
        [],
        {},
        [[1]],
    ]
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
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + rng.randint(0, 2) :]
        path.write_bytes(text)
        try:
            info = read_info(root)
            LeRobotSource(root)
            SetFiles(root).inside(
                filled(info.video_path, {"video_key": KEY, "episode_index": 0, "episode_chunk": 0})
            )
        except (UserError, OSError) as error:
            assert len(str(error)) < 5000


def test_columns_of_other_types_than_declared_end_in_drops_or_a_line(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    table = pq.read_table(episode_file(root, 0))
    paths = pa.array([b"\xff.png"] * 4).view(pa.string())
    cells = pa.StructArray.from_arrays([pa.nulls(4, pa.binary()), paths], ["bytes", "path"])
    pq.write_table(
        table.set_column(table.schema.get_field_index(KEY), KEY, cells), episode_file(root, 0)
    )
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
