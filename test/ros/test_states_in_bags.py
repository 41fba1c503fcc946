"""Joint states in a bag: `replay` and `embed` give the tokens and states that the node publishes,
byte for byte.
"""

import array
import re

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from test.ros.conftest import MILLISECOND_NS, image_message
from test.ros.test_embed_equals_live import listen
from test.ros.test_states import joints_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    StateSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.encode_recording import replay
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader, Undecodable
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.playback.bag_player import message_class
from vit_perception.wire.records import FrameResult
from vit_perception.wire.tensors import decode_tensor, mask_of

STEP_NS, FRAMES = 50 * MILLISECOND_NS, 16
BEGIN_NS = 5_000_000_000
JOINTS = ("shoulder", "elbow", "gripper")
# The shoulder turns without end, a quarter of a turn and more between two samples.
BODY = StateSettings(
    "body", "/joint_states", JOINTS, ("position", "velocity"), wait_s=0.4, continuous=("shoulder",)
)
RADIANS_A_MS = 0.23
NAMES = {
    "tokens": "sensor_msgs/Image",
    "token_mask": "sensor_msgs/Image",
    "embedding": "sensor_msgs/Image",
    "body/state_at_image": "sensor_msgs/JointState",
}
# The gripper's driver says nothing from here to there; frames 6 to 10 are further than max_skew_s
# from it.
SILENT_FROM_NS, SILENT_TO_NS = BEGIN_NS + 230 * MILLISECOND_NS, BEGIN_NS + 570 * MILLISECOND_NS
STATUS = [2] * 5 + [1] + [0] * 5 + [1] + [2] * 4  # interpolated, held, missing


def shoulder_at(ms):
    """Its angle, in (−π, π]."""
    return -((np.pi - RADIANS_A_MS * ms) % (2 * np.pi) - np.pi)


def messages():
    """(stamp ns, topic, message): two drivers on one topic, with their own joints, orders and
    rates.
    """

    def values(ms):
        return (np.sin(ms / 300), np.cos(ms / 300) / 0.3)

    for ms in range(-40, 50 * FRAMES + 40, 7):
        joints = {
            "elbow": values(ms),
            "wheel": (ms, 0),
            "shoulder": (shoulder_at(ms), 1e3 * RADIANS_A_MS),
        }
        yield (
            BEGIN_NS + ms * MILLISECOND_NS,
            "/joint_states",
            joints_message(BEGIN_NS + ms * MILLISECOND_NS, **joints),
        )
    for ms in range(-40, 50 * FRAMES + 40, 15):
        stamp_ns = BEGIN_NS + ms * MILLISECOND_NS
        if not SILENT_FROM_NS < stamp_ns < SILENT_TO_NS:
            yield stamp_ns, "/joint_states", joints_message(stamp_ns, gripper=values(3 * ms))
    for k in range(FRAMES):
        yield BEGIN_NS + k * STEP_NS, "/wrist/image", image_message(BEGIN_NS + k * STEP_NS, seed=k)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """The messages as another library writes them, recorded in the order of their stamps."""
    path, types = tmp_path_factory.mktemp("states") / "bag", get_typestore(Stores.ROS2_KILTED)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=types)
            for topic, kind in (("/wrist/image", "Image"), ("/joint_states", "JointState"))
        }
        for stamp_ns, topic, message in sorted(messages(), key=lambda m: m[:2]):
            kind = f"sensor_msgs/msg/{type(message).__name__}"
            data = types.serialize_cdr(of_rosbags(message, types), kind)
            writer.write(connections[topic], stamp_ns + MILLISECOND_NS, data)
    return path


def of_rosbags(message, types):
    """The same message in another library's classes, field by field."""
    if not hasattr(message, "get_fields_and_field_types"):
        return np.array(message) if isinstance(message, array.array) else message
    kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
    return types.types[kind](
        **{
            name: of_rosbags(getattr(message, name), types)
            for name in message.get_fields_and_field_types()
        }
    )


@pytest.fixture
def live(rig, bag):
    """(topic, CDR bytes) of what the node publishes for the bag, one image at a time."""
    from rclpy.serialization import deserialize_message

    robot = rig(
        state_names=["body"],
        states__body__topic=BODY.topic,
        states__body__joints=list(JOINTS),
        states__body__fields=list(BODY.fields),
        states__body__wait_s=BODY.wait_s,
        states__body__continuous=list(BODY.continuous),
    )
    heard: list[tuple[str, bytes]] = []
    robot.activate()
    listen(robot, NAMES, heard)
    with BagReader(bag) as reader:
        recorded = [
            (
                m.stamp_ns - MILLISECOND_NS,
                m.topic,
                deserialize_message(m.data, message_class(m.type_name)),
            )
            for m in reader.raw(["/wrist/image", "/joint_states"])
        ]
    joints = [m for m in recorded if m[1] == "/joint_states"]
    for stamp_ns, topic, image in (m for m in recorded if m[1] == "/wrist/image"):
        while joints and joints[0][0] <= stamp_ns + 30 * MILLISECOND_NS:
            robot.feel(*joints.pop(0)[1:], source="body")
        robot.publish(topic, image)
        robot.frame(stamp_ns)
    robot.until(
        lambda: sum(topic.endswith("/tokens") for topic, _ in heard) == FRAMES, what="all tokens"
    )
    robot.until(lambda: len(heard) == 3 * FRAMES + sum(s > 0 for s in STATUS), what="all topics")
    return heard


