"""Topics of a bag as columns: the right sample at each image, in every storage and file format."""

import json

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from test.datasets.embed_runs import settings_of
from test.datasets.test_embed_memory import ARM, CAMERA
from vit_perception.config.column_settings import column_settings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.recorded_columns import recorded_columns
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.stamps import nanoseconds

STORE = get_typestore(Stores.ROS2_KILTED)
STORE.register(
    get_types_from_msg("std_msgs/Header header\nstring mode\nfloat64[] goal\n", "own_msgs/msg/Goal")
)
T = STORE.types
MS = 1_000_000
START_NS = 50_000 * MS
FRAMES = 40
PERIOD_NS = 100 * MS  # of images
COLUMNS = (
    "action=/goal:goal",
    "smooth=/goal:goal[0:1]@linear",
    "fresh=/goal:goal[1]@hold:0.02",
    "gripper=/gripper",
    "pose=/ee_pose:pose.position@linear",
)


EMPTY = [("/empty", "std_msgs/msg/Bool")]


def header(stamp_ns, frame="world"):
    return T["std_msgs/msg/Header"](
        T["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), frame
    )


def goal(stamp_ns, numbers):
    return T["own_msgs/msg/Goal"](header(stamp_ns), "fast", np.array(numbers, np.float64))


def expected_goal(stamp_ns):
    return (stamp_ns - START_NS) / 1e9


def messages(period_ns=30 * MS):
    """Images, goals that are recorded 5 ms after their stamps, and a gripper without a header."""
    pixels = np.random.default_rng(0).integers(0, 256, 24 * 24 * 3, np.uint8)
    for frame in range(FRAMES):
        stamp_ns = START_NS + frame * PERIOD_NS
        image = T["sensor_msgs/msg/Image"](header(stamp_ns), 24, 24, "rgb8", 0, 72, pixels)
        yield CAMERA.topic, stamp_ns + 8 * MS, image
        point = T["geometry_msgs/msg/Point"](float(frame), 0.5, -1.0)
        turn = T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        pose = T["geometry_msgs/msg/PoseStamped"](
            header(stamp_ns + 50 * MS), T["geometry_msgs/msg/Pose"](point, turn)
        )
        yield ARM.topic, stamp_ns + 51 * MS, pose
    for k in range(FRAMES * PERIOD_NS // period_ns):
        stamp_ns = START_NS + 110 * MS + k * period_ns
        yield "/goal", stamp_ns + 5 * MS, goal(stamp_ns, [expected_goal(stamp_ns), k])
    for k, second in enumerate((1, 2)):
        yield "/gripper", START_NS + second * 10**9, T["std_msgs/msg/Bool"](k == 0)
    yield "/note", START_NS, T["std_msgs/msg/String"]("a note")


def write(folder, found, plugin=StoragePlugin.MCAP, empty=()):
    writer = Writer(folder, version=9, storage_plugin=plugin)
    topics = {}
    with writer:
        for topic, kind in empty:
            writer.add_connection(topic, kind, typestore=STORE)
        for topic, at_ns, message in sorted(found, key=lambda each: each[1]):
            kind = message.__msgtype__
            if (topic, kind) not in topics:
                topics[topic, kind] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic, kind], at_ns, STORE.serialize_cdr(message, kind))
    return folder


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    return {
        plugin.name: write(
            folder / plugin.name, messages(), plugin, [("/empty", "std_msgs/msg/Bool")]
        )
        for plugin in StoragePlugin
    }


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    made = Pipeline.open(settings_of(tiny_checkpoint, (CAMERA,), (ARM,)))
    yield made
    made.close()


def embedded(pipeline, bags, out, kind="parquet", texts=COLUMNS, frames=16):
    columns = recorded_columns(bags, column_settings(texts))
    sources = [BagSource(bag, CAMERA.topic, columns) for bag in bags]
    return embed(pipeline, sources, out, EmbedOptions(kind, shard_frames=frames, columns=columns))


