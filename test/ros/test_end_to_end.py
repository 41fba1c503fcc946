"""The real thing: the node, the bag player and a subscriber as processes of their own, over DDS,
with real weights.

Checks numbers: what the node published equals what the pipeline makes of the same bag in this
process.
"""

import itertools
import json
import signal
import sys
import time

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor

from test.conftest import DEMO_BAG, ROOT
from test.recordings.lossless import heard_whole, lossless
from test.waiting import HANG_S, PROGRAM_S, status_of, wait_until
from vit_perception.cli.live_demo.report import DemoRun
from vit_perception.cli.live_demo.watch import wait_for_layout
from vit_perception.cli.processes import Child
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    PoseSettings,
)
from vit_perception.datasets.encode_recording import replay
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.recordings.reader import BagReader
from vit_perception.ros.playback.output_watcher import OutputWatcher

CAMERA_TOPIC = "/wrist/image/compressed"
ENGINE = EngineSettings("openvino", "auto")
SETTINGS = EncoderSettings(
    (CameraSettings("wrist", CAMERA_TOPIC, "compressed"),),
    (PoseSettings("arm", "/ee_pose", "world"),),
    engine=ENGINE,
)


@pytest.fixture(scope="module")
def pipeline():
    made = Pipeline.open(SETTINGS)
    yield made
    made.close()


def rate_of(pipeline) -> float:
    """The speed at which an engine that shares the machine with the rest encodes some of the bag's
    20 images a second.
    """
    batch = np.zeros((1, 3, *pipeline.card.rule.network_size_px), np.uint8)
    times_s = []
    for _ in range(5):
        begin_s = time.perf_counter()
        pipeline.engine.infer(batch)
        times_s.append(time.perf_counter() - begin_s)
    return min(1.0, 0.1 / np.median(times_s))


@pytest.fixture(scope="module")
def live(pipeline, tmp_path_factory):
    """The demo bag's wrist camera and poses through the node, at recorded speed or at what the
    engine can do here.
    """
    folder = tmp_path_factory.mktemp("live")
    parameters = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["/**"]["ros__parameters"]
    # Nothing is lost on the way and each pose is waited for, so that every image sent can be looked
    # for.
    parameters |= {
        "camera_names": ["wrist"],
        "engine.backend": ENGINE.backend,
        "poses.arm.wait_s": 1.0,
    } | heard_whole(CAMERA_TOPIC, "/ee_pose")
    bag_played = lossless(DEMO_BAG, folder / "bag")
    (folder / "params.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    encoder = Child.module(
        "vit_perception.ros.start",
        "--ros-args",
        "--params-file",
        str(folder / "params.yaml"),
        "-p",
        "autostart:=true",
        log=folder / "node.log",
    )
    executor, watcher = SingleThreadedExecutor(), OutputWatcher("/vit_encoder", views=False)
    executor.add_node(watcher)
    try:
        with BagReader(DEMO_BAG) as bag:
            run = DemoRun.of(bag, folder / "sent.jsonl")
            wait_for_layout(executor, watcher, encoder)
            player = Child.module(
                "vit_perception.cli.main",
                "replay",
                str(bag_played),
                "--topics",
                CAMERA_TOPIC,
                "/ee_pose",
                "--wait-s",
                str(HANG_S),
                "--rate",
                str(rate_of(pipeline)),
                "--log",
                str(run.sent.path),
                log=folder / "player.log",
            )

            def listen():
                executor.spin_once(timeout_sec=0.1)

            wait_until(
                lambda: player.returncode is not None,
                "the end of the bag",
                player.tail,
                listen,
                PROGRAM_S,
            )
            assert player.stop() == 0, player.tail()
            wait_until(
                lambda: run.is_settled(watcher),
                "the last frame",
                lambda: f"{run.accounts}, {run.sent.images} sent",
                listen,
            )
        yield run
        assert encoder.stop(timeout_s=HANG_S, sent=signal.SIGTERM) == 0, encoder.tail()
    finally:
        encoder.kill()
        watcher.destroy_node()


