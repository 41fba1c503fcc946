"""A node whose checkpoint does not say its preprocessing: parameters, and the file, are one."""

import shutil

import numpy as np
import pytest

from test.checkpoints.test_by_hand import FILE, MEAN, STD, what_the_error_says
from test.ros.sensor_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline

STAMP_NS = 5_000_000_000
GIVEN = {"model__mean": list(MEAN), "model__std": list(STD), "model__size": [56, 56]}


@pytest.fixture
def bare(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (folder / FILE).unlink()
    return folder


def test_what_the_node_sends_is_what_the_file_gives(rig, bare):
    said = what_the_error_says(bare)
    robot = rig(model__checkpoint=str(bare), **GIVEN)
    robot.activate()
    message = image_message(STAMP_NS)
    robot.publish("/wrist/image", message)
    tokens = robot.frame(STAMP_NS).tokens
    robot.until(lambda: robot.tester.layout.cameras[0].source_size_px, what="the geometry")
    (bare / FILE).write_text(said.content)
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("wrist", "/wrist/image"),),
            model=ModelSettings(str(bare)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    prepared = pipeline.prepare({"wrist": message})
    result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
    images = {"wrist": result.cameras["wrist"].image}
    np.testing.assert_array_equal(tokens, result.sequence.tokens)
    assert robot.tester.layout.to_json() == pipeline.layout(images).to_json()
    assert robot.tester.layout.model == "bare (preprocessing given by hand)"
    pipeline.close()


def test_a_missing_part_is_named_and_set_at_run_time(rig, bare):
    from rclpy.parameter import Parameter

    robot = rig(model__checkpoint=str(bare), **{**GIVEN, "model__std": [""]})
    assert robot.node.trigger_configure().name == "FAILURE"
    assert robot.node.set_parameters([Parameter("model.std", value=list(STD))])[0].successful
    robot.activate()
    [refused] = robot.node.set_parameters([Parameter("model.std", value=[0.5, 0.5, 0.5])])
    assert not refused.successful and "the engine is opened" in refused.reason
