"""A region of interest live: equal to what `embed` gives for a bag of the same images, and an image
that does not hold it is dropped and counted.
"""

import numpy as np
from rclpy.serialization import serialize_message

from test.ros.conftest import MILLISECOND_NS, image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.recordings.writer import BagWriter

STAMP_NS = 5_000_000_000
ROI = (10, 6, 40, 30)
SIZES_PX = ((48, 64), (35, 64), (96, 128), (36, 50), (48, 49))  # (height, width); two too small
FIT = (0, 2, 3)


def test_live_equals_embed_and_an_image_without_the_region_is_dropped(
    rig, tiny_checkpoint, tmp_path, capfd
):
    messages = [
        image_message(STAMP_NS + k * 100 * MILLISECOND_NS, k, size)
        for k, size in enumerate(SIZES_PX)
    ]
    with BagWriter(tmp_path / "bag") as bag:
        for k, message in enumerate(messages):
            data = serialize_message(message)
            bag.write("/wrist/image", "sensor_msgs/msg/Image", data, STAMP_NS + k)
    settings = EncoderSettings(
        (CameraSettings("wrist", "/wrist/image", roi=ROI),),
        model=ModelSettings(str(tiny_checkpoint)),
        engine=EngineSettings("torch", "float32"),
    )
    pipeline = Pipeline.open(settings)
    source = BagSource(tmp_path / "bag", "/wrist/image")
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    pipeline.close()
    assert (manifest["frames"], manifest["dropped"]) == (len(FIT), {"roi": 2})
    embedded = FeatureDataset(tmp_path / "out")

    robot = rig(cameras__wrist__roi=list(ROI))
    robot.activate()
    row = 0
    for k, message in enumerate(messages):
        robot.publish("/wrist/image", message)
        if k in FIT:
            tokens = robot.frame(STAMP_NS + k * 100 * MILLISECOND_NS).tokens
            np.testing.assert_array_equal(tokens, embedded[row]["tokens"][-1].numpy())
            row += 1
        robot.accounts("wrist", received=k + 1, pending=0)
    robot.accounts("wrist", received=5, published=3, dropped__roi=2)
    ids = {layout.layout_id for layout in embedded.layouts}
    assert robot.tester.layout.layout_id in ids and robot.tester.layout.cameras[0].roi == ROI
    said = capfd.readouterr().err
    assert "/wrist/image" in said and "the image is 35 x 64 px, and roi" in said


def test_two_regions_of_one_topic_are_two_cameras(rig, tiny_checkpoint, tmp_path):
    """Live, and in a bag, where both get each image too."""
    near, far = ROI, (0, 0, 20, 48)
    robot = rig(
        camera_names=["near", "far"],
        cameras__near__topic="/wrist/image",
        cameras__far__topic="/wrist/image",
        cameras__near__roi=list(near),
        cameras__far__roi=list(far),
    )
    robot.activate()
    message = image_message(STAMP_NS, 4)
    robot.publish("/wrist/image", message)
    tokens = robot.frame(STAMP_NS).tokens
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/wrist/image", "sensor_msgs/msg/Image", serialize_message(message), STAMP_NS)
    cameras = (
        CameraSettings("near", "/wrist/image", roi=near),
        CameraSettings("far", "/wrist/image", roi=far),
    )
    model, engine = ModelSettings(str(tiny_checkpoint)), EngineSettings("torch", "float32")
    pipeline = Pipeline.open(EncoderSettings(cameras, model=model, engine=engine))
    source = BagSource(tmp_path / "bag", "/wrist/image")
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    pipeline.close()
    assert (manifest["frames"], manifest["dropped"]) == (1, {})
    np.testing.assert_array_equal(tokens, FeatureDataset(tmp_path / "out")[0]["tokens"][-1].numpy())
    assert not np.array_equal(tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :])
