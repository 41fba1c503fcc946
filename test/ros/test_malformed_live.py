"""Some hundred malformed messages over DDS through a running node: it lives, and its books hold to
the frame.
"""

import array
import time
from types import SimpleNamespace

import pytest
from geometry_msgs.msg import PoseStamped
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from test.fuzz import malformed
from test.ros.conftest import CompressedImage, Image, image_message, stamped_pose
from test.waiting import wait_until

LAST_NS = 3_000_000_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}


def filled(message, fields: SimpleNamespace):
    """``message`` of ROS with the values of ``fields``, as far as its types can hold them."""
    for name, value in vars(fields).items():
        if isinstance(value, SimpleNamespace):
            filled(getattr(message, name), value)
        elif isinstance(value, str):
            setattr(message, name, value.replace("\0", "0"))
        else:
            setattr(message, name, array.array("B", value) if name == "data" else value)
    return message


def done_with(message, condition) -> None:
    """One message at a time: a best-effort queue that overflows would be no fault of the
    message.
    """
    wait_until(condition, f"the end of {message}", step=lambda: time.sleep(0.0005))


KINDS = {
    "raw": (malformed.images(), Image),
    "compressed": (malformed.compressed_images(), CompressedImage),
}


@pytest.mark.parametrize("transport", KINDS)
def test_the_node_survives_malformed_images_and_accounts_for_each(rig, transport):
    robot = rig(cameras__wrist__transport=transport)
    robot.activate()
    strategy, kind = KINDS[transport]
    sync = robot.node._sync
    books, sent = sync.accounts["wrist"], 0

    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(messages=st.lists(strategy, min_size=20, max_size=20))
    def send(messages):
        nonlocal sent
        for message in malformed.one_after_another(messages):
            robot.publish("/wrist/image", filled(kind(), message))
            sent += 1
            done_with(message, lambda: books.received == sent and not sync.pending("wrist"))

    send()
    good = image_message(LAST_NS)
    if transport == "compressed":
        good = CompressedImage(
            header=good.header, format="jpeg", data=array.array("B", malformed.FILES[0])
        )
    robot.publish("/wrist/image", good)
    robot.frame(LAST_NS)
    said = robot.accounts("wrist", received=sent + 1, pending=0)
    assert sent == 200 and said["published"] > 10 and "dropped.error" not in said


def test_the_node_survives_malformed_poses_and_counts_each(rig):
    robot = rig(**ARM)
    robot.activate()
    account = robot.node._samples.accounts["arm"]
    sent = 0

    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(messages=st.lists(malformed.poses(), min_size=20, max_size=20))
    def send(messages):
        nonlocal sent
        for message in messages:
            robot.publish("/ee_pose", filled(PoseStamped(), message))
            sent += 1
            done_with(message, lambda: account.received == sent)

    send()
    assert sent == 200 and 50 < sum(account.refused.values()) < 200
    robot.publish("/ee_pose", stamped_pose(LAST_NS))
    robot.until(lambda: account.received == sent + 1, what="the last pose")
    robot.publish("/wrist/image", image_message(LAST_NS))
    assert robot.tester.layout.split(robot.frame(LAST_NS).tokens)["arm/pose"].any()
