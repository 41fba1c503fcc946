"""Faults while the node runs: a lost engine, a reader that never reads, kill -9, cycles of the
lifecycle, bad QoS.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from test.ros.conftest import MILLISECOND_NS, image_message, stamped_pose
from test.waiting import HANG_S, wait_until
from vit_perception.cli.processes import Child
from vit_perception.engines.engine import EngineError
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros import encoder_node

STAMP_NS = 5_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}


def state_of(node) -> str:
    return node._state_machine.current_state[1]


def status_of(robot, name):
    statuses = getattr(robot.tester.diagnostics, "status", ())
    return next(((s.level, s.message) for s in statuses if s.name.endswith(name)), (b"", ""))


def lose_engine(robot, monkeypatch):
    """From the next frame on the engine raises, as torch does when memory does not suffice: the
    process can go on.
    """

    def lost(images):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(robot.node._pipeline.engine, "_run", lost)


def test_a_lost_engine_makes_the_node_inactive_and_activate_opens_it_anew(rig, monkeypatch, capfd):
    robot = rig(**ARM)
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    tokens = robot.frame(STAMP_NS).tokens
    assert robot.node.set_parameters([Parameter("top_k", value=2)])[0].successful
    lost, closed = robot.node._pipeline.engine, []
    close = lost.close
    monkeypatch.setattr(lost, "close", lambda: (closed.append(True), close()))
    lose_engine(robot, monkeypatch)
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.until(lambda: state_of(robot.node) == "inactive", what="the deactivation")
    robot.accounts("wrist", received=2, published=1, dropped__engine_error=1, pending=0)
    robot.until(lambda: status_of(robot, ": engine")[0] == b"\x02", what="an ERROR")
    assert "out of memory" in status_of(robot, ": engine")[1]
    assert "activate it to open the engine anew" in capfd.readouterr().err
    robot.until(
        lambda: not robot.node.count_subscribers("/wrist/image"), what="the end of the subscription"
    )

    assert robot.node.trigger_activate().name == "SUCCESS"
    assert (
        closed
        and robot.node._pipeline.engine is not lost
        and robot.node._pipeline.settings.output.top_k == 2
    )
    robot._publishers.clear()
    robot.publish("/wrist/image", image_message(STAMP_NS + 2 * MILLISECOND_NS))
    again = robot.frame(STAMP_NS + 2 * MILLISECOND_NS).tokens
    assert (again == tokens).all()
    robot.until(lambda: status_of(robot, ": engine") == (b"\x00", "running"), what="OK again")


def test_a_warning_of_a_configure_has_its_level_and_does_not_end_it(
    rig, tmp_path, monkeypatch, capfd
):
    """Regression: rclpy refuses another level from the same place in the code, and a warning after
    the first line made configure fail.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "vit_perception" / "engines"
    for made in (folder.parent, folder):
        made.mkdir(mode=0o700)
    (folder / "verdicts.json").write_text("{")
    (folder / "verdicts.json").chmod(0o600)
    robot = rig()
    assert robot.node.trigger_configure().name == "SUCCESS"
    said = capfd.readouterr().err
    warned = next(line for line in said.splitlines() if "verdicts.json is damaged" in line)
    assert "[WARN]" in warned and "WARNING" not in warned
    assert any("[INFO]" in line and "loading checkpoint" in line for line in said.splitlines())
    assert robot.node.trigger_cleanup().name == "SUCCESS"


def test_an_engine_that_cannot_be_opened_anew_fails_activate_until_it_can(rig, monkeypatch, capfd):
    robot = rig()
    robot.activate()
    lose_engine(robot, monkeypatch)
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.until(lambda: state_of(robot.node) == "inactive")

    class Gone(Pipeline):
        @classmethod
        def open(cls, settings, log):
            raise EngineError("torch: no device")

    monkeypatch.setattr(encoder_node, "Pipeline", Gone)
    for _ in range(2):
        assert robot.node.trigger_activate().name == "FAILURE"
        assert (
            state_of(robot.node) == "inactive"
            and "activate failed: torch: no device" in capfd.readouterr().err
        )
    monkeypatch.undo()
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot._publishers.clear()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    assert (
        robot.node.trigger_deactivate().name == "SUCCESS"
        and robot.node.trigger_cleanup().name == "SUCCESS"
    )