@pytest.mark.parametrize(
    "storage, kind", [("MCAP", "parquet"), ("SQLITE3", "safetensors"), ("SQLITE3", "parquet")]
)
def test_each_row_has_the_sample_of_its_stamp(pipeline, bags, tmp_path, storage, kind):
    manifest = embedded(pipeline, [bags[storage]], tmp_path / "out", kind)
    files = FeatureFiles(tmp_path / "out")
    rows = [
        files.row(k, tuple(n for n in files.columns if n.split(".")[0] in NAMES))
        for k in range(FRAMES)
    ]
    assert manifest["frames"] == FRAMES and not manifest["dropped"]
    stamps_ns = files.stamp_ns
    first_ns = START_NS + 110 * MS
    for row, stamp_ns in zip(rows, stamps_ns):
        latest_ns = first_ns + (stamp_ns - first_ns) // (30 * MS) * (30 * MS)
        age_ns = stamp_ns - latest_ns
        has_goal = stamp_ns >= first_ns
        assert row["action.mask"] == has_goal and row["smooth.mask"] == has_goal
        assert row["fresh.mask"] == (has_goal and age_ns <= 20 * MS)
        assert row["action"].dtype == np.float64
        if has_goal:
            assert row["action"].tolist() == [
                expected_goal(latest_ns),
                (latest_ns - first_ns) // (30 * MS),
            ]
            assert (row["action.stamp_ns"], row["action.age_ns"]) == (latest_ns, age_ns)
            # The goal is a line over time, so the line between two goals is exact.
            np.testing.assert_allclose(row["smooth"], [expected_goal(stamp_ns)], atol=1e-9)
        else:
            assert row["action"].tolist() == [0, 0]
            assert (row["action.stamp_ns"], row["action.age_ns"]) == (0, -1)
        assert row["gripper.mask"] == (stamp_ns >= START_NS + 10**9)
        assert row["gripper"].tolist() == [
            float(START_NS + 10**9 <= stamp_ns < START_NS + 2 * 10**9)
        ]
    # Half way between two poses, of which the first row and the last have only one.
    np.testing.assert_allclose(
        [row["pose"][0] for row in rows[1:-1]], np.arange(FRAMES - 2) + 0.5, atol=1e-9
    )
    assert [bool(row["pose.mask"]) for row in rows] == [False, *[True] * (FRAMES - 1)]
    described = {entry["name"]: entry for entry in manifest["run"]["columns"]}
    assert described["action"]["type"] == "own_msgs/msg/Goal"
    assert described["action"]["numbers"] == ["goal[0]", "goal[1]"]
    assert [described[n]["stamps"] for n in ("action", "gripper")] == ["header", "recording"]
    skipped = {(row["topic"], row["reason"]): row for row in manifest["skipped"]}
    # Two images before the first goal in two columns; and those at which `fresh` is too old.
    stale = sum(not row["fresh.mask"] for row in rows)
    assert skipped["/goal", "no_value"]["count"] == 2 + 2 + stale
    assert "the first is 0.110 s after it" in skipped["/goal", "no_value"]["first"]
    assert skipped["/gripper", "no_value"]["count"] == 10


NAMES = tuple(text.split("=")[0] for text in COLUMNS)


def test_the_storages_and_a_resumed_run_give_the_same_bytes(pipeline, bags, tmp_path):
    digests = []
    for storage in bags:
        manifest = embedded(pipeline, [bags[storage]], tmp_path / storage)
        digests.append([shard["sha256"] for shard in manifest["shards"]])
    columns = recorded_columns([bags["MCAP"]], column_settings(COLUMNS))
    options = EmbedOptions("parquet", shard_frames=16, columns=columns)

    def stop(results, done=[0]):  # noqa: B006
        done[0] += results
        if done[0] == 21:
            raise KeyboardInterrupt

    source = BagSource(bags["MCAP"], CAMERA.topic, columns)
    with pytest.raises(KeyboardInterrupt):
        embed(pipeline, [source], tmp_path / "again", options, stop)
    resumed = embed(pipeline, [source], tmp_path / "again", options)
    digests.append([shard["sha256"] for shard in resumed["shards"]])
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 3
    fewer = recorded_columns([bags["MCAP"]], column_settings(COLUMNS[:1]))
    with pytest.raises(InvalidValue, match="columns"):
        embed(
            pipeline,
            [BagSource(bags["MCAP"], CAMERA.topic, fewer)],
            tmp_path / "again",
            EmbedOptions("parquet", shard_frames=16, columns=fewer),
        )


def test_a_bag_has_them_as_messages_that_any_tool_reads(pipeline, bags, tmp_path):
    embedded(pipeline, [bags["MCAP"]], tmp_path / "rows")
    embedded(pipeline, [bags["MCAP"]], tmp_path / "bag", "mcap")
    files = FeatureFiles(tmp_path / "rows")
    rows = [
        files.row(k, ("stamp_ns", "action", "action.mask", "action.stamp_ns"))
        for k in range(FRAMES)
    ]
    rows = [row for row in rows if row["action.mask"]]
    with BagReader(tmp_path / "bag") as bag:
        images = [m for _, _, m in bag.messages(["/vit_encoder/columns/action"])]
        stamps = [m for _, _, m in bag.messages(["/vit_encoder/columns/action/stamp"])]
    assert len(images) == len(stamps) == len(rows) == FRAMES - 2
    for row, image, stamp in zip(rows, images, stamps):
        assert nanoseconds(image.header.stamp) == row["stamp_ns"]
        assert (image.height, image.width, image.encoding, image.step) == (1, 2, "64FC1", 16)
        assert np.frombuffer(image.data, "<f8").tolist() == row["action"].tolist()
        assert nanoseconds(stamp) == row["action.stamp_ns"]


