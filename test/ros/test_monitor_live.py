"""The monitor on the node: what it publishes is what `embed` makes of the same bag, and a camera
that is bumped in the middle of one is said in /diagnostics.
"""

import array
from dataclasses import replace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from test.ros.test_embed_equals_live import listen
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.datasets.reference.learn import learn_reference
from vit_perception.pipeline.monitor.reference_file import save_reference
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.messages import header_of
from vit_perception.wire.monitored import NUMBERS

TOPIC = "/wrist/image"
PERIOD_NS = 100_000_000
LEARNT = 40
# Of the bag that the node is sent: frames as learnt, then frames of a camera that was bumped.
STILL, BUMPED = 8, 12
BUMP_PX = 20
SIDE_PX = 112
KINDS = {"novelty": "vision_msgs/Classification", "camera_shift": "geometry_msgs/Vector3Stamped"}


def picture(number: int, seed: int, shift_px: int = 0) -> Image:
    """Blocks of colour, a thing that moves along the bottom, and a camera's noise."""
    blocks = np.random.default_rng(5).integers(0, 256, (12, 12, 3))
    scene = np.kron(blocks, np.ones((16, 16, 1)))[40 : 40 + SIDE_PX]
    scene = scene[:, 40 - shift_px : 40 - shift_px + SIDE_PX].copy()
    left = 4 * (number % 20)
    scene[88:108, left : left + 16] = (250, 20, 20)
    random = np.random.default_rng([seed, number])
    pixels = np.clip(scene + random.normal(scale=3, size=scene.shape), 0, 255).astype(np.uint8)
    message = Image(
        header=header_of((number + 1) * PERIOD_NS, "optical"),
        height=SIDE_PX,
        width=SIDE_PX,
        encoding="rgb8",
        step=3 * SIDE_PX,
    )
    message.data = array.array("B", pixels.tobytes())
    return message


def bag_of(path, pictures):
    with BagWriter(path) as bag:
        for k, message in enumerate(pictures):
            data = serialize_message(message)
            bag.write(TOPIC, "sensor_msgs/msg/Image", data, (k + 1) * PERIOD_NS)
    return path


def sent() -> list[Image]:
    return [picture(k, seed=1, shift_px=0 if k < STILL else BUMP_PX) for k in range(STILL + BUMPED)]


def settings_of(checkpoint, reference="") -> EncoderSettings:
    return EncoderSettings(
        (CameraSettings("wrist", TOPIC),),
        model=ModelSettings(str(checkpoint)),
        engine=EngineSettings("torch", "float32", threads=1),
        monitor=MonitorSettings(str(reference)),
    )


def embedded(settings, bag, out, kind):
    pipeline = Pipeline.open(settings)
    try:
        embed(pipeline, [BagSource(bag, TOPIC)], out, EmbedOptions(kind))
    finally:
        pipeline.close()


@pytest.fixture(scope="module")
def reference(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitor")
    bag = bag_of(folder / "bag", [picture(k, seed=0) for k in range(LEARNT)])
    embedded(settings_of(tiny_checkpoint), bag, folder / "features", "safetensors")
    learnt = learn_reference(FeatureFiles(folder / "features")).reference
    assert learnt.cameras["wrist"].has_background
    save_reference(folder / "reference", learnt)
    return folder / "reference"


def status_of(robot) -> DiagnosticStatus | None:
    message = robot.tester.diagnostics
    return next(
        (s for s in (message.status if message else ()) if s.name.endswith(": monitor wrist")),
        None,
    )


def test_a_bumped_camera_is_said_and_live_equals_the_bag(rig, reference, tiny_checkpoint, tmp_path):
    robot = rig(monitor__reference=str(reference), monitor__window_s=0.8, engine__threads=1)
    robot.activate()
    heard: list[tuple[str, bytes]] = []
    listen(robot, {f"wrist/{name}": kind for name, kind in KINDS.items()}, heard)

    def novelties():
        return sum(topic.endswith("novelty") for topic, _ in heard)

    for k, message in enumerate(sent()):
        robot.publish(TOPIC, message)
        robot.until(lambda k=k: novelties() == k + 1, what=f"the novelty of frame {k}")
        if k == STILL - 1:
            normal = robot.until(
                lambda: (s := status_of(robot)) and "as in training" in s.message and s,
                what="a status that all is well",
            )
            assert normal.level == DiagnosticStatus.OK
    bumped = robot.until(
        lambda: (s := status_of(robot)) and s.level != DiagnosticStatus.OK and s,
        what="a warning",
    )
    assert "novel: " in bumped.message or "the camera has moved: " in bumped.message
    assert float(next(v.value for v in bumped.values if v.key == "alarm")) >= 1

    bag = bag_of(tmp_path / "bag", sent())
    settings = settings_of(tiny_checkpoint, reference)
    embedded(settings, bag, tmp_path / "mcap", "mcap")
    embedded(settings, bag, tmp_path / "columns", "safetensors")
    with BagReader(tmp_path / "mcap") as reader:
        written = [
            (m.topic, m.data)
            for m in reader.raw(list(reader.topics))
            if m.topic.removeprefix("/vit_encoder/wrist/") in KINDS
        ]
        messages = [
            (topic, message)
            for topic, _, message in reader.messages(list(reader.topics))
            if topic.endswith("/novelty")
        ]
    # Not every frame shows a shift; each one shows a novelty.
    robot.until(lambda: len(heard) >= len(written), what="the last shifts")
    assert sorted(written) == sorted(heard)
    rows = FeatureFiles(tmp_path / "columns")
    numbers = np.stack([rows.row(k, ("wrist.change",))["wrist.change"] for k in range(len(rows))])
    assert numbers.shape == (STILL + BUMPED, len(NUMBERS))
    assert [m.results[0].score for _, m in messages] == numbers[:, 0].tolist()
    assert numbers[STILL:, 1].min() > numbers[:STILL, 1].max()


def test_images_of_another_size_are_said_and_limits_change_while_it_runs(rig, reference):
    robot = rig(monitor__reference=str(reference), engine__threads=1)
    robot.activate()
    message = picture(0, seed=1)
    message.height -= 2
    message.data = message.data[: message.height * message.step]
    robot.publish(TOPIC, message)
    status = robot.until(
        lambda: (s := status_of(robot)) and s.level == DiagnosticStatus.WARN and s,
        what="a warning",
    )
    assert status.message == (
        "its images have 112 x 110 px; accepted: 112 x 112, as in the reference"
    )
    settings = replace(robot.node._pipeline.settings, monitor=MonitorSettings(novelty_warn=3.0))
    robot.node._change(settings)
    robot.until(lambda: robot.node._pipeline.parts.monitor.settings.novelty_warn == 3.0)
