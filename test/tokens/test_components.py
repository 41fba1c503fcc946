"""Parts of poses, joint states and wrenches: their numbers, and whether a policy takes them."""

import re

import numpy as np
import pytest

from test.tokens.policy_states import STAMP_NS, settings_of
from vit_perception.config.settings import BadSetting, StateSettings
from vit_perception.heads.policy_state import StateSpec
from vit_perception.streams.rotation import rotation_matrix, rotation_vector
from vit_perception.tokens.components import parts_of
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.policy_state import check_parts
from vit_perception.tokens.source import sampled
from vit_perception.tokens.wrench import WrenchSettings
from vit_perception.wire.records import Pose, Sample


def parts(texts, **named):
    given = settings_of("x", (), **named)
    return parts_of(texts, sampled(sources_of(given)))


def test_every_form_of_a_part():
    turn = np.array([0.1, -0.2, 0.3, 0.9])
    pose = Pose(np.array([1.0, 2.0, 3.0]), turn / np.linalg.norm(turn), STAMP_NS, "")
    matrix = rotation_matrix(pose.quaternion_xyzw)
    body = Sample(np.array([0.1, 0.2, 3.0, 4.0]), STAMP_NS, "")
    force = Sample(np.arange(6.0), STAMP_NS, "")
    settings = {
        "states": (StateSettings("body", "/j", ("a", "b"), ("position", "velocity")),),
        "extra": {"wrenches": (WrenchSettings("hand", "/w", "tool"),)},
    }
    roll, pitch, yaw = parts(("arm.rpy",))[0].component.of(pose)
    about_x = np.array([np.sin(roll / 2), 0, 0, np.cos(roll / 2)])
    about_y = np.array([0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    about_z = np.array([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)])
    made = rotation_matrix(about_z) @ rotation_matrix(about_y) @ rotation_matrix(about_x)
    np.testing.assert_allclose(made, matrix, atol=1e-12)
    for text, value, wanted in (
        ("arm.position", pose, [1, 2, 3]),
        ("arm.quaternion", pose, pose.quaternion_xyzw),
        ("arm.rotation6d", pose, [*matrix[:, 0], *matrix[:, 1]]),
        ("arm.rotation_vector", pose, rotation_vector(pose.quaternion_xyzw)),
        ("arm.rpy_deg", pose, np.degrees([roll, pitch, yaw])),
        ("body", body, [0.1, 0.2]),
        ("body.position", body, [0.1, 0.2]),
        ("body.position_deg", body, np.degrees([0.1, 0.2])),
        ("body.velocity", body, [3, 4]),
        ("hand.force", force, [0, 1, 2]),
        ("hand.torque", force, [3, 4, 5]),
    ):
        (part,) = parts((text,), **settings)
        np.testing.assert_allclose(part.component.of(value), wanted, atol=1e-12, err_msg=text)
        assert len(part.names) == len(wanted)


def named(*names: str) -> StateSpec:
    return StateSpec(count=len(names), inputs=8, width=4, names=names)


@pytest.mark.parametrize(
    "names, wrong",
    [
        (("x", "y", "z", "finger.pos"), None),
        (("EE.X", "ee.y", "ee.z", "gripper.pos"), None),
        (("finger.pos", "x", "y", "z"), "arm.position.x is number 1 here and number 2 there"),
        (("x", "z", "y", "other"), "arm.position.y is number 2 here and number 3 there"),
        (("arm.x", "arm.y", "finger", "arm.z"), "arm.position.z is number 3 here and number 4"),
        # Said twice, a name is no place.
        (("a", "x", "x", "b"), None),
    ],
)
def test_the_order_is_held_against_declared_names(names, wrong):
    chosen = parts(("arm.position", "gripper"))
    if wrong is None:
        check_parts(chosen, named(*names), "p")
        return
    with pytest.raises(BadSetting, match=f"the policy's order {re.escape(names[0])}.*{wrong}"):
        check_parts(chosen, named(*names), "p")


@pytest.mark.parametrize("kind, at", [("min_max", "-3 and 93"), ("quantiles", "-3 and 93")])
def test_angles_of_another_unit_are_found_by_the_statistics(kind, at):
    spec = StateSpec(
        count=4, inputs=8, width=4, normalisation=kind, first=(-3,) * 4, second=(3, 93, 3, 3)
    )
    with pytest.raises(BadSetting, match=f"arm.rpy.pitch is at most 3.142 rad.*{at}"):
        check_parts(parts(("arm.rpy", "gripper")), spec, "p")
    check_parts(parts(("arm.rpy_deg", "gripper")), spec, "p")
    # Of joints nothing is known: they may turn further, or slide.
    check_parts(parts(("gripper",) * 4), spec, "p")