def test_a_defect_in_a_frame_or_at_closing_is_logged_with_its_last_lines(rig, monkeypatch, capfd):
    robot = rig()
    robot.activate()

    def fail(*arguments, depth=150):
        if depth:
            fail(depth=depth - 1) if depth % 2 else (lambda: fail(depth=depth - 1))()
        raise KeyError("a defect of ours")

    pipeline = robot.node._pipeline
    monkeypatch.setattr(pipeline, "assemble", fail)
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.accounts("wrist", received=1, dropped__error=1, pending=0)
    said = capfd.readouterr().err
    assert "in fail" in said and "KeyError: 'a defect of ours'" in said
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    close = pipeline.close
    monkeypatch.setattr(pipeline, "close", lambda: (close(), fail(depth=0)))
    assert robot.node.trigger_cleanup().name == "SUCCESS"
    said = capfd.readouterr().err
    assert (
        "closing the engine failed: Traceback" in said
        and "in fail" in said
        and "a defect of ours" in said
    )


def test_a_reader_that_never_reads_holds_nothing_up(rig, tmp_path):
    """Another process subscribes reliably and is then stopped (SIGSTOP), so that it acknowledges
    nothing.
    """
    robot = rig()
    robot.activate()
    program = (
        "import rclpy, time; from sensor_msgs.msg import Image; rclpy.init(); n = "
        "rclpy.create_node('reader')\n"
        "for t in ('tokens', 'embedding', 'wrist/patch_features'):\n"
        "    n.create_subscription(Image, '/vit_encoder/' + t, print, 1)\n"
        "time.sleep(3600)"
    )
    reader = Child([sys.executable, "-c", program], tmp_path / "reader.log")
    try:
        robot.until(
            lambda: robot.node.count_subscribers("/vit_encoder/embedding") == 1, what="the reader"
        )
        for k in range(200):
            if k == 100:
                os.kill(reader.pid, signal.SIGSTOP)
            robot.publish("/wrist/image", image_message(STAMP_NS + k * 10 * MILLISECOND_NS))
            robot.frame(STAMP_NS + k * 10 * MILLISECOND_NS)
        robot.accounts("wrist", received=200, published=200)
        publish_ms = robot.node._worker.latencies._stages["publish"]
        robot.until(lambda: len(publish_ms) == 200, what="the last time of publication")
        before_ms, after_ms = np.median(np.reshape(publish_ms, (2, 100)), axis=1)
        assert after_ms - before_ms < 50  # DDS would block a publisher for 100 ms
    finally:
        reader.kill()


def figures(node):
    """What must not grow: threads, subscriptions, publishers, timers, guard conditions."""
    return (
        threading.active_count(),
        len(list(node.subscriptions)),
        len(list(node.publishers)),
        len(list(node.timers)),
        len(list(node.guards)),
    )


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize(
    "whole", [True, False], ids=["configure to cleanup", "activate to deactivate"]
)
def test_the_lifecycle_can_be_cycled_without_a_leak(rig, whole):
    robot = rig(**ARM, state_names=["body"], states__body__joints=["elbow"])
    node = robot.node
    assert node.trigger_configure().name == "SUCCESS"

    def cycle(k):
        if whole and k:
            assert node.trigger_configure().name == "SUCCESS"
        assert node.trigger_activate().name == "SUCCESS"
        stamp_ns = STAMP_NS + k * 10 * MILLISECOND_NS
        robot.publish("/ee_pose", stamped_pose(stamp_ns))
        robot.publish("/wrist/image", image_message(stamp_ns))
        robot.frame(stamp_ns)
        robot.tester.frames.clear()
        assert node.trigger_deactivate().name == "SUCCESS"
        robot.until(lambda: not any(p.get_subscription_count() for p in robot._publishers.values()))
        if whole:
            assert node.trigger_cleanup().name == "SUCCESS"

    cycles = int(os.environ.get("VIT_PERCEPTION_CYCLES", "8"))
    for k in range(3):
        cycle(k)
    before, begin_mb = figures(node), resident_mb()
    for k in range(3, 3 + cycles):
        cycle(k)
    assert figures(node) == before
    grown_mb = resident_mb() - begin_mb
    print(f"{cycles} cycles: {grown_mb:+.1f} MB of {begin_mb:.0f} MB")
    assert grown_mb < 0.05 * begin_mb