def test_states_of_a_bag_equal_what_the_node_published(live, bag, tiny_checkpoint, tmp_path):
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("wrist", "/wrist/image"),),
            states=(BODY,),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    with BagReader(bag) as reader:
        frames = [
            (f.states["body"], f.sequence.tokens.copy())
            for f in replay(pipeline, reader)
            if isinstance(f, FrameResult)
        ]
    options = {kind: EmbedOptions(kind, shard_frames=5) for kind in ("mcap", "parquet")}
    for kind, option in options.items():
        assert (
            embed(pipeline, [BagSource(bag, "/wrist/image")], tmp_path / kind, option)["frames"]
            == FRAMES
        )
    pipeline.close()

    with BagReader(tmp_path / "mcap") as reader:
        names = [f"/vit_encoder/{name}" for name in NAMES]
        assert sorted((m.topic, m.data) for m in reader.raw(names)) == sorted(live)
        sent = {topic: [m for t, _, m in reader.messages([topic]) if t == topic] for topic in names}
    tokens = [decode_tensor(m) for m in sent["/vit_encoder/tokens"]]
    states = {
        m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: np.concatenate(
            [m.position, m.velocity]
        )
        for m in sent["/vit_encoder/body/state_at_image"]
    }

    assert [int(mask_of(t)[-1]) for t in tokens] == [int(s > 0) for s in STATUS]
    files = FeatureFiles(tmp_path / "parquet")
    for k, (found, replayed) in enumerate(frames):
        row = files.row(k, ("tokens", "mask", "body.state", "body.state_status"))
        np.testing.assert_array_equal(tokens[k], replayed)
        np.testing.assert_array_equal(tokens[k], row["tokens"])
        np.testing.assert_array_equal(mask_of(tokens[k]), row["mask"])
        assert row["body.state_status"] == STATUS[k]
        if STATUS[k]:
            expected = states[BEGIN_NS + k * STEP_NS]
            np.testing.assert_array_equal(found.value.numbers, expected)
            np.testing.assert_allclose(expected[0], shoulder_at(50 * k), atol=1e-9)
            np.testing.assert_array_equal(row["body.state"], expected)
        else:
            assert found.value is None and np.isnan(row["body.state"]).all()
    assert len(frames) == FRAMES
    samples_ms = np.arange(-40, 50 * FRAMES + 40, 7)
    around = [
        shoulder_at(samples_ms[np.searchsorted(samples_ms, 50 * k) + np.array([-1, 0])])
        for k in range(FRAMES)
    ]
    assert sum(abs(after - before) > np.pi for before, after in around) >= 2  # frames amid a wrap


@pytest.mark.parametrize(
    "names, position, velocity, effort",
    [
        (["elbow"], [1.0], [2.0], []),
        (["elbow", "wheel"], [1.0, 2.0], [], [3.0, 4.0]),
        (["elbow"], [], [], []),
    ],
)
def test_bytes_behind_a_message_that_rclpy_serialised_do_not_matter(
    tmp_path, names, position, velocity, effort
):
    """`rclpy.serialization` sizes its buffer by an upper bound: up to 4 bytes too many for each
    empty sequence.
    """
    from rclpy.serialization import serialize_message

    message = joints_message(BEGIN_NS, **dict.fromkeys(names, (0, 0)))
    message.position, message.velocity, message.effort = position, velocity, effort
    with BagWriter(tmp_path / "bag") as writer:
        writer.write(
            "/joint_states", "sensor_msgs/msg/JointState", serialize_message(message), BEGIN_NS
        )
    with BagReader(tmp_path / "bag") as reader:
        ((_, _, read),) = reader.messages(["/joint_states"])
    assert (read.name, *map(list, (read.position, read.velocity, read.effort))) == (
        names,
        position,
        velocity,
        effort,
    )


def test_a_message_that_is_too_short_or_much_too_long_is_refused(tmp_path):
    from rclpy.serialization import serialize_message

    good = serialize_message(joints_message(BEGIN_NS, elbow=(0, 0)))
    for number, data in enumerate((good[:40], good + bytes(100))):
        with BagWriter(tmp_path / str(number)) as writer:
            writer.write("/joint_states", "sensor_msgs/msg/JointState", data, BEGIN_NS)
        with BagReader(tmp_path / str(number)) as reader:
            assert list(reader.messages(["/joint_states"])) == [] and reader.undecodable == {
                "/joint_states": 1
            }
            ((_, _, found),) = reader.messages(["/joint_states"], tell=["/joint_states"])
            assert isinstance(found, Undecodable) and re.search(
                "/joint_states at .*cannot be read", found.text
            )
