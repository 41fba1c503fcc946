"""DESIGN §8, case by case: the frame is dropped and counted, the node goes on; bad set-up fails
configure.
"""

import array
import math

import cv2
import numpy as np
import pytest
from rclpy.parameter import Parameter

from test.ros.conftest import MILLISECOND_NS, CompressedImage, image_message, stamped_pose
from vit_perception.ros.messages import header_of

STAMP_NS = 5_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def stampless(message):
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def named(message, frame_id):
    message.header.frame_id = frame_id
    return message


BAD_IMAGES = {
    "unknown encoding": ("encoding", lambda m: changed(m, encoding="thermal12")),
    "short data": (
        "short_data",
        lambda m: changed(m, data=array.array("B", m.data.tobytes()[:100])),
    ),
    "zero size": ("size", lambda m: changed(m, height=0)),
    "step too small": ("size", lambda m: changed(m, step=3)),
    "stamp of 0": ("stamp", stampless),
    "frame id of a megabyte": ("frame", lambda m: named(m, "c" * 1_000_000)),
    "frame id with an escape": ("frame", lambda m: named(m, "\x1b[2Jcamera")),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_dropped_and_counted_and_the_next_one_is_published(rig, case):
    reason, spoil = BAD_IMAGES[case]
    robot = rig()
    robot.activate()
    robot.publish("/wrist/image", spoil(image_message(STAMP_NS)))
    robot.accounts("wrist", received=1, published=0, **{f"dropped__{reason}": 1})
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.frame(STAMP_NS + MILLISECOND_NS)
    robot.accounts("wrist", received=2, published=1, pending=0)


JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    "format_name, data, reason",
    [
        ("jpeg", b"this is no JPEG", "encoding"),
        ("jpeg", b"", "encoding"),
        ("jpeg", JPEG[: len(JPEG) // 2], "short_data"),
        ("jpeg", JPEG[:12], "decode"),
        ("16UC1; compressedDepth", JPEG, "encoding"),
    ],
)
def test_a_bad_compressed_image(rig, format_name, data, reason):
    robot = rig(cameras__wrist__transport="compressed")
    robot.activate()
    message = CompressedImage(header=header_of(STAMP_NS, "camera"), format=format_name)
    message.data = array.array("B", data)
    robot.publish("/wrist/image", message)
    robot.accounts("wrist", received=1, published=0, **{f"dropped__{reason}": 1})


def spoiled_pose(case):
    message = stamped_pose(STAMP_NS)
    if case == "nan":
        message.pose.position.y = math.nan
    elif case == "zero quaternion":
        message.pose.orientation.w = 0.0
    elif case == "unnormalised quaternion":
        message.pose.orientation.w = 2.0
    elif case == "frame id of a megabyte":
        named(message, "b" * 1_000_000)
    elif case == "wrong frame":
        message.header.frame_id = "left_base_link"
    else:
        stampless(message)
    return message


@pytest.mark.parametrize(
    "case, reason",
    [
        ("nan", "nan"),
        ("zero quaternion", "quaternion"),
        ("stamp of 0", "stamp"),
        ("frame id of a megabyte", "frame"),
        ("wrong frame", "frame"),
        ("unnormalised quaternion", "quaternion"),
    ],
)
def test_a_bad_pose_is_refused_and_counted_and_the_frame_goes_out_masked(rig, case, reason):
    robot = rig(**ARM)
    robot.activate()
    robot.publish("/ee_pose", spoiled_pose(case))
    robot.until(
        lambda: sum(robot.node._samples.accounts["arm"].refused.values()) == 1, what="the refusal"
    )
    robot.publish("/wrist/image", image_message(STAMP_NS))
    assert not robot.tester.layout.split(robot.frame(STAMP_NS).tokens)["arm/pose"].any()
    robot.accounts("wrist", published=1)
    assert robot.diagnostic("arm arm")[f"refused.{reason}"] == "1"
    robot.feel("/ee_pose", stamped_pose(STAMP_NS + MILLISECOND_NS))
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    assert robot.tester.layout.split(robot.frame(STAMP_NS + MILLISECOND_NS).tokens)[
        "arm/pose"
    ].any()


BAD_PARAMETERS = {
    "engine.backend": ("tensorflow", "torch", "one of auto, tensorrt, tensorrt_rtx, torch"),
    "engine.precision": ("float8", "float32", "one of auto, float32"),
    "model.checkpoint": ("/no/such/folder", None, "/no/such/folder"),
    "cameras.wrist.transport": ("theora", "raw", "one of raw, compressed"),
    "cameras.wrist.head": ("/no/head", "", "/no/head"),
    "cameras.wrist.labels": (["a", "b"], [""], "no head"),
    "fusion.kind": ("cross_attention", "concat", "safetensors"),
    "poses.tokenizer": ("mlp", "fourier", "safetensors"),
    "top_k": (0, 5, "1 to 1000"),
    "max_rate_hz": ("fast", 0.0, "float"),
    "camera_names": (["left wrist"], ["wrist"], "digits or underscores"),
    "model.block": (99, -1, "block"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_a_bad_parameter_fails_configure_and_a_second_one_after_the_fix_works(
    rig, capfd, name, tiny_checkpoint
):
    bad, good, accepted = BAD_PARAMETERS[name]
    robot = rig(**{name: bad})
    assert robot.node.trigger_configure().name == "FAILURE"
    said = next(line for line in capfd.readouterr().err.splitlines() if "configure failed" in line)
    assert str(bad[0] if isinstance(bad, list) else bad) in said and accepted in said
    heard = robot.tester
    errors = robot.until(
        lambda: [s.message for s in getattr(heard.diagnostics, "status", ()) if s.level == b"\x02"],
        what="a diagnosis",
    )
    assert accepted in errors[0]
    fixed = str(tiny_checkpoint) if good is None else good
    assert robot.node.set_parameters([Parameter(name, value=fixed)])[0].successful
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)


@pytest.mark.parametrize(
    "name, bad, good",
    [
        ("poses.arm.wait_s", 5.0, 0.1),
        ("poses.arm.max_skew_s", "abc", 0.05),
        ("cameras.wrist.transport", 3, "raw"),
        ("cameras.wrist.topic", "bad topic!", "/wrist/image"),
        ("cameras.wrist.roi", "all", [0, 0, 32, 32]),
        ("cameras.wrist.roi", [0, 0, 32, 0], [0, 0, 32, 32]),
        ("cameras.wrist.roi", [0.0, 0.0, 32.0, 32.0], [0, 0, 32, 32]),
        ("poses.arm.topic", "/a//b", "/ee_pose"),
        ("poses.arm.frame_id", "", "base_link"),
    ],
)
def test_a_bad_parameter_of_one_camera_or_arm_fails_configure_too(rig, capfd, name, bad, good):
    """Found by a reader: values of a wrong type silently became the default, bad topics wedged the
    node.
    """
    robot = rig(**(ARM | {name: bad}))
    assert robot.node.trigger_configure().name == "FAILURE"
    assert f"'{name}' is {bad!r}" in capfd.readouterr().err
    assert robot.node.set_parameters([Parameter(name, value=good)])[0].successful
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)


def test_a_misspelt_parameter_is_said(rig, capfd):
    robot = rig(engine__backnd="tensorrt")
    assert robot.node.trigger_configure().name == "SUCCESS"
    assert "'engine.backnd' is not one of this node's" in capfd.readouterr().err


def test_an_activate_that_fails_leaves_a_node_that_can_be_activated(rig, monkeypatch, capfd):
    robot = rig(**ARM)
    assert robot.node.trigger_configure().name == "SUCCESS"
    create = robot.node.create_subscription

    def broken(kind, topic, *rest, **options):
        return create(kind, "bad topic!" if topic == "/ee_pose" else topic, *rest, **options)

    monkeypatch.setattr(robot.node, "create_subscription", broken)
    assert robot.node.trigger_activate().name == "FAILURE"
    assert "activate failed" in capfd.readouterr().err
    robot.until(
        lambda: not robot.node.count_subscribers("/wrist/image"), what="the end of the subscription"
    )
    monkeypatch.undo()
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)


def test_no_camera_is_refused(rig, capfd):
    robot = rig(camera_names=[""])
    assert robot.node.trigger_configure().name == "FAILURE"
    assert "camera_names" in capfd.readouterr().err


def test_a_crash_inside_one_frame_is_counted_and_logged_and_the_node_goes_on(rig, capfd):
    robot = rig()
    robot.activate()
    pipeline, assemble = robot.node._pipeline, robot.node._pipeline.assemble

    def broken(*arguments):
        raise RuntimeError("a head came loose")

    pipeline.assemble = broken
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.accounts("wrist", received=1, dropped__error=1, published=0)
    assert "a head came loose" in capfd.readouterr().err
    pipeline.assemble = assemble
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.frame(STAMP_NS + MILLISECOND_NS)
