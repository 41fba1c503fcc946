"""The sign of life in the log of a real node: the first frame, then a line every so often."""

import re

import pytest
from rclpy.parameter import Parameter

from test.ros.conftest import stamped_pose
from test.ros.health.test_situations import ARM, S, Stream, find, warned
from vit_perception.config.settings import BadSetting, LogSettings


def test_the_first_frame_and_then_a_line_every_so_often(rig, capfd):
    robot = rig(**ARM, log_status_s=0.5, poses__arm__wait_s=0.0, poses__arm__max_skew_s=2.0)
    robot.activate()
    images = Stream(robot, "/wrist/image")

    def both():
        """A pose a second before each image: it is held."""
        stamp_ns = next(images._stamps_ns)
        robot.feel("/ee_pose", stamped_pose(stamp_ns - S))
        images()

    first = warned(robot, capfd, "first frame after", both)
    assert re.search(r"first frame after \d+\.\d s, age unknown \(another clock's stamps\)$", first)
    line = warned(robot, capfd, r"in the last .* [1-9]\d* held", both)
    assert re.search(
        r"in the last \d+ s: \d+ frames, \d+\.\d Hz, age .*; wrist: .* dropped; "
        r"arm: 0 interpolated, \d+ held, \d+ missing$|"
        r"in the last \d+ s: \d+ frames, \d+\.\d Hz, age .*; wrist: .* dropped; arm: \d+ held, "
        r"\d+ interpolated, \d+ missing$",
        line,
    )


def test_frames_of_this_clock_have_an_age(rig, capfd):
    robot = rig(log_status_s=0.5)
    robot.activate()
    images = Stream(robot, "/wrist/image")

    def now():
        images._stamps_ns = iter([robot.node.get_clock().now().nanoseconds])
        images()

    assert re.search(r"first frame after .* s, age \d+ ms$", warned(robot, capfd, "first fr", now))
    assert re.search(r" Hz, age \d+ ms; wrist: ", warned(robot, capfd, "in the last", now))


def test_zero_is_off_and_it_changes_while_the_node_runs(rig, capfd):
    robot = rig(log_status_s=0.0)
    robot.activate()
    images = Stream(robot, "/wrist/image")
    find(robot, "camera wrist", "receiving", images)
    robot.until(lambda: images() or robot.accounts("wrist")["published"], what="a frame")
    (result,) = robot.node.set_parameters([Parameter("log_status_s", value=0.5)])
    assert result.successful and "first frame" not in capfd.readouterr().err
    assert "wrist: " in warned(robot, capfd, "in the last", images)


def test_no_frame_is_said_too(rig, capfd):
    robot = rig(log_status_s=0.5)
    robot.activate()
    assert "in the last" in warned(robot, capfd, r"in the last \d+ s: 0 frames, 0\.0 Hz")


def test_a_period_below_zero_is_refused():
    with pytest.raises(BadSetting, match="log_status_s"):
        LogSettings(status_s=-1.0)
