"""A parameter file means the same to the node and to the tools that read it without ROS."""

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message

from test.conftest import DEMO_BAG, ROOT
from test.ros.sensor_messages import MILLISECOND_NS, stamped_pose
from vit_perception.config.offline_settings import (
    read_parameters,
    settings_of_parameters,
    settings_of_recording,
)
from vit_perception.config.reading import all_parameters
from vit_perception.config.settings import BadSetting
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.encoder_node import EncoderNode
from vit_perception.ros.parameters import NodeParameters

# Where one value forbids another, or only some are accepted.
GIVEN = {
    "camera_names": ["wrist"],
    "pose_names": ["arm"],
    "state_names": ["hand"],
    "wrench_names": ["wrist_force"],
    "ray_names": ["looks"],
    "rays.looks.camera": "wrist",
    "rays.looks.pose": "arm",
    "rays.looks.tokens": ["points", "ray"],
    "rays.looks.translation_m": [0.1, 0.0, -0.2],
    "rays.looks.quaternion_xyzw": [0.0, 0.6, 0.0, 0.8],
    "model.more_checkpoints": ["/some/other"],
    "policy.state": ["arm.position"],
    "columns": ["action=/command@hold"],
    "states.hand.joints": ["a", "b"],
    "states.hand.fields": ["velocity"],
    "states.hand.continuous": ["b"],
    "cameras.wrist.labels": ["cup", "can"],
    "cameras.wrist.roi": [2, 4, 30, 20],
    "poses.arm.source": "tf",
    "engine.backend": "onnxruntime",
    "fusion.kind": "cross_attention",
    "model.network_size": "56x70",
    "model.mean": [0.1, 0.2, 0.3],
    "model.std": [0.25, 0.5, 1.0],
    "model.size": [56, 70],
    "history.frames": 3,
    "history.stride_s": 0.5,
    "history.tolerance_s": 0.1,
    "zero_shot.labels": ["cup", "can"],
    "zero_shot.templates": ["{}", "one {}"],
}
NAMES = {
    "cameras": "wrist",
    "poses": "arm",
    "states": "hand",
    "wrenches": "wrist_force",
    "rays": "looks",
}
# Forbidden by another one that is given.
LEFT_OUT = (
    "autostart",
    "cameras.wrist.zero_shot_labels",
    "engine.file",
    "tokens.basis",
    "poses.arm.deadline_s",
    "poses.arm.liveliness_s",
)


def another(spec):
    """A value that is accepted and is not the default."""
    if spec.name in GIVEN:
        return GIVEN[spec.name]
    if spec.choices:
        return next(c for c in reversed(spec.choices) if c != spec.default)
    if isinstance(spec.default, bool):
        return not spec.default
    if isinstance(spec.default, (int, float)):
        return type(spec.default)(spec.high if spec.high != spec.default else spec.low)
    return f"/some/{spec.name.replace('.', '/')}"


