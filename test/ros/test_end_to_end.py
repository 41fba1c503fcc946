"""The real thing: the node, the bag player and a subscriber as processes of their own, over DDS, with real weights.

Checks numbers: what the node published equals what the pipeline makes of the same bag in this process.
"""

import json
import signal
import sys

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor

from test.conftest import DEMO_BAG, ROOT
from vit_perception.bags.reader import BagReader
from vit_perception.bags.replay import replay
from vit_perception.cli.demo import wait_for_layout
from vit_perception.cli.demo_report import DemoRun
from vit_perception.cli.processes import Child
from vit_perception.pipeline import Pipeline
from vit_perception.ros.output_watcher import OutputWatcher
from vit_perception.settings import CameraSettings, EncoderSettings, EngineSettings, PoseSettings

CAMERA_TOPIC = "/wrist/image/compressed"
ENGINE = EngineSettings("openvino", "auto")
SETTINGS = EncoderSettings((CameraSettings("wrist", CAMERA_TOPIC, "compressed"),),
                           (PoseSettings("arm", "/ee_pose", "world"),), engine=ENGINE)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """The demo bag's wrist camera and poses through the node, at recorded speed."""
    folder = tmp_path_factory.mktemp("live")
    parameters = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["/**"]["ros__parameters"]
    parameters |= {"camera_names": ["wrist"], "engine.backend": ENGINE.backend}
    (folder / "params.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    encoder = Child.module("vit_perception.ros.start", "--ros-args", "--params-file",
                           str(folder / "params.yaml"), "-p", "autostart:=true", log=folder / "node.log")
    executor, watcher = SingleThreadedExecutor(), OutputWatcher("/vit_encoder", views=False)
    executor.add_node(watcher)
    try:
        with BagReader(DEMO_BAG) as bag:
            run = DemoRun.of(bag, folder / "sent.jsonl")
            wait_for_layout(executor, watcher, encoder)
            player = Child.module("vit_perception.cli.main", "replay", str(DEMO_BAG), "--topics", CAMERA_TOPIC,
                                  "/ee_pose", "--wait-s", "30", "--log", str(run.sent.path), log=folder / "player.log")
            while player.returncode is None:
                executor.spin_once(timeout_sec=0.1)
            assert player.stop() == 0, player.tail()
            for _ in range(100):
                executor.spin_once(timeout_sec=0.1)
                if run.is_settled(watcher):
                    break
        yield run
        assert encoder.stop(sent=signal.SIGTERM) == 0, encoder.tail()
    finally:
        encoder.kill()
        watcher.destroy_node()


def test_every_image_sent_is_received_and_accounted_for(live):
    books = live.accounts["wrist"]
    with BagReader(DEMO_BAG) as bag:
        assert live.sent.images == bag.count(CAMERA_TOPIC)
    assert books["received"] >= 0.99 * live.sent.images
    dropped = sum(n for key, n in books.items() if key.startswith("dropped."))
    assert books["received"] == books["published"] + dropped + books["pending"] and books["pending"] == 0
    assert len(live.frames) == books["published"] > 30


def test_features_stamps_and_poses_equal_the_pipelines_own_on_the_same_bag(live):
    pipeline = Pipeline.open(SETTINGS)
    compared = 0
    with BagReader(DEMO_BAG) as bag:
        for result in replay(pipeline, bag):
            frame = live.frames.get(result.stamp_ns)
            if frame is None or compared == 25:
                continue
            compared += 1
            np.testing.assert_array_equal(frame.tokens, result.sequence.tokens)
            pose, truth = frame.poses["arm"], result.poses["arm"].pose
            assert (pose.header.stamp.sec, pose.header.stamp.nanosec) == divmod(result.stamp_ns, 1_000_000_000)
            sent = pose.pose.position
            np.testing.assert_array_equal([sent.x, sent.y, sent.z], truth.position_m)
            # The first pose comes 3 ms behind the first image: there is nothing before it to interpolate from.
            assert result.poses["arm"].status == ("held" if compared == 1 else "interpolated")
            assert result.poses["arm"].skew_ns == 3_000_000
    pipeline.close()
    assert compared == 25


def test_the_pose_is_interpolated_to_the_image_stamp(live):
    """By hand: poses are 10 ms apart and 3 ms off the images, so the weights are 0.7 and 0.3."""
    with BagReader(DEMO_BAG) as bag:
        recorded = {stamp_ns: np.array([m.pose.position.x, m.pose.position.y, m.pose.position.z])
                    for _, stamp_ns, m in bag.messages(["/ee_pose"])}
    checked = 0
    for stamp_ns, frame in live.frames.items():
        before, after = recorded.get(stamp_ns - 7_000_000), recorded.get(stamp_ns + 3_000_000)
        if before is None or after is None:
            continue
        sent = frame.poses["arm"].pose.position
        np.testing.assert_allclose([sent.x, sent.y, sent.z], 0.3 * before + 0.7 * after, atol=1e-9)
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_node_ends_with_0_at_once_even_while_unconfigured(tmp_path, sent):
    name = f"to_be_stopped_by_{sent.name.lower()}"  # one name each: the graph remembers a node for a while
    node = Child.module("vit_perception.ros.start", "--ros-args", "-r", f"__node:={name}",
                        log=tmp_path / "node.log")
    executor, watcher = SingleThreadedExecutor(), rclpy.create_node("waiting_for_node")
    executor.add_node(watcher)
    for _ in range(200):
        executor.spin_once(timeout_sec=0.05)
        if name in watcher.get_node_names():
            break
    watcher.destroy_node()
    assert node.stop(timeout_s=5.0, sent=sent) == 0, node.tail()


def test_replay_names_what_is_wrong(tmp_path):
    for arguments, expected in ((["/no/bag"], "no bag at /no/bag"),
                                ([str(DEMO_BAG), "--topics", "/nope"], "no topic /nope"),
                                ([str(DEMO_BAG), "--rate", "0"], "--rate is 0.0"),
                                ([str(DEMO_BAG), "--wait-s", "0.3"], "nobody subscribed to")):
        child = Child([sys.executable, "-m", "vit_perception.cli.main", "replay", *arguments], tmp_path / "log")
        child._process.wait(30)
        assert child.stop() == 1 and expected in child.tail()


def test_the_players_log_has_a_line_a_message(live):
    lines = [json.loads(line) for line in live.sent.path.read_text().splitlines()]
    assert {line["topic"] for line in lines} == {CAMERA_TOPIC, "/ee_pose"}
    assert all(a["sent_ns"] <= b["sent_ns"] for a, b in zip(lines, lines[1:]))
