"""The node in this process over real DDS: topics, stamps, numbers, lifecycle."""

import itertools
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from safetensors.numpy import save_file
from sensor_msgs.msg import Image

from test.ros.conftest import MILLISECOND_NS, image_message, stamped_pose
from test.tokens.fusion_weights import cross_attention_tensors, write_cross_attention
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.tokens.fuse_cross_attention import CrossAttention
from vit_perception.wire.records import SampleAtImage, TokenGroup, TokenSequence
from vit_perception.wire.tensors import decode_tensor, mask_of

STAMP_NS = 5_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}
ARM_SETTINGS = PoseSettings("arm", "/ee_pose", "base_link")


def pipeline_of(checkpoint, cameras, arms=()):
    return Pipeline.open(
        EncoderSettings(
            tuple(CameraSettings(c, f"/{c}/image") for c in cameras),
            tuple(arms),
            model=ModelSettings(str(checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )


def test_features_stamps_and_pose_are_the_pipelines_own(rig, tiny_checkpoint):
    robot = rig(**ARM, poses__arm__wait_s=1.0)
    robot.activate()
    image = image_message(STAMP_NS, seed=3)
    robot.feel("/ee_pose", stamped_pose(STAMP_NS - 4 * MILLISECOND_NS, x_m=0.0))
    robot.feel("/ee_pose", stamped_pose(STAMP_NS + 6 * MILLISECOND_NS, x_m=1.0))
    robot.publish("/wrist/image", image)
    frame = robot.frame(STAMP_NS)
    layout = robot.tester.layout
    pose = robot.until(lambda: frame.poses.get("arm"), what="pose_at_image")
    assert pose.pose.position.x == pytest.approx(0.4) and pose.header.frame_id == "base_link"
    assert (pose.header.stamp.sec, pose.header.stamp.nanosec) == (5, 0)

    pipeline = pipeline_of(tiny_checkpoint, ["wrist"], [ARM_SETTINGS])
    prepared = pipeline.prepare({"wrist": image})
    encoded = pipeline.encode(prepared)
    groups = layout.split(frame.tokens)
    np.testing.assert_array_equal(groups["wrist/cls"], encoded.cls_token)
    np.testing.assert_array_equal(groups["wrist/patch"], encoded.patch_tokens[0])
    assert groups["arm/pose"].any() and mask_of(frame.tokens).all()
    assert (
        layout.group("wrist/patch").grid == (4, 4)
        and layout.token_count == 1 + 16 + 1
        and layout.width == 64
    )
    pipeline.close()


def test_three_cameras_and_two_arms_in_one_run(rig, tiny_checkpoint):
    names = ["overhead", "left", "right"]
    arms = {"pose_names": ["left_arm", "right_arm"]} | {
        f"poses.{arm}.{key}": value
        for arm in ("left_arm", "right_arm")
        for key, value in (("topic", f"/{arm}/pose"), ("frame_id", "base_link"), ("wait_s", 1.0))
    }
    robot = rig(camera_names=names, **{f"cameras.{n}.topic": f"/{n}/image" for n in names}, **arms)
    robot.activate()
    images = {n: image_message(STAMP_NS + k * MILLISECOND_NS, seed=k) for k, n in enumerate(names)}
    robot.feel("/left_arm/pose", stamped_pose(STAMP_NS, x_m=0.1), "left_arm")
    robot.feel("/right_arm/pose", stamped_pose(STAMP_NS, x_m=0.2), "right_arm")
    for name in reversed(names):
        robot.publish(f"/{name}/image", images[name])
    frame = robot.frame(STAMP_NS)
    pipeline = pipeline_of(tiny_checkpoint, names)
    encoded = pipeline.encode(pipeline.prepare(images))
    groups = robot.tester.layout.split(frame.tokens)
    for row, name in enumerate(names):
        np.testing.assert_array_equal(groups[f"{name}/patch"], encoded.patch_tokens[row])
        robot.accounts(name, received=1, published=1, pending=0)
    assert list(groups) == [
        "overhead/cls",
        "overhead/patch",
        "left/cls",
        "left/patch",
        "right/cls",
        "right/patch",
        "left_arm/pose",
        "right_arm/pose",
    ]
    assert not np.array_equal(groups["left_arm/pose"], groups["right_arm/pose"])
    pipeline.close()


def test_a_camera_that_is_silent_is_masked_and_comes_back(rig):
    robot = rig(
        camera_names=["a", "b"],
        sync__policy="mask",
        sync__silent_after_s=0.3,
        **{"cameras.a.topic": "/a", "cameras.b.topic": "/b"},
    )
    robot.activate()
    robot.publish("/a", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    groups = robot.tester.layout.split(frame.tokens)
    assert groups["a/cls"].any() and not groups["b/cls"].any() and not groups["b/patch"].any()
    # From now on nobody is silent, however long it takes to send one image after the other.
    assert robot.node.set_parameters([Parameter("sync.silent_after_s", value=60.0)])[0].successful
    robot.publish(
        "/b", image_message(STAMP_NS + MILLISECOND_NS)
    )  # back, alone: its publisher was just discovered
    later = STAMP_NS + 100 * MILLISECOND_NS
    for camera in ("/a", "/b"):
        robot.publish(camera, image_message(later))
    assert mask_of(robot.frame(later).tokens).all()


@pytest.mark.parametrize("policy", ["mask", "require"])
def test_a_missing_pose_is_masked_or_drops_the_frame(rig, policy):
    robot = rig(**ARM, poses__policy=policy)
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    if policy == "mask":
        frame = robot.frame(STAMP_NS)
        assert list(np.flatnonzero(~mask_of(frame.tokens))) == [17]
        assert not frame.poses
    else:
        robot.accounts("wrist", received=1, dropped__pose_missing=1, published=0)
        assert not robot.tester.frames


def test_a_pose_that_stopped_is_held_and_counted(rig):
    robot = rig(**ARM)
    robot.activate()
    robot.feel("/ee_pose", stamped_pose(STAMP_NS - 30 * MILLISECOND_NS, x_m=0.7))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    pose = robot.until(lambda: frame.poses.get("arm"))
    assert pose.pose.position.x == pytest.approx(0.7) and pose.header.stamp.nanosec == 0
    robot.accounts("wrist", published=1)
    assert (
        robot.diagnostic("arm arm")["held"] == "1"
        and robot.diagnostic("arm arm")["skew_ms"] == "30.00 / 30.00"
    )


def test_classification_and_mask_and_embedding(rig, tiny_classifier):
    robot = rig(**ARM, model__checkpoint=str(tiny_classifier), top_k=3, output_dtype="float16")
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame = robot.frame(STAMP_NS)
    scores = robot.until(lambda: frame.classes.get("wrist"))
    label, score = next(iter(scores.items()))
    assert len(scores) == 3 and score == max(scores.values()) and sum(scores.values()) < 1
    layout = robot.tester.layout
    assert layout.cameras[0].labels == ("cup", "crane#1", "can", "crane#3", "robot")
    assert label in layout.cameras[0].labels and 0.2 <= score <= 1
    assert frame.tokens.dtype == np.float16 and layout.dtype == "float16"
    assert layout.embedding_width == 32 + 32


def test_the_layout_learns_the_geometry_from_the_first_image(rig):
    robot = rig()
    robot.activate()
    assert robot.tester.layout.cameras[0].source_size_px is None
    first = robot.tester.layout.layout_id
    robot.publish("/wrist/image", image_message(STAMP_NS, size_px=(48, 64)))
    robot.frame(STAMP_NS)
    layout = robot.until(
        lambda: robot.tester.layout if robot.tester.layout.layout_id != first else None
    )
    camera = layout.cameras[0]
    assert camera.source_size_px == (48, 64) and camera.frame_id == "camera_optical_frame"
    assert camera.frame_id == "camera_optical_frame"
    second = image_message(STAMP_NS + MILLISECOND_NS)
    second.header.frame_id = "renamed_optical_frame"
    robot.publish("/wrist/image", second)
    robot.until(
        lambda: robot.tester.layout.cameras[0].frame_id == "renamed_optical_frame",
        what="a new layout",
    )
    assert camera.scale == pytest.approx((56 / 48, 74 / 64)) and camera.offset_px == (0.0, -9.0)


def test_the_newest_frame_wins_and_every_frame_is_accounted_for(rig):
    robot = rig()
    robot.activate()
    for k in range(60):
        robot.publish("/wrist/image", image_message(STAMP_NS + k * MILLISECOND_NS, seed=k % 3))
        time.sleep(0.004)
    robot.frame(STAMP_NS + 59 * MILLISECOND_NS)
    received = robot.node._sync.accounts[
        "wrist"
    ].received  # the last one has come, so these are all
    books = robot.accounts("wrist", received=received, pending=0)
    assert 1 <= books["published"] <= received <= 60
    assert books["dropped.superseded"] == received - books["published"]


def test_max_rate_bounds_the_encoder(rig):
    robot = rig(max_rate_hz=5.0)
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    started_s = time.monotonic()
    stamps_ns = itertools.count(STAMP_NS + MILLISECOND_NS, MILLISECOND_NS)

    def five_frames():
        robot.publish("/wrist/image", image_message(next(stamps_ns)))
        return len(robot.tester.frames) >= 5

    robot.until(five_frames, what="five frames")
    # Four runs were begun since, each 0.2 s or more behind the one before.
    assert time.monotonic() - started_s >= 3 * 0.2


def test_lifecycle_can_be_cycled_and_the_books_start_anew(rig):
    robot = rig()
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    robot.until(
        lambda: not robot.node.count_subscribers("/wrist/image"), what="the end of the subscription"
    )
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot.until(lambda: robot.node.count_subscribers("/wrist/image") == 1)
    robot._publishers.clear()
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.frame(STAMP_NS + MILLISECOND_NS)
    robot.accounts("wrist", received=1, published=1)
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    assert robot.node.trigger_cleanup().name == "SUCCESS"
    assert robot.node.trigger_configure().name == "SUCCESS"


def test_a_bag_that_loops_goes_on(rig):
    robot = rig(**ARM, poses__arm__wait_s=0.5)
    robot.activate()
    for stamp_ns in (STAMP_NS, STAMP_NS - 3_000_000_000):
        robot.feel("/ee_pose", stamped_pose(stamp_ns, x_m=stamp_ns / 1e9))
        robot.publish("/wrist/image", image_message(stamp_ns))
        frame = robot.frame(stamp_ns)
        assert robot.until(lambda: frame.poses.get("arm")).pose.position.x == pytest.approx(
            stamp_ns / 1e9
        )


def test_pipeline_requires_poses_by_policy(tiny_checkpoint):
    pipeline = pipeline_of(tiny_checkpoint, ["wrist"], [ARM_SETTINGS])
    prepared = pipeline.prepare({"wrist": image_message(STAMP_NS)})
    result = pipeline.assemble(
        prepared, pipeline.encode(prepared), {"arm": SampleAtImage(None, "missing", None)}
    )
    assert not result.sequence.mask[-1] and result.sequence.mask[:-1].all()
    pipeline.close()


def test_trained_tokenizer_and_cross_attention_fuse_what_goes_out(rig, tmp_path, tiny_checkpoint):
    tokenizer = {
        "weight": np.full((64, 9), 0.1, np.float32),
        "bias": np.arange(64, dtype=np.float32),
    }
    save_file(tokenizer, tmp_path / "tokenizer.safetensors")
    fusion_file = write_cross_attention(
        tmp_path / "fusion.safetensors", cross_attention_tensors(64)
    )
    robot = rig(
        **ARM,
        poses__arm__wait_s=1.0,
        poses__tokenizer="linear",
        fusion__kind="cross_attention",
        poses__tokenizer_weights=str(tmp_path / "tokenizer.safetensors"),
        fusion__weights=fusion_file,
    )
    embeddings = []
    robot.tester.create_subscription(Image, "/vit_encoder/embedding", embeddings.append, 5)
    robot.activate()
    robot.feel("/ee_pose", stamped_pose(STAMP_NS, x_m=1.0))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    frame, layout = robot.frame(STAMP_NS), robot.tester.layout
    # Position (1, 0, 0.5) and the first two columns of no rotation, (1, 0, 0) and (0, 1, 0), add up
    # to 3.5.
    np.testing.assert_allclose(
        layout.split(frame.tokens)["arm/pose"][0], np.arange(64) + 0.35, rtol=1e-6
    )
    (embedding,) = robot.until(lambda: embeddings)
    groups = [TokenGroup(g.kind, g.source, frame.tokens[g.start : g.stop]) for g in layout.groups]
    expected = CrossAttention(fusion_file, 64).embedding(TokenSequence.of(groups))
    np.testing.assert_allclose(decode_tensor(embedding)[0], expected, atol=1e-5)
    assert layout.fusion == "cross_attention" and layout.embedding_width == len(expected) == 128
    assert len(layout.fusion_weights_sha256) == len(layout.pose_tokenizer_sha256) == 64


def test_an_arm_without_poses_and_a_silent_camera_are_said(rig, capfd):
    robot = rig(**ARM, sync__silent_after_s=0.2)
    robot.activate()
    assert "active, listening to /wrist/image, /ee_pose" in capfd.readouterr().err

    def levels():
        statuses = getattr(robot.tester.diagnostics, "status", ())
        return {s.name.split(": ")[1]: (s.level, s.message) for s in statuses}

    robot.until(
        lambda: levels().get("camera wrist", (b"\x00",))[0] == b"\x02", what="the camera's silence"
    )
    assert levels()["arm arm"][1].startswith("no pose has come")
    assert "/wrist/image: no image has come; nothing publishes on it" in capfd.readouterr().err
    robot.feel("/ee_pose", stamped_pose(STAMP_NS))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.until(lambda: levels()["arm arm"] == (b"\x00", "receiving"), what="the arm's recovery")
    robot.publish("/wrist/image", image_message(STAMP_NS + 200 * MILLISECOND_NS))
    robot.until(
        lambda: "the nearest is 0.200 s before it" in levels()["arm arm"][1],
        what="the arm's trouble",
    )
