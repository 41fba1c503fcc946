"""Why nothing comes: another type or QoS, a publisher that is silent, nobody; and how far the
nearest pose was.
"""

import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from sensor_msgs.msg import CompressedImage, Image, JointState

from test.ros.conftest import image_message, stamped_pose
from vit_perception.ros.playback import output_watcher
from vit_perception.ros.qos import image_qos

STAMP_NS = 5_000_000_000
S = 1_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}
BODY = {"state_names": ["body"], "states.body.topic": "/joints", "states.body.joints": ["elbow"]}


@pytest.fixture
def stranger():
    """A node of a DDS participant of its own: one participant knows one type a topic."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("stranger", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def said(robot, name: str, words: str) -> str:
    """The message of the status called ``name``, once ``words`` are in it."""

    def found():
        statuses = getattr(robot.tester.diagnostics, "status", ())
        return next(
            (s.message for s in statuses if s.name.endswith(name) and words in s.message), None
        )

    return robot.until(found, what=f"'{words}' of {name}")


@pytest.mark.parametrize(
    "name, parameters, topic, published, words",
    [
        (
            "camera wrist",
            {"cameras.wrist.transport": "compressed"},
            "/wrist/image",
            Image,
            "it is published as sensor_msgs/msg/Image; transport compressed wants "
            "sensor_msgs/msg/CompressedImage",
        ),
        (
            "camera wrist",
            {},
            "/wrist/image",
            CompressedImage,
            "it is published as sensor_msgs/msg/CompressedImage; transport raw wants "
            "sensor_msgs/msg/Image",
        ),
        (
            "arm arm",
            ARM,
            "/ee_pose",
            TransformStamped,
            "it is published as geometry_msgs/msg/TransformStamped; an arm wants "
            "geometry_msgs/msg/PoseStamped",
        ),
        (
            "state body",
            BODY,
            "/joints",
            PoseStamped,
            "it is published as geometry_msgs/msg/PoseStamped; a state wants "
            "sensor_msgs/msg/JointState",
        ),
    ],
)
def test_a_topic_of_another_type_is_said(
    rig, stranger, capfd, name, parameters, topic, published, words
):
    robot = rig(**(parameters | {"sync.silent_after_s": 0.1}))
    robot.activate()
    stranger.create_publisher(published, topic, 1)
    text = said(robot, name, words)
    assert "is the name right" not in text
    # Warnings of a topic come once in five seconds: the first may have been of a publisher not yet
    # found.
    robot.until(lambda: words in capfd.readouterr().err, what="the warning")


def test_the_topic_beside_that_has_the_wanted_type_is_named(rig, stranger):
    robot = rig(cameras__wrist__transport="compressed", sync__silent_after_s=0.1)
    robot.activate()
    stranger.create_publisher(Image, "/wrist/image", 1)
    stranger.create_publisher(CompressedImage, "/wrist/image/compressed", 1)
    said(
        robot,
        "camera wrist",
        "wants sensor_msgs/msg/CompressedImage, which is on /wrist/image/compressed",
    )


def test_only_where_nobody_publishes_the_name_is_in_doubt(rig, stranger):
    robot = rig(**ARM, **BODY, sync__silent_after_s=0.1)
    robot.activate()
    for name in ("camera wrist", "arm arm", "state body"):
        said(robot, name, "nothing publishes on it; is the name right, does it publish?")
    for kind, topic in (
        (Image, "/wrist/image"),
        (PoseStamped, "/ee_pose"),
        (JointState, "/joints"),
    ):
        stranger.create_publisher(kind, topic, 1)
    assert "one publisher, no message for " in said(robot, "camera wrist", "one publisher")
    assert said(robot, "arm arm", "no pose has come; one publisher, no message for ").endswith(
        "; look at the log of the publisher"
    )
    said(robot, "state body", "no joint state has come; one publisher, no message for ")


def test_a_publisher_whose_qos_does_not_match_is_named(rig, stranger):
    robot = rig(
        **{
            "qos_overrides./wrist/image.subscription.reliability": "reliable",
            "sync.silent_after_s": 0.1,
        }
    )
    robot.activate()
    stranger.create_publisher(Image, "/wrist/image", image_qos())
    text = said(robot, "camera wrist", "the QoS of its publisher /stranger does not match")
    assert "reliab" in text.lower() and "is the name right" not in text


@pytest.mark.parametrize(
    "off_ns, words",
    [
        (200_000_000, "no pose near the latest image; the nearest is 0.200 s after it"),
        (-300_000_000, "no pose near the latest image; the nearest is 0.300 s before it"),
        (
            3600 * S,
            "the nearest is 3600.000 s after it; the clocks differ: its stamps are 3600.0 s ahead "
            "of the image's",
        ),
        (
            -3 * S,
            "the nearest is 3.000 s before it; the clocks differ: its stamps are 3.0 s behind the "
            "image's",
        ),
    ],
)
def test_a_missing_pose_says_how_far_the_nearest_was_and_that_the_clocks_differ(rig, off_ns, words):
    robot = rig(**ARM, poses__arm__wait_s=0.0)
    robot.activate()
    robot.publish(
        "/wrist/image", image_message(STAMP_NS)
    )  # matched, so that the pose is fresh at the next image
    robot.frame(STAMP_NS)

    def again():
        """The pair of both, until the pose was there within a second of the image, whatever the
        load.
        """
        again.stamp_ns += S
        robot.feel("/ee_pose", stamped_pose(again.stamp_ns + off_ns))
        robot.publish("/wrist/image", image_message(again.stamp_ns))
        robot.frame(again.stamp_ns)
        return not robot.node._samples.accounts["arm"].silent

    again.stamp_ns = 10_000 * S
    robot.until(again, what="a fresh pose")
    text = said(robot, "arm arm", words)
    assert ("clocks" in text) == (abs(off_ns) > S)


def test_poses_that_were_all_refused_are_said(rig):
    robot = rig(**ARM, poses__arm__wait_s=0.0)
    robot.activate()
    robot.feel("/ee_pose", stamped_pose(0))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    said(
        robot,
        "arm arm",
        "no pose near the latest image; there is no usable one at all, 1 were refused, "
        "mostly as stamp",
    )


def test_what_is_watched_of_a_node_is_bounded(monkeypatch):
    monkeypatch.setattr(output_watcher, "MOST_FRAMES", 10)
    watcher = output_watcher.OutputWatcher("/nobody")
    for k in range(100):
        watcher._on_tokens(image_message(STAMP_NS + k, encoding="mono8"), 1)
    assert list(watcher.frames) == [STAMP_NS + k for k in range(90, 100)]
    watcher.destroy_node()