def test_every_image_sent_is_received_and_accounted_for(live):
    books = live.accounts["wrist"]
    with BagReader(DEMO_BAG) as bag:
        assert live.sent.images == bag.count(CAMERA_TOPIC)
    assert books["received"] == live.sent.images
    dropped = sum(n for key, n in books.items() if key.startswith("dropped."))
    assert (
        books["received"] == books["published"] + dropped + books["pending"]
        and books["pending"] == 0
    )
    assert 1 <= len(live.frames) <= books["published"]


def test_features_stamps_and_poses_equal_the_pipelines_own_on_the_same_bag(live, pipeline):
    compared, begin_ns = 0, None
    with BagReader(DEMO_BAG) as bag:
        for result in replay(pipeline, bag):
            frame = live.frames.get(result.stamp_ns)
            begin_ns = begin_ns or result.stamp_ns
            if compared == 25:
                break
            if frame is None:
                continue
            compared += 1
            np.testing.assert_array_equal(frame.tokens, result.sequence.tokens)
            pose, truth = frame.poses["arm"], result.poses["arm"].value
            assert (pose.header.stamp.sec, pose.header.stamp.nanosec) == divmod(
                result.stamp_ns, 1_000_000_000
            )
            sent = pose.pose.position
            np.testing.assert_array_equal([sent.x, sent.y, sent.z], truth.position_m)
            # The first pose comes 3 ms behind the first image: there is nothing before it to
            # interpolate from.
            assert result.poses["arm"].status == (
                "held" if result.stamp_ns == begin_ns else "interpolated"
            )
            assert result.poses["arm"].skew_ns == 3_000_000
    assert compared == min(25, len(live.frames))


def test_the_pose_is_interpolated_to_the_image_stamp(live):
    """By hand: poses are 10 ms apart and 3 ms off the images, so the weights are 0.7 and 0.3."""
    with BagReader(DEMO_BAG) as bag:
        recorded = {
            stamp_ns: np.array([m.pose.position.x, m.pose.position.y, m.pose.position.z])
            for _, stamp_ns, m in bag.messages(["/ee_pose"])
        }
    checked = 0
    for stamp_ns, frame in live.frames.items():
        before, after = recorded.get(stamp_ns - 7_000_000), recorded.get(stamp_ns + 3_000_000)
        if before is None:  # at the first image
            continue
        sent = frame.poses["arm"].pose.position
        np.testing.assert_allclose([sent.x, sent.y, sent.z], 0.3 * before + 0.7 * after, atol=1e-9)
        checked += 1
    assert checked >= len(live.frames) - 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_node_ends_with_0_at_once_even_while_unconfigured(tmp_path, sent):
    # one name each: the graph remembers a node for a while
    name = f"to_be_stopped_by_{sent.name.lower()}"
    node = Child.module(
        "vit_perception.ros.start", "--ros-args", "-r", f"__node:={name}", log=tmp_path / "node.log"
    )
    watcher = rclpy.create_node("waiting_for_node")
    wait_until(lambda: name in watcher.get_node_names(), name, node.tail)
    watcher.destroy_node()
    assert node.stop(timeout_s=HANG_S, sent=sent) == 0, node.tail()


def test_replay_names_what_is_wrong(tmp_path):
    for arguments, expected in (
        (["/no/bag"], "no bag at /no/bag"),
        ([str(DEMO_BAG), "--topics", "/nope"], "no topic /nope"),
        ([str(DEMO_BAG), "--rate", "0"], "--rate is 0.0"),
        ([str(DEMO_BAG), "--wait-s", "0.3"], "nobody subscribed to"),
    ):
        child = Child(
            [sys.executable, "-m", "vit_perception.cli.main", "replay", *arguments],
            tmp_path / "log",
        )
        assert status_of(child) == 1 and expected in child.tail()


def test_the_players_log_has_a_line_a_message(live):
    lines = [json.loads(line) for line in live.sent.path.read_text().splitlines()]
    assert {line["topic"] for line in lines} == {CAMERA_TOPIC, "/ee_pose"}
    assert all(a["sent_ns"] <= b["sent_ns"] for a, b in itertools.pairwise(lines))
