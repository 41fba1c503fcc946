"""Joint states through the live node: tokens, mask, layout, topic, accounts; two drivers on one
topic.
"""

import math

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.config.settings import StateSettings
from vit_perception.ros.messages import header_of
from vit_perception.tokens.tokenizer import make_state_tokenizer
from vit_perception.wire.tensors import mask_of

STAMP_NS = 5_000_000_000
JOINTS = ["shoulder", "elbow", "gripper"]
STATE = {
    "state_names": ["body"],
    "states.body.topic": "/joint_states",
    "states.body.joints": JOINTS,
    "states.body.fields": ["position", "velocity"],
    "states.body.wait_s": 1.0,
}
SETTINGS = StateSettings("body", "/joint_states", tuple(JOINTS), ("position", "velocity"))


def joints_message(stamp_ns, **joints):
    """``joints`` are (position, velocity) by name."""
    message = JointState(header=header_of(stamp_ns, "body_frame"), name=list(joints))
    message.position = [float(p) for p, _ in joints.values()]
    message.velocity = [float(v) for _, v in joints.values()]
    return message


def test_the_state_token_is_that_of_the_joints_at_the_image_stamp(rig):
    robot = rig(**STATE)
    robot.activate()
    layout = robot.tester.layout
    assert layout.group("body/state").kind == "state" and layout.token_count == 1 + 16 + 1
    assert (layout.states[0].joints, layout.states[0].fields) == (
        tuple(JOINTS),
        ("position", "velocity"),
    )
    assert layout.embedding_width == 2 * 64 and layout.state_tokenizer == "fourier"
    for ms, joints in (
        (-4, {"elbow": (0.0, 1), "shoulder": (0.5, 0)}),
        (-5, {"gripper": (0.02, 0)}),
        (6, {"shoulder": (1.5, 0), "elbow": (1.0, 3)}),
        (15, {"gripper": (0.06, 0)}),
    ):
        robot.feel(
            "/joint_states", joints_message(STAMP_NS + ms * MILLISECOND_NS, **joints), source="body"
        )
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    sent = robot.until(lambda: frame.states.get("body"), what="state_at_image")
    assert (list(sent.name), sent.header.frame_id, sent.header.stamp.sec) == (
        JOINTS,
        "body_frame",
        5,
    )
    np.testing.assert_allclose(
        [*sent.position, *sent.velocity], [0.9, 0.4, 0.03, 0, 1.8, 0], atol=1e-9
    )
    expected = make_state_tokenizer("fourier", 64, SETTINGS).encode(
        np.array([*sent.position, *sent.velocity])
    )
    np.testing.assert_array_equal(layout.split(frame.tokens)["body/state"], expected)
    assert mask_of(frame.tokens).all()
    robot.accounts("wrist", published=1)
    figures = robot.diagnostic("state body")
    assert (figures["received"], figures["interpolated"], figures["skew_ms"]) == (
        "4",
        "1",
        "5.00 / 5.00",
    )


@pytest.mark.parametrize("policy", ["mask", "require"])
def test_without_one_of_the_joints_the_state_is_masked_or_the_frame_dropped(rig, policy, capfd):
    robot = rig(**(STATE | {"states.body.wait_s": 0.0, "states.policy": policy}))
    robot.activate()
    robot.feel(
        "/joint_states", joints_message(STAMP_NS, shoulder=(1, 0), elbow=(1, 0)), source="body"
    )
    robot.publish("/wrist/image", image_message(STAMP_NS))
    if policy == "mask":
        frame = robot.frame(STAMP_NS)
        assert list(np.flatnonzero(~mask_of(frame.tokens))) == [17] and not frame.states
    else:
        robot.accounts("wrist", received=1, dropped__state_missing=1, published=0)
        said = "no joint state of body (gripper; there is no usable one at all)"
        assert said in capfd.readouterr().err
    robot.until(
        lambda: any(
            s.name.endswith("state body") and "gripper" in s.message and s.level == b"\x01"
            for s in getattr(robot.tester.diagnostics, "status", ())
        ),
        what="the joint's name",
    )


def test_bad_joint_states_are_refused_counted_and_said_and_another_drivers_are_not_said(rig, capfd):
    robot = rig(**(STATE | {"states.body.wait_s": 0.0}))
    robot.activate()
    bad = [
        joints_message(STAMP_NS, elbow=(math.nan, 0)),
        joints_message(0, elbow=(0, 0)),
        joints_message(STAMP_NS, elbow=(0, 0)),
        joints_message(STAMP_NS, wheel=(0, 0)),
    ]
    bad[2].velocity = []
    for message in bad:
        robot.publish("/joint_states", message)
    robot.until(lambda: robot.node._samples.accounts["body"].received == 4, what="all four")
    assert robot.node._samples.accounts["body"].refused == {
        "nan": 1,
        "stamp": 1,
        "length": 1,
        "other_joints": 1,
    }
    said = capfd.readouterr().err
    assert "/joint_states: position and velocity of elbow" in said and "wheel" not in said


@pytest.mark.parametrize(
    "name, bad, good, accepted",
    [
        ("states.body.joints", ["a", "a"], JOINTS, "each once"),
        ("states.body.fields", ["effort"], ["position"], "position, velocity"),
        ("states.body.topic", "a b", "/joint_states", "name of a topic"),
        ("states.tokenizer", "linear", "fourier", "states.body.tokenizer_weights"),
        ("state_names", ["wrist"], ["body"], "differ from each other"),
        ("states.body.joints", [f"j{k}" for k in range(40)], JOINTS, "at most 16 joints"),
    ],
)
def test_a_bad_parameter_fails_configure(rig, capfd, name, bad, good, accepted):
    robot = rig(**(STATE | {"states.wrist.joints": JOINTS, name: bad}))
    assert robot.node.trigger_configure().name == "FAILURE"
    assert accepted in capfd.readouterr().err
    assert robot.node.set_parameters([Parameter(name, value=good)])[0].successful
    assert robot.node.trigger_configure().name == "SUCCESS"
