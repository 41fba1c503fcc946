"""The example policies as processes beside the real node, on the demo bags over DDS, with real
weights.

The k-NN policy has the training bag's demonstrations (every fourth image, to be quick) and must do
better on the other bag than the mean of the demonstrations does; the transformer's actions must be
those of its tokens.
"""

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from test.conftest import DEMO_BAG, ROOT, TRAIN_BAG
from test.examples.test_actions import transformer_policy
from test.waiting import status_of, wait_for_words
from vit_perception.cli.processes import Child
from vit_perception.wire.tensors import decode_tensor, mask_of

CAMERA_TOPIC, ENOUGH = "/wrist/image/compressed", 40
PARAMETERS = {
    "camera_names": ["wrist"],
    "cameras.wrist.topic": CAMERA_TOPIC,
    "cameras.wrist.transport": "compressed",
    "pose_names": ["arm"],
    "poses.arm.topic": "/ee_pose",
    "poses.arm.frame_id": "world",
    "poses.arm.wait_s": 1.0,
    "model.checkpoint": "demo",
    "engine.backend": "openvino",
    "autostart": True,
}


def thinned(bag: Path, out: Path, every: int) -> None:
    """A copy of ``bag`` with one image in ``every`` of the wrist camera, and all poses."""
    with (
        AnyReader([bag]) as reader,
        Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        chosen = [c for c in reader.connections if c.topic in (CAMERA_TOPIC, "/ee_pose")]
        connections = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore)
            for c in chosen
        }
        seen = 0
        for connection, stamp_ns, data in reader.messages(connections=chosen):
            seen += connection.topic == CAMERA_TOPIC
            if connection.topic == "/ee_pose" or seen % every == 1:
                writer.write(connections[connection.topic], stamp_ns, data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The demo bag through the node, with both policies and a recorder listening."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "node.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": PARAMETERS}}))
    thinned(TRAIN_BAG, folder / "train", 4)
    started = []

    def child(name: str, *arguments: str) -> Child:
        started.append(Child([sys.executable, *arguments], folder / f"{name}.log"))
        return started[-1]

    try:
        embed = child(
            "embed",
            "-m",
            "vit_perception.cli.main",
            "embed",
            str(folder / "train"),
            "--out",
            str(folder / "features"),
            "--features",
            "embedding",
            "--params",
            str(folder / "node.yaml"),
        )
        assert status_of(embed) == 0, embed.tail()
        node = child(
            "node",
            "-m",
            "vit_perception.ros.start",
            "--ros-args",
            "--params-file",
            str(folder / "node.yaml"),
        )
        knn = child(
            "knn",
            str(ROOT / "examples/knn_policy.py"),
            str(folder / "features"),
            "--log",
            str(folder / "actions.jsonl"),
        )
        transformer = child("transformer", str(ROOT / "examples/transformer_policy.py"))
        image = "sensor_msgs/msg/Image"
        recorder = child(
            "recorder",
            str(ROOT / "test/interop/bag_recorder.py"),
            str(folder / "bag"),
            f"/vit_encoder/tokens={image}",
            f"/transformer_policy/actions={image}",
            "/knn_policy/target_pose=geometry_msgs/msg/PoseStamped",
        )
        wait_for_words(node, "active, listening")
        wait_for_words(knn, "listening")
        wait_for_words(transformer, "258 tokens of 384: wrist/cls, wrist/patch, arm/pose")
        wait_for_words(recorder, "recording")
        acted = 0
        while acted < ENOUGH:  # a slow machine needs several passes
            player = child(
                "player",
                "-m",
                "vit_perception.cli.main",
                "replay",
                str(DEMO_BAG),
                "--topics",
                CAMERA_TOPIC,
                "/ee_pose",
                "--wait-s",
                "120",
            )
            assert status_of(player) == 0, player.tail()
            before, acted = acted, len((folder / "actions.jsonl").read_text().splitlines())
            assert acted > before, knn.tail()
        for each, sent in (
            (knn, signal.SIGINT),
            (transformer, signal.SIGINT),
            (recorder, signal.SIGTERM),
            (node, signal.SIGINT),
        ):
            assert each.stop(sent=sent) == 0, each.tail()
    finally:
        for each in started:
            each.kill()
    recorded = {}
    with AnyReader([folder / "bag"]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            recorded.setdefault(connection.topic, {})[stamp_ns] = message
    return SimpleNamespace(folder=folder, recorded=recorded, knn=knn, transformer=transformer)


def test_nearest_neighbours_do_better_than_the_mean(run, capsys):
    error = Child(
        [
            sys.executable,
            str(ROOT / "examples/action_error.py"),
            str(run.folder / "features"),
            str(run.folder / "actions.jsonl"),
            str(DEMO_BAG),
        ],
        run.folder / "error.log",
    )
    assert status_of(error) == 0, error.tail()
    found = json.loads(error.log.read_text())
    with capsys.disabled():
        print(f"\nk-NN policy over DDS: {found}")
    assert found["actions"] >= 10, run.knn.tail()
    # The mean goes nowhere in particular, about 17 cm wrong in half a second.
    assert found["predict_the_mean"]["translation_cm"] > 10
    assert found["ratio"]["translation_cm"] < 0.85
    # The hand hardly turns: how much better depends on the frames that a busy machine lets through.
    assert found["ratio"]["rotation_deg"] < 1.0


def test_the_published_target_is_the_pose_plus_the_logged_action(run):
    actions = [json.loads(line) for line in (run.folder / "actions.jsonl").read_text().splitlines()]
    targets = run.recorded["/knn_policy/target_pose"]
    from vit_perception.recordings.reader import BagReader

    with BagReader(DEMO_BAG) as bag:
        path = sorted((stamp_ns, m.pose.position) for _, stamp_ns, m in bag.messages(["/ee_pose"]))
    stamps_ns = np.array([stamp_ns for stamp_ns, _ in path])
    compared = 0
    for action in actions:
        target = targets.get(action["stamp_ns"])
        if target is None or action["stamp_ns"] < stamps_ns[0]:
            continue
        at = [
            np.interp(action["stamp_ns"], stamps_ns, [getattr(p, axis) for _, p in path])
            for axis in "xyz"
        ]
        assert target.header.frame_id == "world"
        p, q = target.pose.position, target.pose.orientation
        # At an episode's first image the pose is interpolated across the leap from the one before,
        # as the node has it.
        np.testing.assert_allclose([p.x, p.y, p.z], np.add(at, action["action"][:3]), atol=1e-6)
        assert abs(np.linalg.norm([q.x, q.y, q.z, q.w]) - 1) < 1e-9
        compared += 1
    assert compared >= 10


def test_the_transformers_actions_are_those_of_the_tokens_it_was_sent(run):
    tokens, actions = (
        run.recorded[topic] for topic in ("/vit_encoder/tokens", "/transformer_policy/actions")
    )
    policy = transformer_policy.load_policy(384, 8, None)
    compared = 0
    for stamp_ns, message in list(actions.items())[:20]:
        if stamp_ns not in tokens:
            continue
        assert message.header.frame_id == tokens[stamp_ns].header.frame_id
        values = decode_tensor(tokens[stamp_ns])
        with torch.inference_mode():
            expected = policy(
                torch.from_numpy(np.array(values))[None], torch.from_numpy(mask_of(values))[None]
            )[0]
        np.testing.assert_allclose(decode_tensor(message), expected.numpy(), rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared >= 10
    assert "chunks, policy p50" in run.transformer.log.read_text()
