"""Rectified images live: equal to what `embed` gives for a bag, also where the calibration changes;
a latched CameraInfo; hostile ones, which the node survives.
"""

import math

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from test.image.camera_infos import camera_info, rotation
from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.image.camera_info import calibration_of
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.recordings.reader import BagError
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.messages import header_of
from vit_perception.ros.parameters import NodeParameters
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.streams import calibrations, pairing

STAMP_NS, FRAME_NS = 5_000_000_000, 100 * MILLISECOND_NS
IMAGE, INFO = "/wrist/image", "/wrist/camera_info"
ROI = (6, 4, 50, 40)


def stamp_ns(frame: int) -> int:
    return STAMP_NS + frame * FRAME_NS


def info_message(stamp_ns: int, model: str = "plumb_bob", **fields) -> CameraInfo:
    plain = camera_info(model, **fields)
    message = CameraInfo(header=header_of(stamp_ns, "camera_optical_frame"))
    for name in ("height", "width", "distortion_model", "k", "r", "p"):
        setattr(message, name, getattr(plain, name))
    message.d = [float(value) for value in plain.d]
    return message


def opened(checkpoint, **camera):
    camera = CameraSettings("wrist", IMAGE, rectify=True, **camera)
    model, engine = ModelSettings(str(checkpoint)), EngineSettings("torch", "float32")
    return Pipeline.open(EncoderSettings((camera,), model=model, engine=engine))


def recorded(path, messages):
    """A bag of (topic, message), each recorded a millisecond after the one before."""
    kinds = {IMAGE: "sensor_msgs/msg/Image", INFO: "sensor_msgs/msg/CameraInfo"}
    with BagWriter(path) as bag:
        for k, (topic, message) in enumerate(messages):
            data = serialize_message(message)
            bag.write(topic, kinds[topic], data, STAMP_NS + k * MILLISECOND_NS)
    return BagSource(path, IMAGE)


def tokens_of(pipeline, message, info) -> np.ndarray:
    calibration = {"wrist": calibration_of(info)}
    prepared = pipeline.prepare({"wrist": message}, calibrations=calibration)
    return pipeline.assemble(prepared, pipeline.encode(prepared), {}).sequence.tokens


def test_live_equals_embed_also_where_the_calibration_changes(
    rig, tiny_checkpoint, tmp_path, monkeypatch
):
    """From frame 2 on it is another one, which comes after the image of its stamp."""
    monkeypatch.setattr(calibrations, "WAIT_S", 60.0)
    monkeypatch.setattr(pairing, "SILENT_S", 3600.0)
    turned = {"r": rotation(0.1, -0.05, 0.2)}
    infos = [
        info_message(stamp_ns(0)),
        info_message(stamp_ns(1)),
        info_message(stamp_ns(2), "equidistant", **turned),
        info_message(stamp_ns(3), "equidistant", **turned),
    ]
    images = [image_message(stamp_ns(k), k) for k in range(4)]
    messages = []
    for image, info in zip(images, infos):
        messages += [(IMAGE, image), (INFO, info)]
    pipeline = opened(tiny_checkpoint, roi=ROI)
    source = recorded(tmp_path / "bag", messages)
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    assert (manifest["frames"], manifest["dropped"]) == (4, {})
    embedded = FeatureDataset(tmp_path / "out")
    for row, (image, info) in enumerate(zip(images, infos)):
        expected = tokens_of(pipeline, image, info)
        np.testing.assert_array_equal(embedded[row]["tokens"][-1].numpy(), expected)
    assert not np.array_equal(expected, tokens_of(pipeline, images[3], infos[0]))
    pipeline.close()

    robot = rig(cameras__wrist__rectify=True, cameras__wrist__roi=list(ROI))
    robot.activate()
    for row, (image, info) in enumerate(zip(images, infos)):
        robot.publish(IMAGE, image)
        robot.accounts("wrist", received=row + 1)
        robot.publish(INFO, info)
        tokens = robot.frame(stamp_ns(row)).tokens
        np.testing.assert_array_equal(tokens, embedded[row]["tokens"][-1].numpy())
    camera = robot.tester.layout.cameras[0]
    assert camera.rectified and camera.roi == ROI
    assert robot.tester.layout.layout_id in {layout.layout_id for layout in embedded.layouts}


