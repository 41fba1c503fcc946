"""What `ros2 param describe` shows, and how YAML-like overrides become settings."""

import pytest
import rclpy
from rclpy.parameter import Parameter

from vit_perception.config.reading import all_parameters
from vit_perception.config.settings import BadSetting
from vit_perception.ros.parameters import NodeParameters


@pytest.fixture
def make_node():
    made = []

    def make(**overrides):
        values = [Parameter(k.replace("__", "."), value=v) for k, v in overrides.items()]
        made.append(rclpy.create_node("parameters_under_test", parameter_overrides=values))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def test_everything_given_arrives_in_the_settings(make_node):
    node = make_node(
        camera_names=["left", "right"],
        cameras__left__topic="/l",
        cameras__left__transport="compressed",
        pose_names=["arm"],
        poses__arm__topic="/p",
        poses__arm__frame_id="base",
        poses__arm__wait_s=0.1,
        poses__policy="require",
        engine__backend="tensorrt",
        engine__threads=3,
        engine__file="/engines/a",
        engine__check_memory=False,
        engine__device=1,
        sync__policy="mask",
        output_dtype="float16",
        top_k=2,
        max_rate_hz=12.5,
        model__block=1,
        model__family="dinov2",
        min_score=0.25,
        views=False,
        cameras__left__labels=["a", "b"],
        cameras__right__labels=[""],
        cameras__left__roi=[8, 0, 32, 24],
        cameras__right__roi=[""],
        state_names=["body"],
        states__body__joints=["elbow", "gripper"],
        states__body__fields=["velocity"],
        states__body__continuous=["elbow"],
        states__body__max_skew_s=0.2,
        states__policy="require",
    )
    settings = NodeParameters(node).read()
    left, right = settings.cameras
    assert (left.topic, left.transport, right.topic, right.transport) == (
        "/l",
        "compressed",
        "/right/image",  # its default, by the full name
        "raw",
    )
    assert (settings.poses[0].frame_id, settings.poses[0].wait_s, settings.pose_policy) == (
        "base",
        0.1,
        "require",
    )
    assert (settings.engine.backend, settings.engine.threads, settings.model.block) == (
        "tensorrt",
        3,
        1,
    )
    assert (settings.engine.file, settings.engine.check_memory) == ("/engines/a", False)
    assert settings.engine.device == 1
    assert settings.model.family == "dinov2"
    assert (settings.sync.policy, settings.output.dtype) == ("mask", "float16")
    assert (settings.output.top_k, settings.output.max_rate_hz) == (2, 12.5)
    assert (settings.output.min_score, settings.output.views) == (0.25, False)
    assert (left.labels, right.labels, settings.state_policy) == (("a", "b"), (), "require")
    assert (left.roi, right.roi) == ((8, 0, 32, 24), ())
    assert left.region == (8, 0, 32, 24) and right.region is None
    (body,) = settings.states
    assert (body.topic, body.joints, body.fields) == (
        "/joint_states",
        ("elbow", "gripper"),
        ("velocity",),
    )
    assert body.continuous == ("elbow",)
    assert (body.wait_s, body.max_skew_s) == (0.02, 0.2)


def test_a_pose_of_tf_needs_no_topic(make_node):
    node = make_node(
        camera_names=["wrist"],
        pose_names=["arm"],
        poses__arm__source="tf",
        poses__arm__base_frame="base",
        poses__arm__ee_frame="tool0",
    )
    arm = NodeParameters(node).read().poses[0]
    assert (arm.source, arm.base_frame, arm.ee_frame, arm.expected_frame_id) == (
        "tf",
        "base",
        "tool0",
        "base",
    )


def test_labels_and_templates_arrive_as_given_and_by_default(make_node):
    node = make_node(
        camera_names=["left", "right"],
        zero_shot__labels=["cup", "can"],
        cameras__right__zero_shot_labels=["open"],
    )
    settings = NodeParameters(node).read()
    assert (settings.zero_shot.labels, settings.zero_shot.templates) == (
        ("cup", "can"),
        ("a photo of a {}.",),
    )
    assert [camera.zero_shot_labels for camera in settings.cameras] == [(), ("open",)]
    node = make_node(
        camera_names=["left"], zero_shot__labels=["cup"], zero_shot__templates=["{}", "one {}"]
    )
    assert NodeParameters(node).read().zero_shot.templates == ("{}", "one {}")
    with pytest.raises(BadSetting, match="zero_shot.templates.*with {} once"):
        NodeParameters(make_node(camera_names=["left"], zero_shot__templates=["a photo"])).read()


def test_every_parameter_has_a_description_and_every_number_its_bounds(make_node):
    node = make_node(
        camera_names=["wrist"],
        pose_names=["arm"],
        poses__arm__frame_id="base",
        state_names=["body"],
        states__body__joints=["elbow"],
        wrench_names=["hand"],
        wrenches__hand__frame_id="tool",
        ray_names=["looks"],
        rays__looks__camera="wrist",
    )
    NodeParameters(node).read()
    names = {
        "cameras": "wrist",
        "poses": "arm",
        "states": "body",
        "wrenches": "hand",
        "rays": "looks",
    }
    for spec in all_parameters(names):
        described = node.describe_parameter(spec.name)
        assert len(described.description) > 10, spec.name
        if isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool):
            ranges = list(described.floating_point_range) + list(described.integer_range)
            assert len(ranges) == 1 and ranges[0].from_value < ranges[0].to_value, spec.name
    assert node.describe_parameter("engine.backend").additional_constraints == (
        "one of auto, tensorrt, tensorrt_rtx, torch, openvino, onnxruntime"
    )


def test_without_cameras_the_error_says_what_is_needed(make_node):
    with pytest.raises(BadSetting, match="camera_names.*at least one"):
        NodeParameters(make_node()).read()


def test_a_value_of_a_wrong_type_is_remembered_until_it_is_set(make_node):
    node = make_node(camera_names=["wrist"], top_k="five", sync__slop_s=7.0)
    parameters = NodeParameters(node)
    with pytest.raises(
        BadSetting, match="'top_k' is 'five'; accepted: int from 1 to 1000|'sync.slop_s' is 7.0"
    ):
        parameters.read()
    parameters.was_set("top_k")
    with pytest.raises(
        BadSetting, match=r"'sync.slop_s' is 7.0; accepted: float \(15.0, not 15\) from 0 to 1"
    ):
        parameters.read()
    parameters.was_set("sync.slop_s")
    assert parameters.read().output.top_k == 5


@pytest.mark.parametrize("name", ["1st", "left wrist", "a.b", ""])
def test_a_name_that_cannot_be_a_topic_is_refused(make_node, name):
    with pytest.raises(BadSetting, match="camera_names"):
        NodeParameters(make_node(camera_names=[name])).read()
