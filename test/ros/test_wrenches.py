"""A force/torque sensor through the live node: token, layout, topic, diagnostics, bad input."""

import numpy as np
import pytest
from geometry_msgs.msg import WrenchStamped

from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.ros.messages import header_of
from vit_perception.wire.tensors import mask_of

STAMP_NS = 5_000_000_000
WRENCH = {
    "wrench_names": ["hand"],
    "wrenches.hand.topic": "/force",
    "wrenches.hand.frame_id": "tool",
    "wrenches.hand.wait_s": 1.0,
}


def wrench_message(stamp_ns: int, force_n: float, frame_id: str = "tool") -> WrenchStamped:
    """A force along z, and a tenth of it as the torque about x."""
    message = WrenchStamped(header=header_of(stamp_ns, frame_id))
    message.wrench.force.z = force_n
    message.wrench.torque.x = force_n / 10
    return message


def test_wrench_is_interpolated_at_the_image_sent_and_a_token(rig):
    robot = rig(**WRENCH)
    robot.activate()
    for ms, force_n in ((-10, 10.0), (10, 30.0)):
        message = wrench_message(STAMP_NS + ms * MILLISECOND_NS, force_n)
        robot.feel("/force", message, source="hand")
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    sent = robot.until(lambda: frame.samples.get("wrenches", {}).get("hand"), what="the wrench")
    assert (sent.wrench.force.z, sent.wrench.torque.x) == (20.0, 2.0)
    assert (sent.header.stamp.sec, sent.header.frame_id) == (5, "tool")
    group = robot.tester.layout.group("hand/wrench")
    assert group.start == 17 and mask_of(frame.tokens).all()
    # The first pair looks at the force along x, which is zero: (cos 0, sin 0) times the root of 2.
    np.testing.assert_allclose(frame.tokens[17, :2], [2**0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    "message, reason",
    [
        (wrench_message(STAMP_NS, 1.0, frame_id="world"), "frame"),
        (wrench_message(STAMP_NS, float("nan")), "nan"),
        (wrench_message(STAMP_NS, 1e9), "magnitude"),
        (wrench_message(0, 1.0), "stamp"),
    ],
)
def test_a_wrench_that_cannot_be_used_is_counted_and_masked(rig, message, reason):
    robot = rig(**(WRENCH | {"wrenches.hand.wait_s": 0.0}))
    robot.activate()
    robot.feel("/force", message, source="hand")
    assert robot.node._samples.accounts["hand"].refused == {reason: 1}
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    assert list(np.flatnonzero(~mask_of(frame.tokens))) == [17] and not frame.samples

    def status():
        statuses = getattr(robot.tester.diagnostics, "status", ())
        return next((s.message for s in statuses if s.name.endswith(": wrench hand")), "")

    robot.until(lambda: "no wrench" in status(), what="the status")
