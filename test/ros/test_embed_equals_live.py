"""Bag = live: what `embed` writes for a bag is what the node publishes for it over DDS, byte for
byte.
"""

import importlib
from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    OutputSettings,
    PoseSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import save_basis
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder, ObservationWindow
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.wire.basis import Basis

CAMERAS = ("agentview", "wrist")
FRAMES = 12
# Of the node that is sent the slice, as `settings_of` has them for `embed`.
PARAMETERS = {
    "camera_names": list(CAMERAS),
    "pose_names": ["arm"],
    "poses__arm__topic": "/ee_pose",
    "poses__arm__frame_id": "world",
    "poses__arm__wait_s": 1.0,
} | {
    f"cameras__{camera}__{name}": value
    for camera in CAMERAS
    for name, value in (("topic", f"/{camera}/image/compressed"), ("transport", "compressed"))
}


@pytest.fixture(scope="module")
def slice_of_the_demo(tmp_path_factory):
    """The first frames of the demo bag, with the poses around them."""
    path = tmp_path_factory.mktemp("slice") / "bag"
    with BagReader(DEMO_BAG) as bag, BagWriter(path) as out:
        topics = [f"/{c}/image/compressed" for c in CAMERAS] + ["/ee_pose"]
        for message in bag.raw(
            topics, bag.start_ns + 500_000_000, bag.start_ns + 500_000_000 + FRAMES * 50_000_000
        ):
            out.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return path


@pytest.fixture(scope="module")
def basis_file(tiny_checkpoint, tmp_path_factory):
    """A basis of the tiny encoder with 12 directions."""
    pipeline = Pipeline.open(settings_of(tiny_checkpoint))
    random = np.random.default_rng(3)
    directions = np.linalg.qr(random.normal(size=(pipeline.width, 12)))[0].T.astype(np.float32)
    basis = Basis(np.ones(pipeline.width, np.float32), directions, pipeline.encoder_sha256)
    pipeline.close()
    path = tmp_path_factory.mktemp("basis") / "basis.safetensors"
    save_basis(path, basis, "tiny")
    return path


@pytest.fixture(params=["float32", "int8", "basis"])
def live(request, rig, slice_of_the_demo, basis_file):
    """(topic, CDR bytes) of everything that the node publishes for the slice, one image pair at a
    time; the layout; and the settings of the output.
    """
    output = (
        OutputSettings(basis=str(basis_file))
        if request.param == "basis"
        else OutputSettings(request.param)
    )
    robot = rig(**PARAMETERS, output_dtype=output.dtype, tokens__basis=output.basis)
    heard: list[tuple[str, bytes]] = []
    robot.activate()
    images = [
        "tokens",
        "token_mask",
        "embedding",
        *(f"{c}/{t}" for c in CAMERAS for t in ("cls_token", "patch_features")),
    ]
    names = dict.fromkeys(images, "sensor_msgs/Image")
    names["arm/pose_at_image"] = "geometry_msgs/PoseStamped"
    listen(robot, names, heard)
    send(
        robot,
        slice_of_the_demo,
        lambda: len({data for topic, data in heard if topic.endswith("/tokens")}),
    )
    robot.until(lambda: len(heard) >= FRAMES * len(names), what=f"all of {len(names)} topics")
    return heard, robot.tester.layout, output


def listen(robot, types, heard):
    """Append (topic, CDR bytes) to ``heard`` for whatever the node publishes on the topics of
    ``types``, a name below the node's for each type; returns when all are matched.
    """
    for name, kind in types.items():
        package, _, message = kind.partition("/")
        robot.tester.create_subscription(
            getattr(importlib.import_module(f"{package}.msg"), message),
            f"/vit_encoder/{name}",
            lambda data, topic=f"/vit_encoder/{name}": heard.append((topic, data)),
            100,
            raw=True,
        )
    robot.until(
        lambda: all(robot.tester.count_publishers(f"/vit_encoder/{name}") for name in types),
        what="topics",
    )
    publishers = [
        p for p in robot.node.publishers if p.topic_name.removeprefix("/vit_encoder/") in types
    ]
    # The watcher of the rig listens to some of them too.
    robot.until(
        lambda: all(
            p.get_subscription_count() >= 1 + (p.topic_name.endswith(("/tokens", "at_image")))
            for p in publishers
        ),
        what="the subscriptions",
    )
    robot.matched()


def send(robot, path, published):
    """A pair of images is sent when the one before has been published: every one is encoded, as in
    a bag.
    """
    from rclpy.serialization import deserialize_message

    from vit_perception.ros.playback.bag_player import message_class

    with BagReader(path) as bag:
        messages = list(bag.raw(list(bag.topics)))
        poses = [m for m in messages if m.topic == "/ee_pose"]
        pairs = {}
        for message in messages:
            if message.topic != "/ee_pose":
                pairs.setdefault(message.stamp_ns, []).append(message)
    for count, (stamp_ns, pair) in enumerate(sorted(pairs.items())):
        while poses and (poses[0].stamp_ns <= stamp_ns + 20_000_000):
            pose = poses.pop(0)
            robot.feel(pose.topic, deserialize_message(pose.data, message_class(pose.type_name)))
        for message in pair:
            robot.publish(
                message.topic, deserialize_message(message.data, message_class(message.type_name))
            )
        robot.until(lambda: published() == count + 1, what=f"frame {count}")


