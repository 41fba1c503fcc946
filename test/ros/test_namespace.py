"""A namespace moves the whole node of an example file: what it hears and what it publishes."""

import pytest
import yaml
from rclpy.parameter import Parameter

from test.conftest import ROOT
from test.waiting import wait_until
from vit_perception.ros.encoder_node import EncoderNode

# Of the whole computer, not of one robot.
GLOBAL = {"/diagnostics", "/parameter_events", "/rosout", "/clock", "/tf", "/tf_static"}
FILES = ("one_camera_one_arm", "three_cameras_two_arms")


def topics(ask, node: EncoderNode) -> set[str]:
    return {name for name, _ in ask(node.get_name(), node.get_namespace())} - GLOBAL


@pytest.mark.parametrize("file", FILES)
def test_no_topic_of_an_example_stays_behind(file, tiny_classifier, capfd):
    given = yaml.safe_load((ROOT / f"config/{file}.yaml").read_text())["/**"]["ros__parameters"]
    inputs = {v for name, v in given.items() if name.endswith(".topic")}
    values = {
        **given,
        "model.checkpoint": str(tiny_classifier),
        "engine.backend": "torch",
        "engine.precision": "float32",
    }
    node = EncoderNode(
        namespace="/robot_1",
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    try:
        assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
        wait_until(
            lambda: (
                topics(node.get_subscriber_names_and_types_by_node, node)
                == {f"/robot_1/{name}" for name in inputs}
            ),
            "a subscription of every input, below the namespace",
        )
        said = capfd.readouterr().err
        assert all(f"/robot_1/{name}" in said for name in inputs), "the log has the full names"
        published = topics(node.get_publisher_names_and_types_by_node, node)
        assert "/robot_1/vit_encoder/tokens" in published
        assert all(name.startswith("/robot_1/vit_encoder/") for name in published)
    finally:
        node.close()
        node.destroy_node()
