"""Poses from TF: the same interpolation, books and jumps as from a topic.

Each test runs on tf2_ros where that is installed, and everywhere on a stand-in that shows the
node's own logic.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter

from test.ros import tf2_stand_in
from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.config.settings import PoseSettings
from vit_perception.ros import tf_poses
from vit_perception.ros.messages import header_of
from vit_perception.ros.tf_poses import TfPoses

STAMP_NS = 5_000_000_000
TF_ARM = {
    "pose_names": ["arm"],
    "poses.arm.source": "tf",
    "poses.arm.base_frame": "base_link",
    "poses.arm.ee_frame": "tool0",
    "poses.arm.wait_s": 0.5,
}
ARM = PoseSettings("arm", "", source="tf", base_frame="base_link", ee_frame="tool0")


@pytest.fixture(params=["tf2_ros", "stand-in"])
def tf2(request, monkeypatch):
    if request.param == "tf2_ros":
        return pytest.importorskip(
            "tf2_ros", reason="tf2_ros is not installed (it is not among the ROS wheels)"
        )
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_stand_in.module())
    return sys.modules["tf2_ros"]


def moved(parent, child, stamp_ns, x_m, z_m=0.0, quaternion=(0.0, 0.0, 0.0, 1.0)):
    """``child`` at (x, 0, z) m in ``parent``."""
    transform = TransformStamped(header=header_of(stamp_ns, parent), child_frame_id=child)
    transform.transform.translation.x, transform.transform.translation.z = x_m, z_m
    rotation = transform.transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion
    return transform


class Samples:
    """A TfPoses on a bare node, and what it gave."""

    def __init__(self, node):
        self.given, self.why, self.said = [], [], []
        self.tf = TfPoses(
            node,
            [ARM],
            lambda arm, m: self.given.append(m),
            lambda arm, text: self.why.append(text),
            lambda topic, text: self.said.append(f"{topic}: {text}"),
        )
        self.tf._listener.static_callback(
            SimpleNamespace(transforms=[moved("flange", "tool0", 0, 0.0, z_m=0.1)])
        )

    def hear(self, *transforms):
        self.tf._listener.callback(SimpleNamespace(transforms=transforms))

    @property
    def found(self):
        return [
            (m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, round(m.pose.position.x, 9))
            for m in self.given
        ]


@pytest.fixture
def samples(tf2):
    import rclpy

    node = rclpy.create_node("tf_under_test")
    made = Samples(node)
    yield made
    made.tf.destroy()
    node.destroy_node()


def test_the_chain_is_sampled_once_at_each_new_time(samples):
    samples.hear(moved("base_link", "flange", STAMP_NS, 0.5))
    samples.hear(
        moved("base_link", "flange", STAMP_NS, 0.5), moved("elsewhere", "wheel", STAMP_NS + 1, 9.0)
    )
    samples.hear(moved("base_link", "flange", STAMP_NS + 10, 0.6))
    assert samples.found == [(STAMP_NS, 0.5), (STAMP_NS + 10, 0.6)]
    pose = samples.given[0]
    assert pose.header.frame_id == "base_link" and pose.pose.position.z == pytest.approx(0.1)
    assert pose.pose.orientation.w == pytest.approx(1.0)


def test_an_unknown_frame_is_explained(tf2):
    import rclpy

    node, why = rclpy.create_node("tf_unknown"), []
    arm = PoseSettings("arm", "", source="tf", base_frame="base_link", ee_frame="no_such_tool")
    tf = TfPoses(
        node, [arm], lambda arm, m: None, lambda arm, text: why.append(text), lambda *_: None
    )
    tf._listener.callback(SimpleNamespace(transforms=[moved("base_link", "flange", STAMP_NS, 0.0)]))
    assert "no_such_tool" in why[-1]
    tf.destroy()
    node.destroy_node()


def test_a_slower_joint_sets_the_times_and_the_faster_one_is_interpolated(samples):
    samples.tf._arms = (PoseSettings("arm", "", source="tf", base_frame="world", ee_frame="tool0"),)
    samples.hear(moved("world", "base_link", STAMP_NS, 0.0))
    for ms in (0, 10, 20):
        samples.hear(moved("base_link", "flange", STAMP_NS + ms * MILLISECOND_NS, ms / 100))
    samples.hear(moved("world", "base_link", STAMP_NS + 15 * MILLISECOND_NS, 1.0))
    assert samples.found == [(STAMP_NS, 0.0), (STAMP_NS + 15 * MILLISECOND_NS, 1.15)]


def test_a_loop_forgets_the_pass_before_and_goes_on(samples):
    for k in range(30):
        samples.hear(moved("base_link", "flange", STAMP_NS + k * 10**9, 0.1))
    del samples.given[:]
    samples.hear(
        moved("base_link", "flange", STAMP_NS, 0.7)
    )  # tf2 alone would ignore it: older than its cache
    assert samples.found == [(STAMP_NS, 0.7)]
    samples.tf.forget_after(STAMP_NS)  # the images' jump comes second: nothing is lost
    samples.hear(moved("base_link", "flange", STAMP_NS + 20, 0.9))
    assert samples.found[-1] == (STAMP_NS + 20, 0.9)
    samples.tf.forget_after(STAMP_NS - 10**10)
    assert not samples.tf._newest_ns


def test_through_the_node_it_is_interpolated_held_and_missed_as_a_topics(rig, tf2):
    robot = rig(**TF_ARM)
    robot.activate()
    listener = robot.node._inputs._tf._listener

    def hear(*transforms, static=False):
        (listener.static_callback if static else listener.callback)(
            SimpleNamespace(transforms=transforms)
        )

    hear(moved("flange", "tool0", 0, 0.0, z_m=0.1), static=True)
    for ms, x_m in ((-4, 0.0), (6, 1.0)):
        hear(moved("base_link", "flange", STAMP_NS + ms * MILLISECOND_NS, x_m))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    sent = robot.until(lambda: frame.poses.get("arm"), what="pose_at_image")
    assert sent.header.frame_id == "base_link" and sent.pose.position.x == pytest.approx(0.4)
    assert sent.pose.position.z == pytest.approx(0.1)
    for ms in (36, 100):
        robot.publish("/wrist/image", image_message(STAMP_NS + ms * MILLISECOND_NS))
        robot.frame(STAMP_NS + ms * MILLISECOND_NS)
    robot.accounts("wrist", published=3)
    figures = robot.diagnostic("arm arm")
    assert [figures[k] for k in ("received", "interpolated", "held", "missing")] == [
        "2",
        "1",
        "1",
        "1",
    ]


def test_two_half_turns_are_slerped(rig):
    """Over DDS, with tf2's own listener: 0 and 90 degrees about z, 45 at the image."""
    tf2_ros = pytest.importorskip(
        "tf2_ros", reason="tf2_ros is not installed (it is not among the ROS wheels)"
    )
    robot = rig(**TF_ARM)
    robot.activate()
    fixed, moving = (
        tf2_ros.StaticTransformBroadcaster(robot.tester),
        tf2_ros.TransformBroadcaster(robot.tester),
    )
    robot.until(
        lambda: robot.tester.count_subscribers("/tf") and moving.pub_tf.get_subscription_count()
    )
    fixed.sendTransform(moved("flange", "tool0", 0, 0.0))
    half = np.sqrt(0.5)
    moving.sendTransform(moved("base_link", "flange", STAMP_NS - 10**7, 0.0))
    arms = robot.node._samples.accounts
    robot.until(lambda: arms["arm"].received == 1, what="a sample")
    moving.sendTransform(
        moved("base_link", "flange", STAMP_NS + 10**7, 1.0, quaternion=(0.0, 0.0, half, half))
    )
    robot.until(lambda: robot.node._samples.accounts["arm"].received == 2, what="two samples")
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    pose = robot.until(lambda: frame.poses.get("arm")).pose
    assert pose.position.x == pytest.approx(0.5)
    assert [pose.orientation.z, pose.orientation.w] == pytest.approx(
        [np.sin(np.pi / 8), np.cos(np.pi / 8)]
    )


