"""The QoS of what `vit-perception replay` plays, and what was latched before its start."""

import json

import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosReliability
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from test.cli.replay_listener import POSES, WRIST, listener, play, text_bag, texts  # noqa: F401
from test.conftest import DEMO_BAG
from vit_perception.cli.main import main
from vit_perception.datasets.output_messages import offered_qos
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.playback.bag_player import PLAY_QOS, recorded_qos
from vit_perception.ros.playback.replay_qos import is_latched, play_qos


def test_profiles_are_those_of_the_recording(listener, tmp_path):
    """A latched topic reaches who comes late; a best-effort one is not offered as reliable."""
    best_effort = offered_qos(False)._replace(reliability=QosReliability.BEST_EFFORT)
    with (
        BagReader(DEMO_BAG) as bag,
        BagWriter(
            tmp_path / "bag", lambda t: [offered_qos(True) if t == WRIST else best_effort]
        ) as out,
    ):
        for message in bag.raw([POSES, WRIST], stop_ns=bag.start_ns + 2 * 10**9):
            if message.topic == POSES or message.stamp_ns < bag.start_ns + 10**7:
                out.write(message.topic, message.type_name, message.data, message.stamp_ns)
    with BagReader(tmp_path / "bag") as bag:
        assert recorded_qos(bag, POSES).reliability == ReliabilityPolicy.BEST_EFFORT
    with BagReader(DEMO_BAG) as bag:
        assert recorded_qos(bag, POSES) == PLAY_QOS  # it does not say
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    listener.listen(POSES, PoseStamped)
    listener.listen(WRIST, CompressedImage, latched)
    # The one image is sent at once, before anybody can be found.
    status, _ = play(listener, tmp_path, tmp_path / "bag", "--rate", 0.4)
    assert status == 0 and len(listener.heard[WRIST]) == 1 and not listener.heard[POSES]


def test_what_was_latched_before_the_start_is_sent_first_in_each_pass(listener, tmp_path):
    """Two publishers of static transforms, a layout that changed, a description whose QoS the bag
    does not say.
    """
    messages = [
        ("/tf_static", 0, "camera"),
        ("/tf_static", 0.1, "gripper"),
        ("/layout", 0.1, "first"),
        ("/robot_description", 0.2, "urdf"),
        ("/layout", 0.3, "second"),
        ("/pose", 0.4, "too early"),
        ("/pose", 1.1, "one"),
        ("/layout", 1.2, "third"),
        ("/pose", 1.3, "two"),
    ]
    offered = {"/tf_static": 2, "/layout": 1}
    bag = text_bag(
        tmp_path / "bag", messages, lambda topic: [offered_qos(True)] * offered.get(topic, 0)
    )
    late = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    for topic in ("/tf_static", "/layout", "/robot_description"):
        listener.listen(topic, String, late)
    listener.listen("/pose", String)
    log = tmp_path / "sent.jsonl"
    status, said = play(
        listener, tmp_path, bag, "--start", 1, "--loop", 2, "--wait-s", 20, "--log", log
    )
    assert status == 0 and "14 messages sent" in said, said
    assert texts(listener, "/pose") == ["one", "two"] * 2
    assert texts(listener, "/tf_static") == ["camera", "gripper"] * 2
    assert (
        texts(listener, "/layout") == ["second", "third"] * 2
        and texts(listener, "/robot_description") == ["urdf"] * 2
    )
    order = [json.loads(line)["topic"] for line in log.read_text().splitlines()]
    assert (
        order[:4] == ["/tf_static", "/tf_static", "/robot_description", "/layout"]
        and order[4] == "/pose"
    )


@pytest.mark.parametrize("choice", ["recorded", "reliable"])
def test_without_an_earlier_start_nothing_is_sent_twice(tmp_path, capsys, choice):
    bag = text_bag(
        tmp_path / "bag",
        [("/tf_static", 0, "a"), ("/x", 0.1, "b")],
        lambda topic: [offered_qos(True)],
    )
    assert main(["replay", str(bag), "--qos", choice, "--rate", "10"]) == 0
    assert "2 messages sent" in capsys.readouterr().out


def test_a_latched_topic_is_latched_under_either_choice(tmp_path):
    bag = text_bag(
        tmp_path / "bag",
        [("/a", 0, "a"), ("/ns/tf_static", 0, "b"), ("/c", 0, "c")],
        lambda topic: [offered_qos(topic == "/a")] if topic != "/ns/tf_static" else [],
    )
    with BagReader(bag) as opened:
        for choice in ("recorded", "reliable"):
            assert [
                is_latched(play_qos(opened, topic, choice)[0])
                for topic in ("/a", "/ns/tf_static", "/c")
            ] == [True, True, False]


def test_profiles_that_no_publisher_has_are_named_and_those_of_reliable_taken(tmp_path, capsys):
    bag = text_bag(
        tmp_path / "bag",
        [("/deep", 0, "a"), ("/negative", 0, "b"), ("/fine", 0.1, "c")],
        lambda topic: [
            offered_qos(False)._replace(depth={"/deep": 2**40, "/negative": -5}.get(topic, 1))
        ],
    )
    assert main(["replay", str(bag)]) == 0
    said = capsys.readouterr()
    assert "3 messages sent" in said.out and "Traceback" not in said.err
    for topic, wrong in (
        ("/deep", "depth is 1099511627776; accepted: 0 to 10000"),
        ("/negative", "depth is -5"),
    ):
        assert f"recorded QoS not used, but that of --qos reliable: {topic}: {wrong}" in said.err
    assert "/fine" not in said.err