def read_by_the_node(values):
    node = EncoderNode(parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
    try:
        return NodeParameters(node).read()
    finally:
        node.close()
        node.destroy_node()


def test_every_parameter_is_read_alike(tmp_path):
    specs = all_parameters(NAMES)
    values = {spec.name: another(spec) for spec in specs if spec.name not in LEFT_OUT}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    assert settings_of_parameters(tmp_path / "all.yaml") == read_by_the_node(values)


EXAMPLES = {p.name for p in (ROOT / "config").glob("*.yaml")} - {"diagnostic_aggregator.yaml"}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_files_too(name):
    flat = {}

    def flatten(values, prefix=""):
        for key, value in values.items():
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else flat.__setitem__(
                prefix + key, value
            )

    flatten(
        next(iter(yaml.safe_load((ROOT / "config" / name).read_text()).values()))["ros__parameters"]
    )
    assert settings_of_parameters(ROOT / "config" / name) == read_by_the_node(flat)


def test_a_misspelt_parameter_and_a_file_that_is_none_are_named(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("/**: {ros__parameters: {camera_names: [a], cameras.a.topik: x}}")
    with pytest.raises(BadSetting, match="cameras.a.topik.*accepted: a parameter of the node"):
        settings_of_parameters(file)
    file.write_text("camera_names: [a]")
    with pytest.raises(
        ValueError, match="p.yaml is no parameter file: line 1: 'camera_names' holds no mapping"
    ):
        settings_of_parameters(file)


def test_a_recording_names_its_own_cameras_and_arms():
    settings = settings_of_recording(DEMO_BAG)
    assert [(c.name, c.topic, c.transport) for c in settings.cameras] == [
        (n, f"/{n}/image/compressed", "compressed") for n in ("agentview", "wrist")
    ]
    assert [(p.name, p.topic, p.frame_id) for p in settings.poses] == [("arm", "/ee_pose", "world")]


@pytest.mark.parametrize(
    "name, value, accepted",
    [
        ("top_k", "five", "int"),
        ("top_k", 4.5, "int"),
        ("top_k", True, "int"),
        ("top_k", None, "int"),
        ("sync.slop_s", "0.1", "float"),
        ("sync.slop_s", 1, "float .15.0, not 15."),
        ("views", "no", "bool"),
        ("dense.enabled", "false", "bool"),
        ("autostart", "yes", "bool"),
        ("model.checkpoint", 5, "str"),
        ("cameras.wrist.topic", 5, "str"),
        ("cameras.wrist.labels", "cup", "list of strings"),
        ("camera_names", "wrist", "list of strings"),
        ("camera_names", [1], "list of strings"),
        ("model.mean", [0, 0, 1], "list of 3 floats"),
        ("model.std", ["a", "b", "c"], "list of 3 floats"),
        ("model.std", 0.5, "list of 3 floats"),
        ("model.size", [56.0, 56.0], "list of 2 integers"),
        ("poses.arm.wait_s", 0, "float"),
        ("states.hand.joints", [], "names of joints"),
    ],
)
def test_a_value_of_another_type_is_refused_as_by_the_node(tmp_path, name, value, accepted):
    values = {
        "camera_names": ["wrist"],
        "pose_names": ["arm"],
        "poses.arm.frame_id": "world",
        "state_names": ["hand"],
        "states.hand.joints": ["a"],
        name: value,
    }
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    with pytest.raises(BadSetting, match=f"parameter '{name}' is .*; accepted: .*{accepted}"):
        settings_of_parameters(file)
    if value not in (None, [], [1]):  # what ROS itself gives no node
        node = Node(
            "reader", parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]
        )
        try:
            with pytest.raises(BadSetting, match=f"parameter '{name}' is "):
                NodeParameters(node).read()
        finally:
            node.destroy_node()


def test_numbers_are_read_as_ros_reads_them(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("/**: {ros__parameters: {camera_names: [a], min_score: 1e-3}}")
    assert settings_of_parameters(file).output.min_score == 0.001


def test_a_file_is_read_for_the_node_that_it_names(tmp_path):
    """A file of several nodes, of a node in a namespace, and topics that are relative to it."""
    file = tmp_path / "p.yaml"
    encoder = (
        "vit_encoder: {ros__parameters: {camera_names: [a, b, c, d], cameras: {a: {topic: x}, b: "
        "{topic: ~/x}, "
        "c: {topic: /x}}}}"
    )
    for text, prefix in (
        (f"/**: {{ros__parameters: {{use_sim_time: false}}}}\n{encoder}", ""),
        (f"camera_driver: {{ros__parameters: {{fps: 30}}}}\n{encoder}", ""),
        (f"robot1: {{arm: {{{encoder}}}}}", "/robot1/arm"),
    ):
        file.write_text(text)
        settings, node = read_parameters(file)
        assert node == f"{prefix}/vit_encoder"
        assert [c.topic for c in settings.cameras] == [
            f"{prefix}/x",
            f"{prefix}/vit_encoder/x",
            "/x",
            f"{prefix}/d/image",
        ]
    file.write_text("".join(f"{name}: {{{encoder}}}\n" for name in ("left", "right")))
    assert read_parameters(file, "/right/vit_encoder")[0].cameras[0].topic == "/right/x"
    with pytest.raises(InvalidValue, match="node is not given, .*; accepted: one of them"):
        read_parameters(file)
    with pytest.raises(BadSetting, match="camera_names"):
        read_parameters(file, "/vit_encoder")


def test_what_is_said_to_every_node_may_be_for_another_one(tmp_path, caplog):
    file = tmp_path / "p.yaml"
    file.write_text(
        "/**: {ros__parameters: {robot: r2, top_k: 2}}\n"
        "vit_encoder: {ros__parameters: {camera_names: [a]}}"
    )
    assert settings_of_parameters(file).output.top_k == 2
    assert "parameter 'robot' of /** is not one of /vit_encoder's" in caplog.text
    file.write_text(
        "/**: {ros__parameters: {top_k: 2}}\n"
        "vit_encoder: {ros__parameters: {camera_names: [a], robot: r2}}"
    )
    with pytest.raises(BadSetting, match="parameter 'robot' is 'r2'"):
        settings_of_parameters(file)


@pytest.mark.parametrize("empty", ["[]", "['']"])
def test_an_empty_list_is_none_to_both(tmp_path, empty):
    file = tmp_path / "p.yaml"
    file.write_text(
        f"/**: {{ros__parameters: {{camera_names: [a], cameras.a.topic: /a, cameras.a.labels: "
        f"{empty}, "
        f"pose_names: {empty}, state_names: {empty}, zero_shot.labels: {empty}}}}}"
    )
    context = Context()
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context)
    node = Node("vit_encoder", context=context)
    try:
        settings = NodeParameters(node).read()
    finally:
        node.destroy_node()
        context.try_shutdown()
    assert settings == settings_of_parameters(file) and not settings.poses and not settings.states
    file.write_text(f"/**: {{ros__parameters: {{camera_names: {empty}}}}}")
    with pytest.raises(BadSetting, match="'camera_names' is .*at least one camera"):
        settings_of_parameters(file)


def poses_bag(folder, frames):
    """A bag with an image, and a pose a frame_id of ``frames``."""
    with BagReader(DEMO_BAG) as bag, BagWriter(folder) as out:
        image = next(bag.raw(["/wrist/image/compressed"]))
        out.write("/wrist/image/compressed", image.type_name, image.data, image.stamp_ns)
        for k, frame_id in enumerate(frames):
            pose = stamped_pose((k + 1) * MILLISECOND_NS, frame_id=frame_id)
            out.write(
                "/ee_pose",
                "geometry_msgs/msg/PoseStamped",
                serialize_message(pose),
                image.stamp_ns + k,
            )
    return folder


def test_poses_without_a_frame_are_named_and_can_be_taken(tmp_path, caplog):
    bag = poses_bag(tmp_path / "bag", ["", "", ""])
    assert settings_of_recording(bag).poses == ()
    assert (
        "left out: the 3 poses of /ee_pose, whose headers name no frame" in caplog.text
        and "poses.arm.accept_empty_frame: true" in caplog.text
    )
    file = tmp_path / "p.yaml"
    file.write_text(
        "/**: {ros__parameters: {camera_names: [a], pose_names: [arm], poses.arm.topic: /ee_pose, "
        "poses.arm.accept_empty_frame: true}}"
    )
    (arm,) = settings_of_parameters(file).poses
    assert (arm.frame_id, arm.accept_empty_frame) == ("", True)
    file.write_text(file.read_text().replace("true", "false"))
    with pytest.raises(
        BadSetting, match="poses.arm.frame_id.*only with poses.arm.accept_empty_frame"
    ):
        settings_of_parameters(file)
    later = poses_bag(tmp_path / "later", ["", "world"])
    assert settings_of_recording(later).poses[0].frame_id == "world"
