"""What a hostile sender does to a node: pictures that crash or hold up decoders, floods, parameter
values.
"""

import math
import time

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from tools.soak import hostile_pictures as pictures
from tools.soak.robot import Robot, Unexpected
from tools.soak.sensor_faults import DAMAGE_REASONS, WATCHED_FRAMES, Seen

# "encoding": no picture at all.
REFUSALS = (*DAMAGE_REASONS, "encoding")
FLOOD = 20
MOST_REASON_CHARACTERS = 2000
HOSTILE_VALUES = (
    ("max_rate_hz", 1e-300),
    ("max_rate_hz", math.nan),
    ("max_rate_hz", -math.inf),
    ("sync.policy", "x" * 1_000_000),
    ("poses.policy", "\x1b[2J" * 1000),
    ("x" * 100_000, 1),
)


def _sent(robot: Robot) -> int:
    return sum(robot.sensors[c].board["damaged"] for c in robot.cameras)


def _bad(robot: Robot, orders: dict[str, int], kind: str, at_least: int) -> Seen:
    """Give ``orders`` to the sensors of ``kind`` ("": all) until ``at_least`` bad images were sent;
    frames go on.
    """
    books = robot.observer.books

    def refused() -> int:
        return sum(books.dropped(reason) for reason in REFUSALS)

    before, crashed, sent_before = refused(), books.dropped("error"), _sent(robot)
    for name, value in orders.items():
        robot.order(name, value, kind)
    robot.until(
        lambda: refused() > before and _sent(robot) - sent_before >= at_least,
        f"{at_least} bad images",
    )
    robot.next_frames(WATCHED_FRAMES)
    for name in orders:
        robot.order(name, 0, kind)
    recovery_s = robot.whole_after(time.time_ns())
    asked_ns = time.time_ns()
    robot.until(lambda: robot.observer.status_ns > asked_ns, "diagnostics")
    sent, dropped = _sent(robot) - sent_before, refused() - before
    if books.dropped("error") > crashed:
        raise Unexpected("images were dropped as error: something raised what it should not")
    if dropped > sent:
        raise Unexpected(f"{dropped} refused of {sent} that were bad")
    return f"{sent} sent, {dropped} refused, the others passed over undecoded", recovery_s


def crash_pictures(robot: Robot) -> Seen:
    return _bad(
        robot, {"damage_kind": 1, "damage_every": 4}, "camera", len(pictures.crash_pictures())
    )


def slow_pictures(robot: Robot) -> Seen:
    return _bad(
        robot, {"damage_kind": 2, "damage_every": 10}, "camera", 8 * len(pictures.slow_pictures())
    )


def floods(robot: Robot) -> Seen:
    """Twenty bad images with each good one, and twenty poses and joint states whose stamps hardly
    advance.
    """
    return _bad(robot, {"flood": FLOOD}, "", 30 * FLOOD)


def hostile_parameters(robot: Robot) -> Seen:
    for name, value in HOSTILE_VALUES:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        result = robot.call(SetParameters, request).results[0]
        if result.successful or len(result.reason) > MOST_REASON_CHARACTERS:
            raise Unexpected(
                f"{name[:40]} = {str(value)[:40]}: accepted {result.successful}, "
                f"a reason of {len(result.reason)} characters"
            )
    return f"{len(HOSTILE_VALUES)} values refused", robot.whole_after(time.time_ns())
