"""`embed --format lerobot`: the files against the layout of version 3.0, and every number in them.

`python -m tools.lerobot_check` opens such a set with LeRobot itself and trains its ACT on it.
"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from test.datasets.embed_runs import contents
from test.datasets.lerobot.writer.recordings import (
    ARM,
    FRAMES,
    SIDE_PX,
    bag,  # noqa: F401
    command_at,
    pipeline,  # noqa: F401
    stamp_of,
    write_set,
)
from vit_perception.config.settings import CameraSettings, EncoderSettings, ModelSettings
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.encode_recording import replay
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.lerobot.state import state_of
from vit_perception.datasets.lerobot.writer.write import WORK
from vit_perception.datasets.repeats.augmented import Repeats
from vit_perception.files.errors import InvalidValue
from vit_perception.image.augment import Strengths
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader

GOAL = "/goal:goal"
STATE = "observation.state"


def rows_of(root):
    paths = sorted(root.glob("data/chunk-*/file-*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def whole(pipeline, bag, tmp_path_factory):
    root = tmp_path_factory.mktemp("lerobot") / "set"
    told = write_set(
        pipeline, [bag], root, actions=(GOAL, "/gripper"), tasks=("lift",), tokens=True
    )
    return root, told


def test_files_are_those_of_version_3_and_nothing_else_is_left(whole):
    root, told = whole
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert files == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/vit_perception.json",
    ]
    info = json.loads((root / "meta/info.json").read_text())
    # The fields that LeRobot's own data sets have, in its own order.
    assert list(info) == [
        "codebase_version",
        "robot_type",
        "total_episodes",
        "total_frames",
        "total_tasks",
        "chunks_size",
        "data_files_size_in_mb",
        "video_files_size_in_mb",
        "fps",
        "splits",
        "data_path",
        "video_path",
        "features",
    ]
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and info["video_path"] is None
    assert info["total_episodes"] == 2 == told["total_episodes"] and info["total_tasks"] == 1
    assert info["splits"] == {"train": "0:2"}
    assert info["total_frames"] == len(rows_of(root)) == told["total_frames"]
    features = info["features"]
    assert set(pq.read_schema(root / files[0]).names) == set(features)
    assert features["action"] == {
        "dtype": "float32",
        "shape": [3],
        "names": ["goal[0]", "goal[1]", "data"],
    }
    assert features[STATE]["names"] == [
        *("arm.x", "arm.y", "arm.z"),
        *(f"arm.rotation_{k}" for k in range(6)),
    ]
    assert features["observation.mask"]["dtype"] == "bool"
    assert not any("/" in name for name in features)


def test_each_frame_has_its_features_state_and_the_command_up_to_the_next_frame(
    pipeline, bag, whole
):
    root, told = whole
    with BagReader(bag) as reader:
        results = (_copied(r, pipeline.layout()) for r in replay(pipeline, reader))
        expected = {r.stamp_ns: r for r in results}
    # No command comes before the second frame; each last one of a run has no next frame.
    runs = [FRAMES[1 : FRAMES.index(10) + 1], FRAMES[FRAMES.index(14) :]]
    frames = [frame for run in runs for frame in run[:-1]]
    rows = rows_of(root)
    assert [row["stamp_ns"] for row in rows] == [stamp_of(frame) for frame in frames]
    for number, (row, frame) in enumerate(zip(rows, frames, strict=True)):
        result = expected[stamp_of(frame)]
        np.testing.assert_array_equal(row["observation.environment_state"], result.embedding)
        np.testing.assert_array_equal(row["observation.tokens"], result.tokens)
        assert row["observation.mask"] == result.mask.tolist()
        # A policy on live topics has the same state.
        np.testing.assert_array_equal(row[STATE], result.state)
        command = command_at(stamp_of(frame + 1))
        assert row["action"] == [command, -command, np.float32(command / 10)]
        # Half a turn about z: x and y of the frame point the other way.
        x = np.float32(frame * 0.02)
        assert row[STATE] == pytest.approx([x, 0.5, -1.0, -1, 0, 0, 0, -1, 0], abs=1e-6)
        episode = int(frame > 10)
        place = frame - (14 if episode else 1)
        assert row["episode_index"] == episode and row["frame_index"] == place
        assert row["timestamp"] == np.float32(place / 10)
        assert row["index"] == number and row["task_index"] == 0
    assert told["left_out"] == {"the last of its episode has no next one": 2, "no action": 1}
    assert told["notes"][-1].endswith("more than 1.5 periods and at each step back in time: 1")
    assert "action: /goal, the last command up to the next frame; 0 % of frames" in told["notes"][0]


class _copied:
    """What a result holds, beyond the next one."""

    def __init__(self, result, layout):
        self.stamp_ns = result.stamp_ns
        self.embedding = result.embedding.copy()
        self.tokens = result.sequence.tokens.copy()
        self.mask = result.sequence.mask.copy()
        numbers = np.array(result.samples[ARM.name].value.numbers)
        self.state = state_of(layout.samples, {"poses": {ARM.name: numbers}})


def test_episodes_tasks_and_statistics_are_those_of_the_rows(whole):
    root, _ = whole
    rows = rows_of(root)
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    lengths = [sum(row["episode_index"] == k for row in rows) for k in range(2)]
    assert [episode["length"] for episode in episodes] == lengths
    assert [episode["episode_index"] for episode in episodes] == [0, 1]
    assert [episode["tasks"] for episode in episodes] == [["lift"], ["lift"]]
    assert [episode["dataset_from_index"] for episode in episodes] == [0, lengths[0]]
    assert [episode["dataset_to_index"] for episode in episodes] == [lengths[0], sum(lengths)]
    assert {e["data/chunk_index"] for e in episodes} == {e["data/file_index"] for e in episodes}
    tasks = pq.read_table(root / "meta/tasks.parquet")
    pandas = json.loads(tasks.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"]
    assert tasks.to_pylist() == [{"task_index": 0, "__index_level_0__": "lift"}]
    stats = json.loads((root / "meta/stats.json").read_text())
    assert "observation.tokens" not in stats and "observation.mask" not in stats
    for key in ("observation.environment_state", STATE, "action", "timestamp", "index"):
        values = np.array([row[key] for row in rows], np.float64).reshape(len(rows), -1)
        parts = [values[: lengths[0]], values[lengths[0] :]]
        found = stats[key]
        np.testing.assert_allclose(found["mean"], values.mean(0), atol=1e-9)
        np.testing.assert_allclose(found["std"], values.std(0), atol=1e-9)
        np.testing.assert_array_equal(found["min"], values.min(0))
        np.testing.assert_array_equal(found["max"], values.max(0))
        assert found["count"] == [len(rows)]
        for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
            of_parts = [_quantile(part, share) * len(part) for part in parts]
            np.testing.assert_allclose(found[name], sum(of_parts) / len(rows), atol=1e-9)
        np.testing.assert_allclose(episodes[1][f"stats/{key}/mean"], parts[1].mean(0), atol=1e-9)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"actions": (GOAL,), "action_at": "now"}, lambda f: command_at(stamp_of(f))),
        ({"actions": ("state",)}, lambda f: np.float32((f + 1) * 0.02)),
        ({"actions": ("none",)}, None),
    ],
)
def test_other_actions_and_none(pipeline, bag, tmp_path, options, expected):
    told = write_set(pipeline, [bag], tmp_path / "set", **options)
    rows = rows_of(tmp_path / "set")
    frames = [round((row["stamp_ns"] - stamp_of(0)) / 1e8) for row in rows]
    if expected is None:
        assert "action" not in rows[0] and frames == FRAMES and told["left_out"] == {}
        return
    assert [row["action"][0] for row in rows] == [expected(frame) for frame in frames]
    if options["actions"] == (GOAL,):  # frames 0 and 1 are before the first command
        assert frames == FRAMES[2:] and told["left_out"] == {"no action": 2}


def test_pictures_go_along_and_are_those_that_were_encoded(pipeline, bag, tmp_path):
    root = tmp_path / "set"
    write_set(pipeline, [bag], root, actions=("state",), pictures="images")
    source = LeRobotSource(root)
    (camera,) = source.cameras
    assert camera.key == f"observation.images.{pipeline.settings.cameras[0].name}"
    info = json.loads((root / "meta/info.json").read_text())
    feature = info["features"][camera.key]
    assert feature["dtype"] == "image" and feature["shape"] == [SIDE_PX, SIDE_PX, 3]
    stats = json.loads((root / "meta/stats.json").read_text())[camera.key]
    assert np.shape(stats["mean"]) == (3, 1, 1) and 0 < stats["mean"][0][0][0] < 1
    settings = pipeline.settings
    again = Pipeline.open(
        EncoderSettings(
            (CameraSettings(camera.name, camera.key, "compressed"),),
            model=ModelSettings(settings.model.checkpoint),
            engine=settings.engine,
        )
    )
    results = [r for r in source.results(again, 0) if r.result is not None]
    rows = rows_of(root)
    assert len(results) == len(rows)
    width = again.width
    for produced, row in zip(results, rows):
        frame = round((row["stamp_ns"] - stamp_of(0)) / 1e8)
        flat = [(frame * 10 + k) % 256 for k in range(SIDE_PX * SIDE_PX * 3)]
        pixels = produced.result.cameras[camera.name].image.pixels
        np.testing.assert_array_equal(pixels.reshape(-1), flat)
        # The features of the set's own pictures are those of the set.
        np.testing.assert_array_equal(
            produced.result.embedding[:width], row["observation.environment_state"][:width]
        )
        np.testing.assert_array_equal(produced.extras["action"], np.float32(row["action"]))
    again.close()


def test_videos_are_read_back_at_the_time_of_each_frame(pipeline, bag, tmp_path):
    pytest.importorskip("av")
    root = tmp_path / "set"
    write_set(pipeline, [bag], root, actions=("state",), pictures="videos")
    info = json.loads((root / "meta/info.json").read_text())
    source = LeRobotSource(root)
    (camera,) = source.cameras
    said = info["features"][camera.key]
    assert said["dtype"] == "video" and said["info"]["video.fps"] == 10
    assert camera.is_video and camera.key not in rows_of(root)[0]
    settings = pipeline.settings
    again = Pipeline.open(
        EncoderSettings(
            (CameraSettings(camera.name, camera.key),),
            model=ModelSettings(settings.model.checkpoint),
            engine=settings.engine,
        )
    )
    results = [r.result for r in source.results(again, 0) if r.result is not None]
    again.close()
    assert len(results) == info["total_frames"]
    rows = rows_of(root)
    for result, row in zip(results, rows, strict=True):
        frame = round((row["stamp_ns"] - stamp_of(0)) / 1e8)
        flat = np.array([(frame * 10 + k) % 256 for k in range(SIDE_PX * SIDE_PX * 3)], float)
        pixels = result.cameras[camera.name].image.pixels.astype(float).reshape(-1)
        errors = [np.abs(pixels - (flat + 10 * shift) % 256).mean() for shift in (-2, -1, 0, 1, 2)]
        assert int(np.argmin(errors)) == 2, errors  # of its own frame, and of no neighbour


def test_two_recordings_with_a_task_each_and_repeats_are_episodes_of_their_own(
    pipeline, bag, tmp_path
):
    def twice(sources):
        return Repeats(1, 0, Strengths()).of(sources, pipeline.settings)

    options = {"actions": ("state",), "tasks": ("lift", "push")}
    told = write_set(pipeline, [bag, bag], tmp_path / "set", change=twice, **options)
    rows = rows_of(tmp_path / "set")
    assert told["total_episodes"] == 8 and told["total_tasks"] == 2
    tasks = [next(r["task_index"] for r in rows if r["episode_index"] == k) for k in range(8)]
    repeats = [next(r["augment"] for r in rows if r["episode_index"] == k) for k in range(8)]
    assert tasks == [0, 0, 1, 1] * 2 and repeats == [0] * 4 + [1] * 4
    with pytest.raises(InvalidValue, match="task is given 3 times; accepted: once, or 2 times"):
        write_set(
            pipeline, [bag, bag], tmp_path / "other", actions=("none",), tasks=("a", "b", "c")
        )


def test_an_interrupted_run_ends_with_the_same_files_and_a_finished_one_stays(
    pipeline, bag, whole, tmp_path, monkeypatch
):
    root, _ = whole
    out = tmp_path / "set"
    options = {"actions": (GOAL, "/gripper"), "tasks": ("lift",), "tokens": True}
    taken = []

    def stops(sources):
        class Stops(BagSource):
            def results(self, pipeline, first, change=None):
                for produced in inner.results(pipeline, first, change):
                    taken.append(produced.index)
                    if produced.index == 10 and len(taken) < 15:
                        raise KeyboardInterrupt
                    yield produced

        (inner,) = sources
        made = Stops.__new__(Stops)
        made.__dict__.update(inner.__dict__)
        return [made]

    with pytest.raises(KeyboardInterrupt):
        write_set(pipeline, [bag], out, change=stops, **options)
    assert (out / WORK).is_dir() and not (out / "meta").exists()
    # It may also end while the set itself is written.
    from vit_perception.datasets.lerobot.writer import write as module

    with monkeypatch.context() as patched:
        patched.setattr(module, "put_in_place", lambda made, path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_set(pipeline, [bag], out, change=stops, **options)
    told = write_set(pipeline, [bag], out, change=stops, **options)
    assert taken[11] == 7  # the first shard was not made again
    for name in ("data/chunk-000", "meta", "meta/episodes/chunk-000"):
        files = {n: c for n, c in _plain(out / name).items() if n != "vit_perception.json"}
        assert files == {n: c for n, c in _plain(root / name).items() if n in files}
    assert write_set(pipeline, [bag], out, **options) == told
    with pytest.raises(InvalidValue, match="is a data set of other settings: .*tasks"):
        write_set(pipeline, [bag], out, **{**options, "tasks": ("push",)})


def _quantile(values, share):
    """The smallest value that this share of the values does not exceed."""
    return np.sort(values, axis=0)[int(np.ceil(share * len(values))) - 1]


def _plain(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_other_folders_are_left_alone(pipeline, bag, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="holds other files .notes.txt.; accepted: a new or an"):
        write_set(pipeline, [bag], tmp_path / "mine", actions=("none",))
    assert contents(tmp_path / "mine") == {"notes.txt": b"mine"}
