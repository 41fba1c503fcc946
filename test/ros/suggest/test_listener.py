"""Listening to real topics over DDS: what they carry, who is left out, QoS that does not fit."""

import array
import os
import sys
import threading

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import String

from test.ros.sensor_messages import image_message, stamped_pose
from test.ros.test_rectify_live import info_message
from test.waiting import HANG_S, run_program, wait_until
from vit_perception.image.camera_info import calibration_of
from vit_perception.ros.messages import header_of
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.ros.suggest import listener
from vit_perception.ros.suggest.choice import suggest
from vit_perception.ros.suggest.listener import look_at_graph

START_NS = 1_700_000_000_000_000_000
STEP_NS = 10_000_000
JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


class Robot:
    """Publishes one message of each of its topics every few milliseconds, on a thread."""

    def __init__(self):
        self.node = Node("robot", namespace="/cell")
        self._senders = []
        self._count = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.node.create_timer(0.005, self._send)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)

    def sends(self, kind, topic, make, qos=5) -> None:
        """``make`` gives the message of a stamp in ns."""
        self._senders.append((self.node.create_publisher(kind, topic, qos), make))

    def seen(self, enough, listen_s=HANG_S):
        """What is seen of it, once that is ``enough``: how soon it is found nobody knows."""
        self._thread.start()

        def look():
            found = look_at_graph(listen_s)
            return found if enough(found) else None

        return wait_until(look, "that everything is seen")

    def _send(self) -> None:
        self._count += 1
        stamp_ns = START_NS + self._count * STEP_NS
        for publisher, make in self._senders:
            publisher.publish(make(stamp_ns))

    def close(self) -> None:
        self._executor.shutdown()
        if self._thread.is_alive():
            self._thread.join(HANG_S)
        self.node.destroy_node()


@pytest.fixture
def robot():
    made = Robot()
    yield made
    made.close()


def depth(stamp_ns):
    message = Image(header=header_of(stamp_ns, "d"), height=2, width=2, encoding="16UC1", step=4)
    message.data = array.array("B", bytes(8))
    return message


def joint_state(stamp_ns):
    return JointState(
        header=header_of(stamp_ns, ""), name=["b", "a"], position=[0.0, 1.0], velocity=[0.0, 0.0]
    )


def test_what_each_topic_carries(robot):
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    robot.sends(Image, "/wrist/image_raw", image_message, best_effort)
    robot.sends(
        CompressedImage,
        "/top/image_raw/compressed",
        lambda t: CompressedImage(header=header_of(t, "c"), format="jpeg", data=JPEG),
    )
    robot.sends(Image, "/wrist/depth/image_raw", depth)
    robot.sends(PoseStamped, "/ee_pose", stamped_pose)
    robot.sends(JointState, "/joint_states", joint_state)
    robot.sends(WrenchStamped, "/wrench", lambda t: WrenchStamped(header=header_of(t, "tool0")))
    seen = robot.seen(lambda seen: len(seen.topics) == 6 and all(t.received for t in seen.topics))
    topics = {topic.name: topic for topic in seen.topics}
    assert sorted(topics) == [
        "/ee_pose",
        "/joint_states",
        "/top/image_raw/compressed",
        "/wrench",
        "/wrist/depth/image_raw",
        "/wrist/image_raw",
    ]
    wrist = topics["/wrist/image_raw"]
    assert wrist.picture == "64×48 bgr8" and wrist.largest_bytes == 64 * 48 * 3
    assert wrist.publishers == ("/cell/robot (best effort, volatile)",)
    assert topics["/top/image_raw/compressed"].picture.endswith(" jpeg")
    refused = topics["/wrist/depth/image_raw"]
    assert not refused.usable and "encoding is '16UC1'" in refused.refused and refused.received
    assert topics["/ee_pose"].frame_id == "base_link"
    # On a busy machine some are lost: then two that come are some steps apart.
    steps = topics["/ee_pose"].period_s / (STEP_NS / 1e9)
    assert steps >= 1 and steps == pytest.approx(round(steps))
    assert list(topics["/joint_states"].joints) == ["b", "a"]
    assert topics["/joint_states"].has_velocities
    assert topics["/wrench"].frame_id == "tool0" and topics["/wrench"].usable
    assert (seen.mismatches, seen.has_clock, seen.has_tf, seen.encoders) == ((), False, False, ())
    chosen = {p: [c.name for c in each] for p, each in suggest(seen).groups.items()}
    assert chosen == {
        "cameras": ["top", "wrist"],
        "poses": ["arm"],
        "states": ["joints"],
        "wrenches": ["wrench"],
    }


