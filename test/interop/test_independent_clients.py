"""The node as other software sees it: CycloneDDS's Python binding sends and reads, rosbags reads a
recording of it.

Three processes. Whatever they read is held equal to what our decoder reads and to what the pipeline
makes of the images.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from test.conftest import ROOT
from test.waiting import status_of, wait_for_words
from vit_perception.cli.processes import Child
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    OutputSettings,
    PoseSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import save_basis
from vit_perception.streams.pose_history import pose_of
from vit_perception.wire.basis import Basis, decode_tokens, pack_sequence
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import SampleAtImage
from vit_perception.wire.tensors import decode_tensor, encode_bytes, mask_of

pytest.importorskip(
    "cyclonedds",
    reason="CycloneDDS's Python binding is not installed: requirements/test.txt has it",
)
HERE = Path(__file__).parent
FRAMES = 5
TOPICS = {
    "/vit_encoder/tokens": "sensor_msgs/msg/Image",
    "/vit_encoder/token_mask": "sensor_msgs/msg/Image",
    "/vit_encoder/embedding": "sensor_msgs/msg/Image",
    "/vit_encoder/wrist/cls_token": "sensor_msgs/msg/Image",
    "/vit_encoder/layout": "std_msgs/msg/String",
    "/vit_encoder/arm/pose_at_image": "geometry_msgs/msg/PoseStamped",
}


# The dtype of the numbers that a reader of each output_dtype has.
READ_AS = {"float32": "float32", "float16": "float16", "int8": "float32", "basis": "float32"}


def settings_with(checkpoint: Path, form: str, folder: Path) -> EncoderSettings:
    """``form`` is an output_dtype, or `basis`, of which a file is made in ``folder``."""
    output = OutputSettings() if form == "basis" else OutputSettings(dtype=form)
    settings = settings_of(checkpoint, output)
    if form != "basis":
        return settings
    pipeline = Pipeline.open(settings)
    directions = np.linalg.qr(np.random.default_rng(3).normal(size=(pipeline.width, 12)))[0].T
    mean = np.ones(pipeline.width, np.float32)
    basis = Basis(mean, directions.astype(np.float32), pipeline.encoder_sha256)
    pipeline.close()
    save_basis(folder / "basis.safetensors", basis, "tiny")
    return settings_of(checkpoint, OutputSettings(basis=str(folder / "basis.safetensors")))


def settings_of(checkpoint: Path, output: OutputSettings) -> EncoderSettings:
    return EncoderSettings(
        (CameraSettings("wrist", "/wrist/image"),),
        (PoseSettings("arm", "/ee_pose", "base_link"),),
        model=ModelSettings(str(checkpoint)),
        engine=EngineSettings("torch", "float32"),
        output=output,
    )


def parameters_of(settings: EncoderSettings) -> dict:
    return {
        "camera_names": ["wrist"],
        "cameras.wrist.topic": "/wrist/image",
        "pose_names": ["arm"],
        "poses.arm.topic": "/ee_pose",
        "poses.arm.frame_id": "base_link",
        "poses.arm.wait_s": 1.0,
        "autostart": True,
        "model.checkpoint": settings.model.checkpoint,
        "engine.backend": "torch",
        "engine.precision": "float32",
        "output_dtype": settings.output.dtype,
        "tokens.basis": settings.output.basis,
    }


@pytest.fixture(scope="module", params=list(READ_AS))
def exchange(request, tiny_checkpoint, tmp_path_factory):
    """What CycloneDDS read, the bag of the same frames, and the pipeline that says what should be
    in both.
    """
    folder = tmp_path_factory.mktemp("clients")
    settings = settings_with(tiny_checkpoint, request.param, folder)
    (folder / "node.yaml").write_text(
        yaml.safe_dump({"/**": {"ros__parameters": parameters_of(settings)}})
    )
    node = Child.module(
        "vit_perception.ros.start",
        "--ros-args",
        "--params-file",
        str(folder / "node.yaml"),
        log=folder / "node.log",
    )
    recorder = Child(
        [
            sys.executable,
            str(HERE / "bag_recorder.py"),
            str(folder / "bag"),
            *(f"{topic}={kind}" for topic, kind in TOPICS.items()),
        ],
        folder / "recorder.log",
    )
    client = None
    try:
        wait_for_words(node, "active, listening")
        wait_for_words(recorder, "recording")
        client = Child(
            [
                sys.executable,
                str(HERE / "cyclone_client.py"),
                os.environ["ROS_DOMAIN_ID"],
                str(FRAMES),
                str(folder / "read.npz"),
            ],
            folder / "client.log",
        )
        assert status_of(client) == 0, client.tail()
        # A message of each topic and frame, and a layout before the first image and one behind it.
        wait_for_words(recorder, f"{FRAMES * (len(TOPICS) - 1) + 2} messages")
        assert recorder.stop(sent=15) == 0, recorder.tail()
        assert node.stop() == 0, node.tail()
    finally:
        for child in (node, recorder, client):
            if child is not None:
                child.kill()
    pipeline = Pipeline.open(settings)
    yield SimpleNamespace(
        read=dict(np.load(folder / "read.npz")),
        bag=folder / "bag",
        pipeline=pipeline,
        dtype=request.param,
        basis=pipeline.parts.basis,
    )
    pipeline.close()


def client_module():
    sys.path.insert(0, str(HERE))
    try:
        import cyclone_client
    finally:
        sys.path.pop(0)
    return cyclone_client


def expected_results(exchange) -> list:
    """The pipeline's own results for the client's images and poses."""
    cyclone_client = client_module()
    results = []
    for index in range(FRAMES):
        stamp = SimpleNamespace(sec=cyclone_client.FIRST_SEC + index, nanosec=7)
        pixels = cyclone_client.picture(index)
        image = SimpleNamespace(
            header=SimpleNamespace(stamp=stamp, frame_id="camera"),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding="rgb8",
            is_bigendian=0,
            step=3 * pixels.shape[1],
            data=pixels.tobytes(),
        )
        pose = pose_of(
            SimpleNamespace(
                header=SimpleNamespace(stamp=stamp, frame_id="base_link"),
                pose=SimpleNamespace(
                    position=SimpleNamespace(x=0.1 * index, y=0.2, z=0.3),
                    orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
                ),
            )
        )
        prepared = exchange.pipeline.prepare({"wrist": image})
        results.append(
            exchange.pipeline.assemble(
                prepared,
                exchange.pipeline.encode(prepared),
                {"arm": SampleAtImage(pose, "interpolated", 0)},
            )
        )
    return results


def test_cyclonedds_reads_what_the_pipeline_made_of_what_cyclonedds_sent(exchange):
    layout = Layout.from_json(str(exchange.read["layout"]))
    assert layout.dtype == (exchange.dtype if exchange.basis is None else "float32")
    if exchange.basis is not None:
        np.testing.assert_array_equal(exchange.read["basis"], exchange.basis.to_rows())
    groups = json.loads(str(exchange.read["layout"]))["groups"]
    assert [group["name"] for group in groups] == ["wrist/cls", "wrist/patch", "arm/pose"]
    for index, result in enumerate(expected_results(exchange)):
        tokens, mask = exchange.read[f"tokens.{index}"], exchange.read[f"token_mask.{index}"]
        assert tokens.dtype == READ_AS[exchange.dtype]
        assert tokens.shape == (layout.token_count, layout.width)
        made = result.sequence.tokens
        # int8: half a step, of which the largest channel of a token has 127.
        step = np.abs(made).max(axis=1, keepdims=True) / 127 * (exchange.dtype == "int8")
        if exchange.basis is None:
            assert (np.abs(tokens - made.astype(tokens.dtype)) <= 0.5001 * step).all()
        else:
            packed = encode_bytes(pack_sequence(made, layout, exchange.basis))
            ours = decode_tokens(SimpleNamespace(**packed._asdict()), layout, exchange.basis)
            np.testing.assert_allclose(tokens, ours, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(mask[0] == 255, result.sequence.mask)
        np.testing.assert_array_equal(mask_of(tokens), result.sequence.mask)
        np.testing.assert_array_equal(
            exchange.read[f"embedding.{index}"][0],
            result.embedding.astype(READ_AS[exchange.dtype]),
        )
        np.testing.assert_array_equal(
            exchange.read[f"wrist/cls_token.{index}"], layout.split(tokens)["wrist/cls"]
        )
        assert layout.split(tokens)["arm/pose"].any()


def test_rosbags_reads_the_same_from_a_recording(exchange):
    from rosbags.highlevel import AnyReader

    counted = dict.fromkeys(TOPICS, 0)
    with AnyReader([exchange.bag]) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == TOPICS
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            counted[connection.topic] += 1
            name = connection.topic.removeprefix("/vit_encoder/")
            if name == "layout":
                newest = message.data
            elif name == "arm/pose_at_image":
                assert message.pose.position.x == 0.1 * (message.header.stamp.sec - 100)
            else:
                by_client = exchange.read[f"{name}.{message.header.stamp.sec - 100}"]
                # rosbags' own arrays, and then our decoder on rosbags' message.
                read = partial(client_module().value_of, message)
                if name == "tokens" and exchange.basis is not None:
                    layout = Layout.from_json(newest)
                    rows = exchange.basis.to_rows()
                    np.testing.assert_array_equal(read(json.loads(newest), rows), by_client)
                    ours = decode_tokens(message, layout, exchange.basis)
                    np.testing.assert_allclose(ours, by_client, rtol=1e-5, atol=1e-5)
                    continue
                np.testing.assert_array_equal(read(), by_client)
                np.testing.assert_array_equal(decode_tensor(message), by_client)
                assert message.header.stamp.nanosec == 7 and message.header.frame_id == "camera"
    # The layout comes again with the first image's size.
    assert counted.pop("/vit_encoder/layout") == 2 and json.loads(newest)["cameras"][0][
        "source_size_px"
    ] == [48, 64]
    assert set(counted.values()) == {FRAMES}


def test_the_clients_share_no_code_with_the_package():
    for client in ("cyclone_client.py", "bag_recorder.py"):
        source = (HERE / client).read_text()
        assert "import vit_perception" not in source and "from vit_perception" not in source
    assert "import rclpy" not in (HERE / "cyclone_client.py").read_text()
    assert ROOT in HERE.parents