def settings_of(tiny_checkpoint):
    return EncoderSettings(
        tuple(CameraSettings(c, f"/{c}/image/compressed", "compressed") for c in CAMERAS),
        (PoseSettings("arm", "/ee_pose", "world"),),
        model=ModelSettings(str(tiny_checkpoint)),
        engine=EngineSettings("torch", "float32"),
    )


def test_embedded_bags_and_columns_equal_what_the_node_published(
    live, slice_of_the_demo, tiny_checkpoint, tmp_path
):
    heard, layout, output = live
    settings = replace(settings_of(tiny_checkpoint), output=output)
    pipeline = Pipeline.open(settings)
    source = BagSource(slice_of_the_demo, "/wrist/image/compressed")
    for kind in ("mcap", "safetensors"):
        manifest = embed(pipeline, [source], tmp_path / kind, EmbedOptions(kind, shard_frames=5))
        assert manifest["frames"] == FRAMES and len(manifest["shards"]) == 3
    pipeline.close()
    with BagReader(tmp_path / "mcap") as bag:
        written = [
            (m.topic, m.data)
            for m in bag.raw(list(bag.topics))
            if m.topic not in ("/vit_encoder/layout", "/vit_encoder/basis")
        ]
        layouts = {m.data for _, _, m in bag.messages(["/vit_encoder/layout"])}
        decoded = [(topic, message) for topic, _, message in bag.messages(list(bag.topics))]
    assert len(written) == FRAMES * 8 and sorted(written) == sorted(heard)
    assert layouts == {layout.to_json()}

    columns = ("wrist.cls",)
    data = FeatureDataset(tmp_path / "safetensors", history=3, stride=2, columns=columns)
    decoder, window = LiveDecoder(expected=data.layouts, embedding=True), ObservationWindow(3, 2)
    observations = [o for topic, message in decoded if (o := decoder.add(topic, message))]
    windows = [w for o in observations if (w := window.add(o))]
    assert (
        len(observations) == FRAMES
        and len(windows) == len(data) == FRAMES - 4
        and decoder.incomplete == 0
    )
    for one, item in zip(windows, (data[k] for k in range(len(data)))):
        for name in ("tokens", "mask", "stamps_ns", "embedding"):
            assert one[name].dtype == item[name].numpy().dtype
            np.testing.assert_array_equal(one[name], item[name].numpy())
        np.testing.assert_array_equal(one["poses"]["arm"], item["poses"]["arm"].numpy())
        cls = [layout.split(tokens)["wrist/cls"][0] for tokens in one["tokens"]]
        np.testing.assert_array_equal(cls, item["wrist.cls"].numpy())


def test_coefficients_are_the_same_live_and_stored(
    basis_file, slice_of_the_demo, tiny_checkpoint, tmp_path
):
    """A policy may learn from coefficients themselves, without the basis."""
    output = OutputSettings(basis=str(basis_file))
    pipeline = Pipeline.open(replace(settings_of(tiny_checkpoint), output=output))
    layout = pipeline.layout()
    source = BagSource(slice_of_the_demo, "/wrist/image/compressed")
    for kind in ("mcap", "parquet"):
        embed(pipeline, [source], tmp_path / kind, EmbedOptions(kind))
    pipeline.close()
    data = FeatureDataset(tmp_path / "parquet", expand=False, columns=("wrist.cls",))
    decoder, window = LiveDecoder(expected=data.layouts, expand=False), ObservationWindow(1)
    with BagReader(tmp_path / "mcap") as bag:
        messages = [(topic, message) for topic, _, message in bag.messages(list(bag.topics))]
    observations = [o for topic, message in messages if (o := decoder.add(topic, message))]
    assert "/vit_encoder/basis" not in decoder.topics
    assert len(observations) == len(data) == FRAMES
    rows = layout.group("wrist/patch")
    for observation, item in zip(observations, (data[k] for k in range(len(data)))):
        one = window.add(observation)
        assert set(one["coefficients"]) == {"agentview/patch", "wrist/patch"}
        for name, coefficients in one["coefficients"].items():
            assert coefficients.shape == (1, rows.stop - rows.start, 12)
            np.testing.assert_array_equal(coefficients, item["coefficients"][name].numpy())
        np.testing.assert_array_equal(one["tokens"], item["tokens"].numpy())
        np.testing.assert_array_equal(one["mask"], item["mask"].numpy())
        # CLS, CLS, pose: the order of the layout, as they were without a basis.
        assert one["tokens"].shape == (1, 3, layout.width)
        np.testing.assert_array_equal(one["tokens"][0, 1], item["wrist.cls"][0].numpy())
