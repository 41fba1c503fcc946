"""Names of sources from the names of their topics."""

import re

import pytest

from vit_perception.ros.suggest.names import (
    ARMS,
    CAMERAS,
    MOST_CHARACTERS,
    STATES,
    WRENCHES,
    names_of,
)


@pytest.mark.parametrize(
    "naming, topics, names",
    [
        (CAMERAS, ["/agentview", "/wrist"], ["agentview", "wrist"]),
        (CAMERAS, ["/image_raw"], ["camera"]),
        (CAMERAS, ["/camera/color"], ["camera"]),
        (CAMERAS, ["/camera_1/color", "/camera_2/color"], ["camera_1", "camera_2"]),
        (
            CAMERAS,
            ["/left/wrist_camera", "/right/wrist_camera", "/overhead"],
            ["left_wrist_camera", "right_wrist_camera", "overhead"],
        ),
        (CAMERAS, ["/camera/infra1", "/0"], ["infra1", "camera_0"]),
        (CAMERAS, ["/left", "/cam/image_raw", "/camera"], ["left_camera", "camera", "camera_2"]),
        (ARMS, ["/ee_pose"], ["arm"]),
        (ARMS, ["/left/ee_pose", "/right/ee_pose"], ["left_arm", "right_arm"]),
        (ARMS, ["/franka_state_broadcaster/current_pose"], ["franka"]),
        (ARMS, ["/tcp_pose", "/robot/ee_pose"], ["arm", "arm_2"]),
        (STATES, ["/joint_states", "/gripper/joint_states"], ["joints", "gripper"]),
        (WRENCHES, ["/force_torque_sensor_broadcaster/wrench"], ["wrench"]),
        (WRENCHES, ["/wrist/ft_sensor/wrench"], ["wrist"]),
    ],
)
def test_a_name_says_where_the_topic_comes_from(naming, topics, names):
    assert list(names_of(topics, naming, set()).values()) == names


def test_names_that_another_kind_has_get_an_ending():
    used = {"wrist", "wrist_arm"}
    assert names_of(["/wrist/pose"], ARMS, used) == {"/wrist/pose": "wrist_arm_2"}
    assert names_of(["/wrist/joint_states"], STATES, used) == {
        "/wrist/joint_states": "wrist_joints"
    }
    assert used == {"wrist", "wrist_arm", "wrist_arm_2", "wrist_joints"}


def test_many_long_topics_have_names_that_differ_and_the_node_accepts():
    topics = [f"/{'a' * 200}/{k % 3}/{'b' * 200}" for k in range(9)]
    topics = [f"{topic}/{k}x" for k, topic in enumerate(topics)]
    found = names_of(topics, CAMERAS, set()).values()
    assert len(set(found)) == 9
    for name in found:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and len(name) < MOST_CHARACTERS + 20