def test_a_latched_camera_info_of_before_the_node_is_enough(rig, tiny_checkpoint):
    robot = rig(cameras__wrist__rectify=True)
    latched = robot.tester.create_publisher(CameraInfo, INFO, LATCHED_QOS)
    info = info_message(0)
    latched.publish(info)
    robot.activate()
    pipeline = opened(tiny_checkpoint)
    # Images that come before it has arrived are dropped and counted.
    frame = 0
    while stamp_ns(frame - 1) not in robot.tester.frames:
        robot.publish(IMAGE, image_message(stamp_ns(frame), frame))
        robot.accounts("wrist", received=frame + 1, pending=0)
        frame += 1
        assert frame < 100
    tokens = robot.frame(stamp_ns(frame - 1)).tokens
    message = image_message(stamp_ns(frame - 1), frame - 1)
    np.testing.assert_array_equal(tokens, tokens_of(pipeline, message, info))
    pipeline.close()
    robot.accounts("wrist", published=1)


def test_what_a_hostile_camera_info_does_is_said_and_the_node_goes_on(rig, capfd, monkeypatch):
    monkeypatch.setattr(calibrations, "WAIT_S", 0.0)
    robot = rig(cameras__wrist__rectify=True)
    robot.activate()
    nan = info_message(stamp_ns(0))
    nan.d = [math.nan] * 5
    uncalibrated = info_message(stamp_ns(1), k=np.zeros(9))
    thousands = info_message(stamp_ns(2))
    thousands.d = [0.0] * 5000
    other_size = info_message(stamp_ns(3), size_px=(480, 640))
    account = robot.node._inputs.extras.calibrations.accounts["wrist"]
    for k, info in enumerate((nan, uncalibrated, thousands, other_size)):
        robot.publish(INFO, info)
        robot.until(lambda k=k: account.received == k + 1, what=f"CameraInfo {k}")
        robot.publish(IMAGE, image_message(stamp_ns(k), k))
        robot.accounts("wrist", received=k + 1, published=0, pending=0)
    assert account.refused == {"camera_info": 3}
    robot.publish(INFO, info_message(stamp_ns(4)))
    robot.until(lambda: account.received == 5, what="the good CameraInfo")
    robot.publish(IMAGE, image_message(stamp_ns(4)))
    robot.frame(stamp_ns(4))
    robot.accounts("wrist", received=5, dropped__no_camera_info=3, dropped__camera_info=1)
    said = capfd.readouterr().err
    assert INFO in said and "d of the CameraInfo is" in said
    assert "no usable CameraInfo has come on /wrist/camera_info" in said


def test_the_topic_is_beside_that_of_the_images_or_as_given(rig, tmp_path):
    robot = rig(
        camera_names=["wrist", "far"],
        cameras__far__topic="far/image_raw/compressed",
        cameras__far__transport="compressed",
        cameras__far__rectify=True,
        cameras__wrist__rectify=True,
        cameras__wrist__camera_info_topic="calibration",
    )
    robot.activate()
    listened = {s.topic_name for s in robot.node.subscriptions}
    assert {"/far/camera_info", "/calibration"} <= listened
    bad = robot.node.set_parameters([Parameter("cameras.wrist.rectify", value=False)])[0]
    assert not bad.successful and "must not change under a policy" in bad.reason


def test_a_topic_that_is_no_name_is_refused(rig):
    robot = rig(cameras__wrist__rectify=True, cameras__wrist__camera_info_topic="no topic!")
    with pytest.raises(BadSetting, match=r"cameras.wrist.camera_info_topic.*the name of a topic"):
        NodeParameters(robot.node).read()
    assert robot.node.trigger_configure().name == "FAILURE"


def test_a_bag_without_the_topic_is_refused_by_its_name(tiny_checkpoint, tmp_path):
    pipeline = opened(tiny_checkpoint)
    source = recorded(tmp_path / "bag", [(IMAGE, image_message(stamp_ns(0)))])
    with pytest.raises(BagError, match="/wrist/camera_info"):
        embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    pipeline.close()


def test_a_bag_with_one_latched_camera_info_and_a_hostile_one(tiny_checkpoint, tmp_path):
    """All images have the one that was recorded first; what is refused is in the manifest."""
    bad = info_message(stamp_ns(1), distortion_model="fov")
    images = [image_message(stamp_ns(k), k) for k in range(3)]
    messages = [(INFO, info_message(0)), (IMAGE, images[0]), (INFO, bad)]
    messages += [(IMAGE, images[1]), (IMAGE, images[2])]
    pipeline = opened(tiny_checkpoint)
    source = recorded(tmp_path / "bag", messages)
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    assert (manifest["frames"], manifest["dropped"]) == (3, {})
    (skipped,) = manifest["skipped"]
    assert (skipped["topic"], skipped["reason"], skipped["count"]) == (INFO, "camera_info", 1)
    assert "'fov'; accepted: one of plumb_bob" in skipped["first"]
    data = FeatureDataset(tmp_path / "out")
    for row, image in enumerate(images):
        expected = tokens_of(pipeline, image, info_message(0))
        np.testing.assert_array_equal(data[row]["tokens"][-1].numpy(), expected)
    pipeline.close()