def test_camera_infos_are_seen_kept_ones_too_and_are_no_sources(robot):
    """One is kept with stamp 0, one comes with each image, and one is of no calibrated camera."""
    robot.sends(Image, "/wrist/image_raw", image_message)
    robot.sends(CameraInfo, "/wrist/camera_info", lambda stamp_ns: info_message(0), LATCHED_QOS)
    robot.sends(Image, "/top/image_raw", image_message)
    robot.sends(CameraInfo, "/top/camera_info", info_message, 5)
    uncalibrated = info_message(0, k=np.zeros(9))
    robot.sends(CameraInfo, "/bad/camera_info", lambda stamp_ns: uncalibrated, LATCHED_QOS)

    def enough(seen):
        return (
            len(seen.topics) == 2 and len(seen.infos) == 3 and all(i.received for i in seen.infos)
        )

    seen = robot.seen(enough)
    assert [topic.name for topic in seen.topics] == ["/top/image_raw", "/wrist/image_raw"]
    bad, top, wrist = seen.infos
    assert top.calibration == wrist.calibration == calibration_of(info_message(0))
    assert bad.calibration is None and "k of the CameraInfo is" in bad.refused
    cameras = {
        c.name: {s.name: s.value for s in c.settings} for c in suggest(seen).groups["cameras"]
    }
    for name in ("top", "wrist"):
        assert cameras[name][f"cameras.{name}.rectify"] is True
        assert cameras[name][f"cameras.{name}.camera_info_topic"] == f"{name}/camera_info"


def test_a_topic_without_messages_is_waited_for_as_long_as_is_said(robot):
    robot.node.create_publisher(PoseStamped, "/goal_pose", 1)
    seen = robot.seen(lambda seen: seen.topics, listen_s=0.3)
    assert [(topic.name, topic.received) for topic in seen.topics] == [("/goal_pose", 0)]
    assert seen.listened_s >= 0.3
    assert seen.topics[0].publishers == ("/cell/robot (reliable, volatile)",)


def test_outputs_of_an_encoder_are_no_inputs(robot):
    robot.sends(Image, "/wrist/image_raw", image_message)
    # What a configured encoder has on the graph.
    for kind, topic in (
        (String, "/vit_encoder/layout"),
        (String, "/vit_encoder/transition_event"),
        (PoseStamped, "/vit_encoder/arm/pose_at_image"),
        (Image, "/vit_encoder/tokens"),
    ):
        robot.node.create_publisher(kind, topic, 1)
    seen = robot.seen(lambda seen: seen.encoders and seen.topics)
    assert [topic.name for topic in seen.topics] == ["/wrist/image_raw"]
    assert seen.encoders == ("/vit_encoder",)


def test_pairs_that_dds_does_not_connect_have_names_and_a_cure(robot):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    latched = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    robot.sends(Image, "/a/image_raw", image_message, best_effort)
    robot.node.create_publisher(String, "/text", 1)
    robot.node.create_subscription(Image, "/a/image_raw", lambda m: None, 1)
    robot.node.create_subscription(String, "/text", lambda m: None, latched)
    found = {p.topic: p for p in robot.seen(lambda seen: len(seen.mismatches) == 2).mismatches}
    assert sorted(found) == ["/a/image_raw", "/text"]
    image, text = found["/a/image_raw"], found["/text"]
    assert (image.publisher, image.subscriber) == ("/cell/robot", "/cell/robot")
    assert "reliable subscription" in image.policies
    assert image.cure.startswith("subscribe best effort (parameters qos_overrides")
    assert text.cure.startswith("subscribe volatile (")


def test_more_topics_than_are_listened_to_are_counted(robot, monkeypatch):
    monkeypatch.setattr(listener, "MOST_TOPICS", 2)
    for name in "abc":
        robot.sends(Image, f"/{name}/image_raw", image_message)
    seen = robot.seen(lambda seen: seen.unheard)
    assert len(seen.topics) == 2 and len(seen.unheard) == 1


def test_without_topics_it_ends(monkeypatch):
    monkeypatch.setattr(listener, "FIND_S", 0.1)
    seen = look_at_graph(HANG_S)
    assert seen.topics == () and seen.listened_s >= 0.1


@pytest.mark.parametrize(
    "name, value", [("RMW_IMPLEMENTATION", "rmw_nothing"), ("ROS_DOMAIN_ID", "many")]
)
def test_where_ros_does_not_start_it_says_so(name, value):
    # A process of its own: rclpy loads its middleware once.
    program = "from vit_perception.cli.doctor import graph; print(*graph(1.0), sep='\\n')"
    done = run_program([sys.executable, "-c", program], env=os.environ | {name: value})
    (line,) = done.stdout.splitlines()
    assert line.startswith("graph        the ROS graph cannot be looked at, because ROS does not")


HEADER = header_of(START_NS, "f")


@pytest.mark.parametrize(
    "message, why",
    [
        (JointState(header=HEADER), "name holds 0 names"),
        (JointState(header=HEADER, name=["a", "a"], position=[0.0, 0.0]), "each once"),
        (JointState(header=HEADER, name=["a"] * 5000), "name holds 5000 names"),
        (JointState(header=HEADER, name=["a", ""], position=[0.0, 0.0]), "empty"),
        (JointState(header=HEADER, name=["a\nb"], position=[0.0]), "does not print"),
        (JointState(header=HEADER, name=["a" * 257], position=[0.0]), "up to 256 characters"),
        (JointState(header=HEADER, name=["a"], velocity=[0.0]), "position has 0 values for 1"),
        (JointState(name=["a"], position=[0.0]), "header.stamp is 0 s"),
        (JointState(header=header_of(1, "x\n"), name=["a"], position=[0.0]), "frame"),
    ],
)
def test_joint_states_that_no_arm_sends_are_refused_with_the_reason(message, why):
    topic = listener.TopicSeen("/joint_states", listener.STATE)
    listener.take(topic, message)
    assert not topic.usable and why in topic.refused and topic.refused.isprintable()
    assert topic.received == 1 and not topic.arrivals and not topic.joints