@pytest.fixture
def node_process(tmp_path, tiny_checkpoint):
    """``node_process()`` starts the node in a process of its own, active as soon as it can."""
    parameters = {
        "camera_names": ["wrist"],
        "cameras.wrist.topic": "/wrist/image",
        "autostart": True,
        "model.checkpoint": str(tiny_checkpoint),
        "engine.backend": "torch",
        "engine.precision": "float32",
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    made = []

    def start():
        made.append(
            Child.module(
                "vit_perception.ros.start",
                "--ros-args",
                "--params-file",
                str(tmp_path / "params.yaml"),
                "-r",
                "__node:=restarted",
                log=tmp_path / f"node{len(made)}.log",
            )
        )
        return made[-1]

    yield start
    for child in made:
        child.kill()


def test_a_node_that_is_killed_or_ended_comes_back_under_the_same_subscribers(node_process):
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    tester, executor, got = rclpy.create_node("restart_tester"), SingleThreadedExecutor(), []
    executor.add_node(tester)
    tester.create_subscription(
        Image, "/restarted/tokens", lambda m: got.append(m.header.stamp.nanosec), 5
    )
    images = tester.create_publisher(Image, "/wrist/image", 5)

    def tokens_come(node):
        del got[:]

        def show():
            assert node.returncode is None, node.tail()
            images.publish(image_message(time.time_ns()))
            executor.spin_once(timeout_sec=0.05)

        wait_until(lambda: len(got) >= 3, "three frames", node.tail, show)

    for sent, status in (
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGTERM, 0),
        (signal.SIGINT, 0),
    ):
        node = node_process()
        tokens_come(node)
        assert node.stop(timeout_s=HANG_S, sent=sent) == status, node.tail()
        # After a kill -9 not before the lease of config/fastdds_large_data.xml is over.
        wait_until(
            lambda: not tester.count_publishers("/restarted/tokens"),
            "the end of its topics",
            step=lambda: executor.spin_once(timeout_sec=0.05),
        )
    executor.shutdown()
    tester.destroy_node()


@pytest.mark.parametrize(
    "name, value, accepted",
    [
        (
            "qos_overrides./wrist/image.subscription.reliability",
            "sometimes",
            "one of reliable, best_effort",
        ),
        ("qos_overrides./vit_encoder/tokens.publisher.depth", 0, "int from 1"),
        ("qos_overrides./vit_encoder/tokens.publisher.depth", "deep", "int from 1"),
        ("qos_overrides./vit_encoder/tokens.publisher.history", "keep_some", "one of keep_last"),
    ],
)
def test_a_bad_qos_override_fails_configure_by_name(rig, capfd, name, value, accepted):
    robot = rig(**{name: value})
    assert robot.node.trigger_configure().name == "FAILURE"
    said = capfd.readouterr().err
    assert (
        f"parameter '{name}' is {value!r}; accepted: {accepted}" in said
        and "loading checkpoint" not in said
    )


def test_an_override_is_its_topics_alone_and_one_of_no_topic_is_said(rig, capfd):
    """rclpy writes overrides into the profile it is given: a shared one handed them on to every
    later topic.
    """
    robot = rig(
        **{
            "qos_overrides./vit_encoder/tokens.publisher.depth": 7,
            "qos_overrides./vit_encoder/tokens.publisher.reliability": "best_effort",
            "qos_overrides./elsewhere.publisher.depth": 3,
        }
    )
    # No robot.activate(): a watcher that asks for reliable tokens is matched with none of best
    # effort.
    assert (
        robot.node.trigger_configure().name == "SUCCESS"
        and robot.node.trigger_activate().name == "SUCCESS"
    )
    depth = {
        p.topic_name: robot.node.get_parameter(
            f"qos_overrides.{p.topic_name}.publisher.depth"
        ).value
        for p in robot.node.publishers
        if robot.node.has_parameter(f"qos_overrides.{p.topic_name}.publisher.depth")
    }
    assert depth.pop("/vit_encoder/tokens") == 7 and set(depth.values()) == {1}
    offered = robot.node.get_publishers_info_by_topic("/vit_encoder/embedding")[0].qos_profile
    assert offered.reliability == ReliabilityPolicy.RELIABLE == QoSProfile(depth=1).reliability
    assert (
        "'qos_overrides./elsewhere.publisher.depth' belongs to no topic" in capfd.readouterr().err
    )