def test_two_recordings_and_their_chunks(pipeline, bags, tmp_path):
    """An action chunk ends with its episode, and is masked where the column has no value."""
    embedded(pipeline, [bags["MCAP"], bags["SQLITE3"]], tmp_path / "out")
    data = FeatureDataset(
        tmp_path / "out", history=2, columns=("action",), chunks={"action": 8, "index": 3}
    )
    assert len(data) == 2 * (FRAMES - 1)
    alone = FeatureDataset(tmp_path / "out", columns=("action", "action.mask"))
    for k in (0, 5, 36, 38, 39, 70, 77):
        item, row = data[k], k + 1 + (k >= FRAMES - 1)
        left = FRAMES - row % FRAMES
        chunk, mask = item["chunks"]["action"], item["chunk_masks"]["action"]
        assert chunk.shape == (8, 2) and mask.shape == (8,) and chunk.dtype.is_floating_point
        for step in range(8):
            assert bool(mask[step]) == (step < left and bool(alone[row + step]["action.mask"][0]))
            expected = alone[row + step]["action"][0].tolist() if mask[step] else [0, 0]
            assert chunk[step].tolist() == expected
        assert item["action"][-1].tolist() == (chunk[0].tolist() if mask[0] else [0, 0])
        assert item["chunks"]["index"].shape == (3,)
    strided = FeatureDataset(tmp_path / "out", chunks={"action": 4}, chunk_stride=5)
    assert strided[10]["chunks"]["action"][:, 1].tolist() == [
        alone[row]["action"][0, 1].item() for row in (10, 15, 20, 25)
    ]
    for wrong in ({"chunks": {"nothing": 2}}, {"chunks": {"action": 0}}, {"chunk_stride": 0}):
        with pytest.raises(InvalidValue, match="chunk"):
            FeatureDataset(tmp_path / "out", **wrong)


@pytest.mark.parametrize(
    "text, said",
    [
        ("a=/gaol:goal", "has no topic /gaol that is read; accepted: /ee_pose"),
        ("a=/gaol:goal", "did you mean '/goal'"),
        ("a=/goal", "more than numbers (mode); accepted: goal, header.stamp"),
        ("a=/goal:gaol", "no field gaol (did you mean 'goal'?); accepted: goal"),
        ("a=/note", "more than numbers (data); accepted: another topic"),
        ("a=/empty", "it has no message; accepted: a topic with messages"),
        ("a=/goal:goal[7:]", "hold no numbers there; accepted: a field that is not empty"),
        ("a=/goal:goal[7]", "goal has 2 elements, so there is no [7]"),
        ("a=/gripper@linear", "nothing between false and true; accepted: @hold"),
        ("a=/image:data", "1728 numbers"),
    ],
)
def test_what_a_bag_does_not_have_is_one_line_before_anything_is_encoded(bags, text, said):
    if text == "a=/image:data":
        columns = recorded_columns([bags["MCAP"]], column_settings([text]))
        assert len(columns[0].numbers) == 1728
        return
    for bag in bags.values():
        with pytest.raises(InvalidValue) as caught:
            recorded_columns([bag], column_settings([text]))
        assert said in str(caught.value), str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2


def test_types_and_widths_must_agree(tmp_path, bags):
    both = [
        ("/goal", START_NS, goal(START_NS, [1])),
        ("/goal", START_NS, T["std_msgs/msg/Bool"](True)),
    ]
    with pytest.raises(InvalidValue, match="is recorded as .*; accepted: a topic of one type"):
        recorded_columns([write(tmp_path / "both", both)], column_settings(["a=/goal:goal"]))
    for name, message, field, said in (
        ("wide", goal(START_NS, [1, 2, 3]), ":goal", "3 numbers of own_msgs/msg/Goal on /goal"),
        (
            "other",
            T["std_msgs/msg/Float64MultiArray"](
                T["std_msgs/msg/MultiArrayLayout"]([], 0), np.ones(2)
            ),
            ":data",
            "",
        ),
    ):
        bag = write(tmp_path / name, [("/goal", START_NS, message)])
        with pytest.raises(InvalidValue) as caught:
            recorded_columns([bags["MCAP"], bag], column_settings([f"a=/goal{field}"]))
        assert said in str(caught.value) and "accepted: " in str(caught.value)


def test_messages_that_cannot_be_used_are_counted_and_the_earlier_one_holds(pipeline, tmp_path):
    found = [each for each in messages() if each[0] in (CAMERA.topic, ARM.topic)]
    found.append(("/goal", START_NS, goal(START_NS, [1, 2])))
    for k, (numbers, stamp_ns) in enumerate(
        [([1, 2, 3], START_NS + MS), ([np.nan, 1], START_NS + MS), ([5, 5], 0)]
    ):
        found.append(("/goal", START_NS + (k + 1) * MS, goal(stamp_ns, numbers)))
    write(tmp_path / "bag", found)
    manifest = embedded(pipeline, [tmp_path / "bag"], tmp_path / "out", texts=["action=/goal:goal"])
    counts = {row["reason"]: row["count"] for row in manifest["skipped"] if row["topic"] == "/goal"}
    assert counts == {"size": 1, "not_finite": 1, "stamp": 1}
    data = FeatureDataset(tmp_path / "out", columns=("action",))
    assert all(data[k]["action"].tolist() == [[1, 2]] for k in range(FRAMES))


def test_without_columns_nothing_of_a_run_changes(pipeline, bags, tmp_path):
    manifest = embedded(pipeline, [bags["MCAP"]], tmp_path / "out", texts=())
    assert "columns" not in json.dumps(manifest["run"]).replace("columns_version", "")
