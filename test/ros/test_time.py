"""Time as a robot has it: simulated clocks, steps, loops, and poses that are slow, late, or
stop.
"""

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from test.ros.conftest import MILLISECOND_NS, image_message, stamped_pose
from vit_perception.ros.messages import header_of
from vit_perception.wire.tensors import mask_of

STAMP_NS = 50_000_000_000
ARMS = {"pose_names": ["left_arm", "right_arm"]} | {
    f"poses.{arm}.{key}": value
    for arm in ("left_arm", "right_arm")
    for key, value in (("topic", f"/{arm}/pose"), ("frame_id", "base_link"), ("wait_s", 0.0))
}


def at(ms: float) -> int:
    return STAMP_NS + round(ms * MILLISECOND_NS)


def show(robot, stamp_ns):
    robot.publish("/wrist/image", image_message(stamp_ns))
    return robot.frame(stamp_ns)


def test_simulated_time_with_and_without_a_clock(rig):
    """Without /clock the node's time stands at 0: frames, books and diagnostics go on. With it,
    latencies are in it.
    """
    robot = rig(use_sim_time=True)
    robot.activate()
    show(robot, at(0))
    robot.accounts("wrist", received=1, published=1)
    assert robot.tester.diagnostics.header.stamp.sec == 0
    assert "latency_ms.receive" not in robot.diagnostic(
        "camera wrist"
    )  # its stamp is of no clock that runs
    robot.publish("/clock", Clock(clock=header_of(at(20), "").stamp))
    robot.until(lambda: robot.node.get_clock().now().nanoseconds == at(20), what="the clock")
    show(robot, at(1))
    robot.accounts("wrist", received=2, published=2)
    stamp = robot.tester.diagnostics.header.stamp
    assert (stamp.sec, stamp.nanosec) == (50, 20_000_000)
    assert robot.diagnostic("camera wrist")["latency_ms.receive"] == "19.00 / 19.00"


def test_a_clock_that_steps_back_and_forward_loses_no_frame_uncounted(rig):
    """An hour forward, back again, and back by half a second: images, poses and clock together, as
    NTP does it.
    """
    robot = rig(**ARMS, use_sim_time=True)
    robot.activate()
    # ms, and the reason where the frame is dropped
    steps = [
        (0, ""),
        (33, ""),
        (3_600_033, ""),
        (3_600_066, ""),
        (99, ""),
        (132, ""),
        (-368, "late"),
        (165, ""),
    ]
    for index, (ms, reason) in enumerate(steps):
        robot.publish("/clock", Clock(clock=header_of(at(ms), "").stamp))
        for arm, x_m in (("left_arm", ms / 1000), ("right_arm", -ms / 1000)):
            robot.publish(f"/{arm}/pose", stamped_pose(at(ms), x_m=x_m))
        robot.until(
            lambda: all(a.received == index + 1 for a in robot.node._samples.accounts.values())
        )
        if reason:
            robot.publish("/wrist/image", image_message(at(ms)))
            robot.until(lambda: robot.node._sync.accounts["wrist"].received == index + 1)
            continue
        frame = show(robot, at(ms))
        robot.until(lambda: len(frame.poses) == 2)
        x_m = [frame.poses[arm].pose.position.x for arm in ("left_arm", "right_arm")]
        assert x_m == [ms / 1000, -ms / 1000]
    robot.accounts(
        "wrist", received=len(steps), published=len(steps) - 1, dropped__late=1, pending=0
    )


def test_late_and_out_of_order_images_never_go_back_in_time(rig):
    robot = rig()
    robot.activate()
    order = [0, 66, 33, 99, 99, 50, 132]
    for index, ms in enumerate(order):
        robot.publish("/wrist/image", image_message(at(ms)))
        robot.until(lambda: robot.node._sync.accounts["wrist"].received == index + 1)
        robot.until(lambda: not robot.node._sync.pending("wrist"))
    robot.frame(at(132))
    robot.accounts("wrist", received=7, published=4, dropped__late=3)
    assert list(robot.tester.frames) == [at(ms) for ms in (0, 66, 99, 132)]


def test_poses_slower_than_the_camera_are_interpolated_and_skew_is_told_for_each_arm(rig):
    """Images each 20 ms; the left arm at 100 ms, 10 ms off, the right one at 40 ms."""
    robot = rig(**(ARMS | {"poses.left_arm.wait_s": 0.0, "poses.left_arm.max_skew_s": 0.06}))
    robot.activate()
    for ms in range(-90, 400, 100):
        robot.publish("/left_arm/pose", stamped_pose(at(ms), x_m=ms / 1000))
    for ms in range(-40, 400, 40):
        robot.publish("/right_arm/pose", stamped_pose(at(ms), x_m=ms / 500))
    robot.until(lambda: [a.received for a in robot.node._samples.accounts.values()] == [5, 11])
    for ms in range(0, 300, 20):
        frame = show(robot, at(ms))
        robot.until(lambda: len(frame.poses) == 2)
        assert frame.poses["left_arm"].pose.position.x == pytest.approx(ms / 1000)
        assert frame.poses["right_arm"].pose.position.x == pytest.approx(ms / 500)
    robot.accounts("wrist", published=15)
    left, right = robot.diagnostic("arm left_arm"), robot.diagnostic("arm right_arm")
    assert (left["interpolated"], right["interpolated"]) == ("15", "15")
    assert (left["skew_ms"], right["skew_ms"]) == ("30.00 / 50.00", "0.00 / 20.00")


def test_an_arm_that_stops_is_held_then_masked_while_the_other_goes_on_and_comes_back(rig):
    robot = rig(**ARMS)
    robot.activate()
    masks, expected = [], []
    for index, ms in enumerate(range(0, 300, 25)):
        robot.publish("/right_arm/pose", stamped_pose(at(ms)))
        stopped = 100 <= ms < 225
        if not stopped:
            robot.publish("/left_arm/pose", stamped_pose(at(ms)))
        wanted = [index + 1 - max(0, min(index - 3, 5)), index + 1]
        robot.until(lambda: [a.received for a in robot.node._samples.accounts.values()] == wanted)
        masks.append(mask_of(show(robot, at(ms)).tokens)[-2:].tolist())
        expected.append([not stopped or ms <= 75 + 50, True])
    assert masks == expected and [False, True] in masks
    robot.accounts("wrist", published=len(masks))
    figures = robot.diagnostic("arm left_arm")
    assert (figures["held"], figures["missing"]) == ("2", "3") and robot.diagnostic(
        "arm right_arm"
    )["missing"] == "0"
    assert np.isclose(float(figures["skew_ms"].split(" / ")[1]), 50)
