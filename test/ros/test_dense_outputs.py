"""Depth and segmentation as topics of the node, over real DDS."""

import numpy as np
import pytest
import yaml
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from torch.nn import functional
from vision_msgs.msg import VisionInfo

from test.checkpoints.dense.dense_models import dpt_config, dpt_depth, randomise, save
from test.conftest import ROOT
from test.pipeline.test_pipeline_dense import open_pipeline, reference
from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.config.reading import all_parameters
from vit_perception.config.settings import ModelSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.qos import LATCHED_QOS, tensor_qos
from vit_perception.wire.stamps import stamp_ns_of
from vit_perception.wire.tensors import decode_tensor

STAMP_NS = 5_000_000_000


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return dpt_depth(tmp_path_factory.mktemp("tiny_dpt"))


def collect(robot, kind, topic, qos=tensor_qos()) -> list:
    """The messages of a topic as they come, by a subscription of the tester that the node knows
    of.
    """
    got = []
    robot.tester.create_subscription(kind, topic, got.append, qos)
    robot.matched()
    return got


def test_depth_is_the_torch_reference_frame_for_frame(rig, depth):
    model, folder = depth
    robot = rig(model__checkpoint=str(folder), dense__enabled=True)
    robot.activate()
    got = collect(robot, Image, "/vit_encoder/wrist/depth")
    pipeline = open_pipeline(folder, cameras=("wrist",))
    for number in range(3):
        stamp_ns = STAMP_NS + number * 100 * MILLISECOND_NS
        message = image_message(stamp_ns, seed=number)
        robot.publish("/wrist/image", message)
        robot.frame(stamp_ns)
        found = robot.until(
            lambda: [m for m in got if stamp_ns_of(m.header) == stamp_ns], what="depth"
        )[0]
        assert (found.encoding, found.height, found.width, found.step) == ("32FC1", 48, 64, 256)
        assert found.header == message.header
        wanted = functional.interpolate(
            reference(model, pipeline, message)[None], (48, 64), mode="bicubic"
        )[0, 0]
        np.testing.assert_allclose(decode_tensor(found), wanted.numpy(), atol=1e-4)
    assert len(got) == 3
    layout = robot.tester.layout
    assert (layout.dense.kind, layout.dense.quantity, layout.dense.unit) == (
        "depth",
        "relative_inverse_depth",
        "",
    )
    pipeline.close()


def test_it_is_computed_only_while_somebody_subscribes(rig, depth, monkeypatch):
    _, folder = depth
    robot = rig(model__checkpoint=str(folder), dense__enabled=True)
    robot.activate()
    runs = []
    module = robot.node._pipeline.dense.spec.module
    monkeypatch.setattr(
        module, "forward", lambda *a, made=module.forward: runs.append(1) or made(*a)
    )
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    assert not runs
    got = collect(robot, Image, "/vit_encoder/wrist/depth")
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.until(lambda: got, what="depth")
    assert len(runs) == 1


def test_segmentation_comes_with_its_latched_info(rig, tmp_path):
    from transformers import DPTForSemanticSegmentation

    model = randomise(
        DPTForSemanticSegmentation(dpt_config(id2label={0: "wall", 1: "floor", 2: "can"})), 0
    )
    folder = save(model, tmp_path, {"height": 32, "width": 32})
    robot = rig(model__checkpoint=str(folder), dense__enabled=True)
    robot.activate()
    got = collect(robot, Image, "/vit_encoder/wrist/segmentation")
    infos = collect(robot, VisionInfo, "/vit_encoder/wrist/segmentation_info", LATCHED_QOS)
    image = image_message(STAMP_NS, seed=1)
    robot.publish("/wrist/image", image)
    found = robot.until(lambda: got, what="segmentation")[0]
    assert (found.encoding, found.height, found.width, found.header) == (
        "mono8",
        48,
        64,
        image.header,
    )
    pipeline = open_pipeline(folder, cameras=("wrist",))
    prepared = pipeline.prepare({"wrist": image})
    camera = pipeline.assemble(prepared, pipeline.encode(prepared), {}).cameras["wrist"]
    np.testing.assert_array_equal(decode_tensor(found), pipeline.dense_values(camera))
    info = robot.until(lambda: infos, what="segmentation_info")[0]
    assert info.database_location == "/vit_encoder/layout#dense.labels"
    assert info.method == robot.tester.layout.model
    assert robot.tester.layout.dense.labels == ("wall", "floor", "can")
    embedded = embedded_of(pipeline, image, tmp_path)
    assert bytes(embedded["wrist/segmentation"].data) == bytes(found.data)
    assert embedded["wrist/segmentation"].encoding == found.encoding
    assert embedded["wrist/segmentation"].header.stamp.sec == found.header.stamp.sec
    assert embedded["wrist/segmentation_info"].method == info.method
    assert embedded["wrist/segmentation_info"].database_location == info.database_location
    pipeline.close()


def embedded_of(pipeline, image, folder) -> dict:
    """The last message of each topic that `embed` writes for a bag of ``image``."""
    with BagWriter(folder / "bag") as bag:
        bag.write("/wrist", "sensor_msgs/msg/Image", serialize_message(image), STAMP_NS)
    options = EmbedOptions("mcap", features=("tokens", "dense"))
    embed(pipeline, [BagSource(folder / "bag", "/wrist")], folder / "out", options)
    with BagReader(folder / "out") as bag:
        messages = bag.messages(list(bag.topics))
        return {topic.removeprefix("/vit_encoder/"): message for topic, _, message in messages}


def test_off_there_is_no_such_topic(rig, depth):
    robot = rig(model__checkpoint=str(depth[1]))
    robot.activate()
    names = [name for name, _ in robot.node.get_topic_names_and_types()]
    assert (
        not [n for n in names if "depth" in n or "segmentation" in n]
        and "/vit_encoder/wrist/cls_token" in names
    )


def test_a_checkpoint_without_the_head_fails_configure(rig):
    robot = rig(dense__enabled=True)
    assert robot.node.trigger_configure().name == "FAILURE"


def test_the_example_config_names_parameters_of_the_node_and_a_size_that_fits_its_checkpoint():
    parameters = yaml.safe_load((ROOT / "config/depth.yaml").read_text())["/**"]["ros__parameters"]
    known = {parameter.name for parameter in all_parameters({"cameras": "wrist"})}
    assert set(parameters) <= known and parameters["dense.enabled"] is True
    size_px = ModelSettings(network_size=parameters["model.network_size"]).network_size_px
    assert all(side % 14 == 0 for side in size_px)
