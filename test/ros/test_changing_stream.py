"""One topic whose size, encoding and codec change from frame to frame, as when a driver is set
anew: live.
"""

import array

import cv2
import numpy as np
import pytest

from test.ros.conftest import CompressedImage, Image, image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros.messages import header_of

STAMP_NS, FRAME_NS = 5_000_000_000, 100_000_000
# (encoding, (height, width) in px, rows of `row_bytes` in data, row_bytes), in the order of
# sending.
STREAM = [
    ("bgr8", (48, 64), 48, 192),
    ("bgr8", (96, 128), 96, 384),
    ("mono8", (33, 47), 33, 47),
    ("nv12", (60, 80), 90, 80),
    ("bayer_rggb8", (61, 83), 61, 83),
    ("rgb16", (48, 64), 48, 384),
    ("yuyv", (45, 62), 45, 124),
    ("nv24", (31, 29), 93, 29),
    ("bgra8", (10, 300), 10, 1200),
    ("bgr8", (48, 64), 48, 192),
]


def raw(index: int) -> Image:
    encoding, (height, width), rows, row_bytes = STREAM[index]
    message = Image(
        header=header_of(STAMP_NS + index * FRAME_NS, "camera"),
        height=height,
        width=width,
        encoding=encoding,
        step=row_bytes + index,
    )
    values = np.random.default_rng(index).integers(0, 256, (rows, row_bytes + index), np.uint8)
    message.data = array.array("B", values.tobytes())
    return message


def file(index: int) -> CompressedImage:
    codec, (height, width) = [
        ("jpeg", (48, 64)),
        ("png", (96, 128)),
        ("jpeg", (33, 47)),
        ("png", (48, 64)),
    ][index]
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    message = CompressedImage(
        header=header_of(STAMP_NS + index * FRAME_NS, "camera"),
        format=f"bgr8; {codec} compressed bgr8",
    )
    message.data = array.array("B", cv2.imencode(f".{codec}", pixels)[1].tobytes())
    return message


@pytest.mark.parametrize(
    "transport, make, count", [("raw", raw, len(STREAM)), ("compressed", file, 4)]
)
def test_every_frame_is_published_and_equals_the_pipelines_own(
    rig, tiny_checkpoint, transport, make, count
):
    robot = rig(cameras__wrist__transport=transport)
    robot.activate()
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("wrist", "/wrist/image", transport),),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    for index in range(count):
        message = make(index)
        robot.publish("/wrist/image", message)
        tokens = robot.frame(STAMP_NS + index * FRAME_NS).tokens
        prepared = pipeline.prepare({"wrist": message})
        expected = pipeline.assemble(prepared, pipeline.encode(prepared), {}).sequence.tokens
        np.testing.assert_array_equal(tokens, expected)
        size = prepared.first.size
        robot.until(
            lambda: robot.tester.layout.cameras[0].source_size_px == size, what=f"layout for {size}"
        )
    pipeline.close()
    robot.accounts("wrist", received=count, published=count, pending=0)


def test_a_frame_between_that_cannot_be_used_is_dropped_alone(rig):
    robot = rig()
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    changes = [{"encoding": "32FC1"}, {"width": 4000}, {"encoding": "nv12", "height": 47}]
    for index, change in enumerate(changes, start=1):
        message = image_message(STAMP_NS + index * FRAME_NS)
        for name, value in change.items():
            setattr(message, name, value)
        robot.publish("/wrist/image", message)
        robot.accounts("wrist", received=index + 1)
    robot.publish("/wrist/image", image_message(STAMP_NS + 4 * FRAME_NS, size_px=(96, 128)))
    robot.frame(STAMP_NS + 4 * FRAME_NS)
    robot.accounts(
        "wrist",
        received=5,
        published=2,
        dropped__encoding=1,
        dropped__size=1,
        dropped__short_data=1,
        pending=0,
    )
