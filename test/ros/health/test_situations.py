"""Each situation of an input, brought about on a real node over DDS: the right cause is named.

Other types, other QoS and names that nobody publishes: test/ros/test_publishers.py.
"""

import itertools
import re
from types import SimpleNamespace

import pytest

from test.conftest import ROOT
from test.ros.conftest import image_message, stamped_pose
from test.ros.test_publishers import said
from test.ros.test_tf_poses import TF_ARM, tf2  # noqa: F401 - a fixture
from vit_perception.ros.health import judge
from vit_perception.ros.health.situations import SITUATIONS

S = 1_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}
TWO = {
    "camera_names": ["wrist", "gripper"],
    "cameras.wrist.topic": "/wrist/image",
    "cameras.gripper.topic": "/gripper/image",
}


class Stream:
    """Images with rising stamps on ``topics``, one of each at every call."""

    def __init__(self, robot, *topics: str, apart_s: int = 0, encoding: str = "bgr8"):
        self._robot = robot
        self._topics = topics
        self._apart_ns = apart_s * S
        self._encoding = encoding
        self._stamps_ns = itertools.count(100 * S, S // 20)

    def __call__(self) -> None:
        stamp_ns = next(self._stamps_ns)
        for number, topic in enumerate(self._topics):
            message = image_message(stamp_ns + number * self._apart_ns)
            message.encoding = self._encoding
            self._robot.publish(topic, message)


def find(robot, name: str, situation: str, step=lambda: None) -> str:
    """The message of the status ``name`` once it is in ``situation``; ``step`` keeps it there."""

    def found():
        step()
        for status in getattr(robot.tester.diagnostics, "status", ()):
            if status.name.endswith(name) and any(
                v.key == "situation" and v.value == situation for v in status.values
            ):
                return status.message
        return None

    return robot.until(found, what=f"{situation} of {name}")


def warned(robot, capfd, pattern: str, step=lambda: None) -> str:
    """The first line of the log that has ``pattern``, once there is one."""
    lines: list[str] = []

    def found():
        step()
        lines.extend(capfd.readouterr().err.splitlines())
        return next((line for line in lines if re.search(pattern, line)), None)

    return robot.until(found, what=f"a line with {pattern}")


def test_in_the_first_seconds_nothing_is_missed(rig, capfd, monkeypatch):
    """Regression: it warned of no image lately, one second after the start."""
    monkeypatch.setattr(judge, "FIRST_S", 1e6)  # however slow the machine is
    robot = rig(**ARM, sync__silent_after_s=0.1)
    robot.activate()
    assert find(robot, "camera wrist", "starting").startswith("waiting for the first image, ")
    assert find(robot, "arm arm", "starting").startswith("waiting for the first pose, ")
    assert "[WARN]" not in capfd.readouterr().err


def test_a_camera_that_comes_late_stops_and_comes_back(rig, capfd):
    robot = rig(sync__silent_after_s=0.2)
    robot.activate()
    text = find(robot, "camera wrist", "never_came")
    assert text == (
        "no image has come; nothing publishes on it; is the name right, does it publish?"
    )
    wrist = Stream(robot, "/wrist/image")
    assert re.search(
        r"/wrist/image: camera wrist: the first image came after \d",
        warned(robot, capfd, "first im", wrist),
    )
    find(robot, "camera wrist", "receiving", wrist)
    text = find(robot, "camera wrist", "stopped")
    assert re.match(
        r"no image for \d+(\.\d)? s; one publisher, no usable message since; look at the log", text
    )
    warned(robot, capfd, r"/wrist/image: no image for ")
    back = warned(robot, capfd, r"is back after", wrist)
    assert re.search(r"/wrist/image: camera wrist is back after \d+(\.\d)? s", back)
    find(robot, "camera wrist", "receiving", wrist)


def test_a_publisher_that_has_gone_is_said(rig):
    robot = rig(sync__silent_after_s=0.2)
    robot.activate()
    find(robot, "camera wrist", "receiving", Stream(robot, "/wrist/image"))
    robot.tester.destroy_publisher(robot._publishers.pop("/wrist/image"))
    text = find(robot, "camera wrist", "gone")
    assert "nothing publishes on it any more; start the publisher again" in text


def test_a_camera_that_waits_for_another_one_says_which_and_how_long(rig, capfd):
    """Regression: the healthy camera was said to be mostly unmatched."""
    robot = rig(**TWO, sync__silent_after_s=0.2)
    robot.activate()
    both = Stream(robot, "/wrist/image", "/gripper/image")
    find(robot, "camera gripper", "receiving", both)
    robot.until(lambda: both() or robot.tester.frames, what="a frame")
    # The matching of a topic is waited for above; from now on one camera sends alone.
    wrist = Stream(robot, "/wrist/image")
    wrist._stamps_ns = both._stamps_ns
    text = find(robot, "camera wrist", "waiting", wrist)
    assert re.match(
        r"waiting for camera gripper, silent for \d+(\.\d)? s \(sync.policy: wait\); no group",
        text,
    )
    find(robot, "camera gripper", "stopped", wrist)
    line = warned(robot, capfd, "waiting for camera gripper", wrist)
    assert "/wrist/image: waiting for camera gripper, silent for" in line
    warned(robot, capfd, "/gripper/image: camera gripper is back after", both)
    find(robot, "camera wrist", "receiving", both)
    assert "mostly unmatched" not in capfd.readouterr().err


def test_under_mask_nobody_waits(rig):
    robot = rig(**TWO, sync__silent_after_s=0.2, sync__policy="mask")
    robot.activate()
    wrist = Stream(robot, "/wrist/image")
    find(robot, "camera gripper", "never_came", wrist)
    find(robot, "camera wrist", "receiving", wrist)


def test_cameras_whose_stamps_differ_are_unmatched(rig):
    robot = rig(**TWO, sync__silent_after_s=5.0)
    robot.activate()
    apart = Stream(robot, "/wrist/image", "/gripper/image", apart_s=30)
    text = find(robot, "camera wrist", "unmatched", apart)
    assert "no image of camera gripper lies within sync.slop_s (0.02 s) of them" in text
    assert "the clocks differ: its stamps are 30.0 s behind those of gripper" in text


def test_images_whose_stamps_stand_still_are_late(rig):
    robot = rig(sync__silent_after_s=5.0)
    robot.activate()
    still = image_message(50 * S)
    text = find(robot, "camera wrist", "late_images", lambda: robot.publish("/wrist/image", still))
    assert "mostly late" in text and "their stamps stand still" in text


@pytest.mark.parametrize("fault", ["encoding", "stamp"])
def test_images_that_are_all_refused_say_why(rig, capfd, fault):
    """Regression: after an hour of superseded images, a wrong encoding was 'mostly superseded'."""
    robot = rig(sync__silent_after_s=0.2)
    robot.activate()
    good = Stream(robot, "/wrist/image")

    def many():
        for _ in range(10):
            good()

    robot.until(lambda: many() or robot.node._sync.accounts["wrist"].dropped["superseded"] > 20)
    if fault == "stamp":
        bad = lambda: robot.publish("/wrist/image", image_message(0))  # noqa: E731
    else:
        bad = Stream(robot, "/wrist/image", encoding="64FC3")
        bad._stamps_ns = good._stamps_ns
    text = find(robot, "camera wrist", "refused", bad)
    assert f"mostly {fault}; the node cannot use them; the other warnings of this topic" in text
    warned(robot, capfd, f"/wrist/image: .*{fault}", bad)
    warned(robot, capfd, "none was published for 5 s; mostly", bad)


def test_a_frame_that_the_policy_drops_is_not_laid_to_the_camera(rig):
    robot = rig(**ARM, **{"poses.policy": "require"}, sync__silent_after_s=5.0)
    robot.activate()
    text = find(robot, "camera wrist", "unpublished", Stream(robot, "/wrist/image"))
    assert "mostly pose_missing" in text


@pytest.mark.parametrize(
    "policy, consequence",
    [
        ("mask", "its token is masked (poses.policy: mask)"),
        ("require", "the frame is dropped (poses.policy: require)"),
    ],
)
def test_a_pose_that_is_late_says_how_old_it_is_and_what_becomes_of_the_frame(
    rig, policy, consequence
):
    robot = rig(**ARM, **{"poses.policy": policy}, poses__arm__wait_s=0.0)
    robot.activate()
    images = Stream(robot, "/wrist/image")
    images()
    first_ns = 100 * S

    def behind():
        nonlocal first_ns
        first_ns += S
        robot.feel("/ee_pose", stamped_pose(first_ns - S // 5))
        robot.publish("/wrist/image", image_message(first_ns))

    text = find(robot, "arm arm", "late", behind)
    assert text.startswith("no pose near the latest image; the nearest is 0.200 s before it; ")
    assert f"; {consequence}; if they come late or seldom, raise poses.arm.wait_s or" in text


def test_poses_that_are_all_refused_say_so(rig):
    robot = rig(**ARM, poses__arm__wait_s=0.0)
    robot.activate()
    images = Stream(robot, "/wrist/image")

    def send():
        robot.feel("/ee_pose", stamped_pose(next(images._stamps_ns), frame_id="tool"))
        images()

    text = find(robot, "arm arm", "refused_samples", send)
    assert "were refused, mostly as frame; its token is masked" in text


def test_a_chain_of_frames_that_is_not_there_is_said(rig, tf2):
    robot = rig(**TF_ARM)
    robot.activate()
    listener = robot.node._inputs._tf._listener
    listener.callback(SimpleNamespace(transforms=[]))  # whatever TF hears, it looks for the chain
    text = said(robot, "arm arm", "TF says: ")
    assert text.startswith("no pose has come; TF says: ") and "does not exist" in text
    assert text.endswith("is the chain of frames complete, and does somebody send each link?")


def page_table() -> str:
    """The table as docs/robots_day.md has it."""

    def cell(text: str) -> str:
        required = re.sub(r"\{(nearest|nearby|clocks|which|instead)\}", "", text).replace(
            "<", "\\<"
        )
        return re.sub(r"\{(\w+)\}", r"*\1*", required)

    rows = [["`situation`", "message", "cause", "cure"], ["---"] * 4]
    rows += [[f"`{s.name}`", cell(s.says), cell(s.cause), cell(s.cure)] for s in SITUATIONS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_page_has_the_table():
    page = (ROOT / "docs/robots_day.md").read_text()
    assert page_table() in page, "put this into docs/robots_day.md:\n" + page_table()
    names = [situation.name for situation in SITUATIONS]
    assert len(names) == len(set(names)) > 12
