"""A parameter file means the same to the node and to the tools that read it without ROS."""

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from test.conftest import DEMO_BAG, ROOT
from vit_perception.bags.recording_settings import settings_of_parameters, settings_of_recording
from vit_perception.ros.encoder_node import EncoderNode
from vit_perception.ros.parameters import NODE, NodeParameters, camera_specs, pose_specs, state_specs
from vit_perception.settings import BadSetting

# Where one value forbids another, or only some are accepted.
GIVEN = {"camera_names": ["wrist"], "pose_names": ["arm"], "state_names": ["hand"], "states.hand.joints": ["a", "b"],
         "states.hand.fields": ["velocity"], "states.hand.continuous": ["b"],
         "cameras.wrist.labels": ["cup", "can"], "poses.arm.source": "tf",
         "engine.backend": "onnxruntime", "fusion.kind": "cross_attention", "model.network_size": "56x70",
         "zero_shot.labels": ["cup", "can"], "zero_shot.templates": ["{}", "one {}"]}
# Forbidden by another one that is given.
LEFT_OUT = ("autostart", "cameras.wrist.zero_shot_labels")


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
    specs = [*NODE, *camera_specs("wrist"), *pose_specs("arm"), *state_specs("hand")]
    values = {spec.name: another(spec) for spec in specs if spec.name not in LEFT_OUT}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    assert settings_of_parameters(tmp_path / "all.yaml") == read_by_the_node(values)


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "config").glob("*.yaml")))
def test_the_example_files_too(name):
    flat = {}

    def flatten(values, prefix=""):
        for key, value in values.items():
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else flat.__setitem__(prefix + key, value)

    flatten(next(iter(yaml.safe_load((ROOT / "config" / name).read_text()).values()))["ros__parameters"])
    assert settings_of_parameters(ROOT / "config" / name) == read_by_the_node(flat)


def test_a_misspelt_parameter_and_a_file_that_is_none_are_named(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("/**: {ros__parameters: {camera_names: [a], cameras.a.topik: x}}")
    with pytest.raises(BadSetting, match="cameras.a.topik.*accepted: a parameter of the node"):
        settings_of_parameters(file)
    file.write_text("camera_names: [a]")
    with pytest.raises(ValueError, match="is no parameter file of one node"):
        settings_of_parameters(file)


def test_a_recording_names_its_own_cameras_and_arms():
    settings = settings_of_recording(DEMO_BAG)
    assert [(c.name, c.topic, c.transport) for c in settings.cameras] == [
        (n, f"/{n}/image/compressed", "compressed") for n in ("agentview", "wrist")]
    assert [(p.name, p.topic, p.frame_id) for p in settings.poses] == [("arm", "/ee_pose", "world")]


@pytest.mark.parametrize("name, value, accepted", [
    ("top_k", "five", "int"), ("top_k", 4.5, "int"), ("top_k", True, "int"), ("top_k", None, "int"),
    ("sync.slop_s", "0.1", "float"), ("sync.slop_s", 1, "float .15.0, not 15."), ("views", "no", "bool"),
    ("dense.enabled", "false", "bool"), ("autostart", "yes", "bool"), ("model.checkpoint", 5, "str"),
    ("cameras.wrist.topic", 5, "str"), ("cameras.wrist.labels", "cup", "list of strings"),
    ("camera_names", "wrist", "list of strings"), ("camera_names", [1], "list of strings"),
    ("poses.arm.wait_s", 0, "float"), ("states.hand.joints", [], "names of joints")])
def test_a_value_of_another_type_is_refused_as_by_the_node(tmp_path, name, value, accepted):
    values = {"camera_names": ["wrist"], "pose_names": ["arm"], "poses.arm.frame_id": "world", "state_names": ["hand"],
              "states.hand.joints": ["a"], name: value}
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    with pytest.raises(BadSetting, match=f"parameter '{name}' is .*; accepted: .*{accepted}"):
        settings_of_parameters(file)
    if value not in (None, [], [1]):  # what ROS itself gives no node
        node = Node("reader", parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
        try:
            with pytest.raises(BadSetting, match=f"parameter '{name}' is "):
                NodeParameters(node).read()
        finally:
            node.destroy_node()


def test_numbers_are_read_as_ros_reads_them(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("/**: {ros__parameters: {camera_names: [a], min_score: 1e-3}}")
    assert settings_of_parameters(file).output.min_score == 0.001