def test_without_tf2_configure_says_what_to_install(rig, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    robot = rig(**TF_ARM)
    assert robot.node.trigger_configure().name == "FAILURE"
    said = capfd.readouterr().err
    assert "parameter 'poses.arm.source' is 'tf'" in said and "tf2-ros-py" in said
    assert "loading checkpoint" not in said
    changes = {
        "poses.arm.source": "topic",
        "poses.arm.topic": "/ee_pose",
        "poses.arm.frame_id": "base_link",
    }
    assert all(
        r.successful
        for r in robot.node.set_parameters([Parameter(k, value=v) for k, v in changes.items()])
    )
    assert robot.node.trigger_configure().name == "SUCCESS"


@pytest.mark.parametrize(
    "name, value",
    [("base_frame", ""), ("ee_frame", ""), ("ee_frame", "base_link"), ("source", "gps")],
)
def test_what_tf_needs_is_asked_for(rig, capfd, name, value):
    robot = rig(**(TF_ARM | {f"poses.arm.{name}": value}))
    assert robot.node.trigger_configure().name == "FAILURE"
    assert f"'poses.arm.{name}' is {value!r}" in capfd.readouterr().err


def test_frames_without_end_are_passed_over_and_counted(samples, monkeypatch):
    """tf2 keeps every name that it is ever given, and so did the node."""
    monkeypatch.setattr(tf_poses, "MOST_FRAMES", 20)
    for k in range(100):
        samples.hear(moved("base_link", f"wheel{k}", STAMP_NS, 1.0))
        samples.hear(moved("base_link", "w" * 1000 + str(k), STAMP_NS, 1.0))
    assert (
        len(samples.tf._newest_ns) < 20
        and samples.tf.passed_over > 180
        and max(map(len, samples.said)) < 800
    )
    assert f"{samples.tf.passed_over} transforms have been passed over" in samples.said[-1]
    samples.hear(moved("base_link", "flange", STAMP_NS, 0.5))
    assert samples.found == [(STAMP_NS, 0.5)]
