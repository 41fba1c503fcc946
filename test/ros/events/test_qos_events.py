"""What DDS reports of the node's topics is counted and told once, on a real node over DDS."""

import re

import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from test.ros.conftest import image_message
from test.ros.health.test_situations import ARM, Stream, find, warned
from test.ros.test_publishers import said
from vit_perception.ros.events import qos_events
from vit_perception.ros.qos import image_qos

TOPIC = "/wrist/image"
RELIABLE = {f"qos_overrides.{TOPIC}.subscription.reliability": "reliable"}
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def seconds(value_s: float) -> Duration:
    return Duration(nanoseconds=round(value_s * 1e9))


@pytest.fixture
def participant():
    """``participant(name)`` makes a node in a DDS participant of the test's own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(name: str):
        nodes.append(rclpy.create_node(name, context=context))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def value(robot, name: str, key: str) -> str:
    """The newest value ``key`` of the status ``name``; empty if there is none."""
    statuses = getattr(robot.tester.diagnostics, "status", ())
    values = {v.key: v.value for s in statuses if s.name.endswith(name) for v in s.values}
    return values.get(key, "")


def test_a_publisher_that_is_not_heard_beside_one_that_is_has_one_line(rig, participant, capfd):
    robot = rig(**RELIABLE)
    robot.activate()
    images = Stream(robot, TOPIC)
    images()
    driver = participant("driver")
    driver.create_publisher(Image, TOPIC, image_qos())
    line = warned(robot, capfd, "its publisher /driver", images)
    assert f"{TOPIC}: nothing comes from its publisher /driver; its QoS does not match: " in line
    assert "it offers best effort, volatile; the node asks for reliable, volatile)" in line
    assert f"; set qos_overrides.{TOPIC}.subscription, deadline_s or liveliness_s, or the " in line
    robot.until(lambda: images() or value(robot, "camera wrist", "qos_incompatible") == "1")
    # A driver that starts again and again is counted, and not told again.
    driver.destroy_publisher(next(iter(driver.publishers)))
    driver.create_publisher(Image, TOPIC, image_qos())
    robot.until(lambda: images() or value(robot, "camera wrist", "qos_incompatible") == "2")
    second = participant("second")
    second.create_publisher(Image, TOPIC, image_qos())
    lines = []

    def told() -> bool:
        images()
        lines.extend(re.findall("its publisher (/[a-z]+)", capfd.readouterr().err))
        return "/second" in lines

    robot.until(told, what="the line about the second one")
    assert lines == ["/second"]
    assert value(robot, "camera wrist", "situation") == "receiving"


def test_where_nothing_comes_the_situation_says_it_and_no_other_line(rig, participant, capfd):
    robot = rig(**RELIABLE, sync__silent_after_s=0.1)
    robot.activate()
    participant("driver").create_publisher(Image, TOPIC, image_qos())
    text = find(robot, "camera wrist", "other_qos")
    assert text.endswith(
        "(it offers best effort, volatile; the node asks for reliable, volatile); set "
        f"qos_overrides.{TOPIC}.subscription, deadline_s or liveliness_s, or the publisher's QoS"
    )
    said_so_far = warned(robot, capfd, "the QoS of its publisher /driver does not match")
    assert said_so_far
    robot.until(lambda: value(robot, "camera wrist", "qos_incompatible") == "1")
    assert robot.node._reporter.events._told == {(TOPIC, "/driver")}
    assert "nothing comes from its publisher" not in capfd.readouterr().err


def test_a_subscriber_that_gets_nothing_has_one_line_and_is_counted(rig, participant, capfd):
    robot = rig()
    robot.activate()
    assert value(robot, ": outputs", "qos_incompatible./vit_encoder/tokens") == ""
    participant("policy").create_subscription(
        Image, "/vit_encoder/tokens", lambda message: None, LATCHED
    )
    line = warned(robot, capfd, "its subscriber /policy gets nothing")
    assert "/vit_encoder/tokens: its subscriber /policy gets nothing; its QoS does not " in line
    assert "it asks for reliable, transient local; the node offers reliable, volatile)" in line
    assert "ask for no more there, or set qos_overrides./vit_encoder/tokens.publisher" in line
    robot.until(lambda: value(robot, ": outputs", "qos_incompatible./vit_encoder/tokens") == "1")


def test_of_many_strangers_no_more_are_told_than_fit(rig, participant, capfd, monkeypatch):
    monkeypatch.setattr(qos_events, "MOST_TOLD", 2)
    robot = rig()
    robot.activate()
    for number in range(4):
        participant(f"policy_{number}").create_subscription(
            Image, "/vit_encoder/tokens", lambda message: None, LATCHED
        )
    robot.until(lambda: value(robot, ": outputs", "qos_incompatible./vit_encoder/tokens") == "4")
    robot.until(lambda: not any(e.looks for e in robot.node._reporter.events._outputs))
    assert len(set(re.findall(r"its subscriber (\S+)", capfd.readouterr().err))) == 2


def test_a_missed_deadline_is_the_situation_and_is_counted(rig, capfd):
    robot = rig(cameras__wrist__deadline_s=0.01)
    robot.activate()
    robot._publishers[TOPIC] = robot.tester.create_publisher(
        Image, TOPIC, QoSProfile(depth=10, deadline=seconds(0.01))
    )
    images = Stream(robot, TOPIC)
    text = find(robot, "camera wrist", "deadline_missed", images)
    assert re.match(
        r"no image for longer than its deadline of 0.01 s, [1-9]\d* times since activate; they "
        "come late or seldom; look at the publisher's rate and at the network, or raise "
        "cameras.wrist.deadline_s",
        text,
    )
    assert int(value(robot, "camera wrist", "deadline_missed")) > 0
    assert value(robot, "camera wrist", "liveliness_lost") == ""
    warned(robot, capfd, f"{TOPIC}: no image for longer than its deadline", images)


def test_a_publisher_without_sign_of_life_is_the_situation_and_is_counted(rig, participant, capfd):
    robot = rig(**ARM, poses__arm__liveliness_s=30.0, cameras__wrist__liveliness_s=0.2)
    robot.activate()
    profile = QoSProfile(
        depth=10,
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
        liveliness_lease_duration=seconds(0.2),
    )
    publisher = participant("driver").create_publisher(Image, TOPIC, profile)
    account = robot.node._sync.accounts["wrist"]

    def heard() -> bool:
        publisher.publish(image_message(1_000_000_000))
        return account.received > 0

    # What a manual publisher sends is a sign of life, and then it gives none.
    robot.until(heard, what="an image of it")
    text = find(robot, "camera wrist", "not_alive")
    assert text == (
        "1 of its publishers gave no sign of life for 0.2 s; the process hangs or was killed, or "
        "the network is cut; look at the publisher's process and at the network"
    )
    assert int(value(robot, "camera wrist", "liveliness_lost")) >= 1
    assert value(robot, "arm arm", "liveliness_lost") == "0"
    warned(robot, capfd, f"{TOPIC}: 1 of its publishers gave no sign of life for 0.2 s")


def test_a_publisher_that_offers_no_deadline_is_named(rig, participant):
    robot = rig(cameras__wrist__deadline_s=0.5, cameras__wrist__liveliness_s=1.5)
    robot.activate()
    participant("driver").create_publisher(Image, TOPIC, QoSProfile(depth=1))
    text = said(robot, "camera wrist", "the QoS of its publisher /driver does not match")
    assert "it offers reliable, volatile; the node asks for best effort, volatile, " in text
    assert "deadline 0.5 s, liveliness 1.5 s" in text


def test_counts_start_anew_with_each_activate(rig, participant):
    robot = rig(**RELIABLE)
    robot.activate()
    participant("driver").create_publisher(Image, TOPIC, image_qos())
    robot.until(lambda: value(robot, "camera wrist", "qos_incompatible") == "1")
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    assert robot.node._reporter.events._inputs == {}
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot.tester.diagnostics = None
    robot.until(lambda: value(robot, "camera wrist", "qos_incompatible") == "1")
