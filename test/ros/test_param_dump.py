"""What `ros2 param dump` writes of a running node starts the same node."""

import importlib.util
import shutil
import subprocess

import pytest
import yaml
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python

from test.conftest import ROOT
from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.ros.encoder_node import EncoderNode

NODE = "/vit_encoder"
GIVEN = {
    "camera_names": ["wrist", "front"],
    "cameras.wrist.topic": "/wrist/image",
    "cameras.wrist.roi": [2, 4, 30, 20],
    "cameras.wrist.deadline_s": 0.5,
    "cameras.front.topic": "/front/image",
    "pose_names": ["arm"],
    "poses.arm.topic": "/ee_pose",
    "poses.arm.frame_id": "base_link",
    "state_names": ["body"],
    "states.body.topic": "/joints",
    "states.body.joints": ["elbow", "on"],
    "wrench_names": ["hand"],
    "wrenches.hand.topic": "/wrench",
    "wrenches.hand.frame_id": "tool",
    "max_rate_hz": 1e-2,
    "qos_overrides./wrist/image.subscription.reliability": "reliable",
    "columns": ["action=/command@hold"],
}


def ask(robot, kind, name: str, request):
    client = robot.tester.create_client(kind, f"{NODE}/{name}")
    robot.until(client.service_is_ready, what=name)
    answer = client.call_async(request)
    robot.until(answer.done, what=f"the answer of {name}")
    return answer.result()


def by_the_services(robot) -> str:
    """The text that the verb dump of ros2param makes, by the calls that it makes: all names, then
    all values in one call, in nested groups, by PyYAML's dump.
    """
    names = sorted(
        ask(robot, ListParameters, "list_parameters", ListParameters.Request()).result.names
    )
    request = GetParameters.Request(names=names)
    values = ask(robot, GetParameters, "get_parameters", request).values
    assert len(values) == len(names), "one parameter without a value makes the answer empty"
    groups: dict = {}
    for name, value in zip(names, values):
        *above, last = name.split(".")
        group = groups
        for part in above:
            group = group.setdefault(part, {})
        group[last] = parameter_value_to_python(value)
    return yaml.dump({NODE: {"ros__parameters": groups}}, default_flow_style=False)


def by_ros2(robot) -> str:
    done = subprocess.Popen(
        ["ros2", "param", "dump", "--no-daemon", "--spin-time", "5", "--timeout", "60", NODE],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    robot.until(lambda: done.poll() is not None, what="the end of ros2 param dump")
    return done.communicate()[0]


has_ros2 = shutil.which("ros2") is not None and importlib.util.find_spec("ros2param") is not None


@pytest.mark.parametrize(
    "dump",
    [
        by_the_services,
        pytest.param(
            by_ros2,
            marks=pytest.mark.skipif(not has_ros2, reason="ros2 param is not installed"),
        ),
    ],
)
def test_a_dumped_file_starts_the_same_node(rig, tmp_path, dump):
    robot = rig(**GIVEN)
    robot.activate()
    wanted = robot.node._pipeline.layout().layout_id
    before = robot.node._settings_source.read()
    file = tmp_path / "dumped.yaml"
    file.write_text(dump(robot))
    robot.close()
    again = EncoderNode(cli_args=["--ros-args", "--params-file", str(file)])
    try:
        assert again.trigger_configure().name == "SUCCESS"
        assert again.trigger_activate().name == "SUCCESS"
        assert again._settings_source.read() == before
        assert again._pipeline.layout().layout_id == wanted
        (wrist,) = (s for s in again.subscriptions if s.topic_name == "/wrist/image")
        assert wrist.qos_profile.reliability.name == "RELIABLE"
    finally:
        again.close()
        again.destroy_node()
    # `embed` reads it too.
    assert settings_of_parameters(file) == before
