"""A worker that does not come back: nothing waits for it longer than is documented, and no second
one is begun.
"""

import signal
import sys
import threading
import time

import pytest
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from test.ros.conftest import MILLISECOND_NS, image_message
from test.ros.test_faults import state_of
from test.waiting import HANG_S, wait_for_words, wait_until
from vit_perception.cli.processes import Child
from vit_perception.pipeline import worker
from vit_perception.ros import start

STAMP_NS = 5_000_000_000
PROGRAM = """
import ctypes
from vit_perception.pipeline import encoders, pipeline, prepare
from vit_perception.ros import start

def hang(*arguments, **options):
    print("now it hangs", flush=True)
    ctypes.CDLL(None).sleep(600)

{where} = hang
raise SystemExit(start.main())
"""
STAGES = {
    "decode": ("prepare._DECODERS['raw']", "prepare of camera wrist"),
    "infer": ("pipeline.Pipeline.encode", "encode"),
    "build": ("encoders.open_engine", "open (loading checkpoint"),
    "close": ("pipeline.Pipeline.close", "closing the engine"),
}


@pytest.fixture
def hanging_node(tmp_path, tiny_checkpoint):
    """``hanging_node(stage)``: the node in a process of its own, told to be active, whose worker
    hangs at ``stage``.
    """
    parameters = {
        "camera_names": ["wrist"],
        "cameras.wrist.topic": "/stuck/image",
        "autostart": True,
        "model.checkpoint": str(tiny_checkpoint),
        "engine.backend": "torch",
        "engine.precision": "float32",
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    made = []

    def begin(stage):
        made.append(
            Child(
                [
                    sys.executable,
                    "-c",
                    PROGRAM.format(where=STAGES[stage][0]),
                    "--ros-args",
                    "--params-file",
                    str(tmp_path / "params.yaml"),
                    "-r",
                    "__node:=stuck",
                ],
                tmp_path / "node.log",
            )
        )
        return made[-1]

    yield begin
    for child in made:
        child.kill()


@pytest.mark.parametrize(
    "stage, sent",
    [
        ("decode", signal.SIGTERM),
        ("infer", signal.SIGINT),
        ("infer", signal.SIGTERM),
        ("build", signal.SIGTERM),
        ("close", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_node_whose_worker_hangs_and_it_says_where(hanging_node, stage, sent):
    """Regression: it waited for the worker, 86 s for one picture and for ever for an engine."""
    node, tester, executor = (
        hanging_node(stage),
        rclpy.create_node("stuck_tester"),
        SingleThreadedExecutor(),
    )
    executor.add_node(tester)
    images = tester.create_publisher(Image, "/stuck/image", 5)

    def show_images():
        images.publish(image_message(time.time_ns()))
        executor.spin_once(timeout_sec=0.05)

    words = "active, listening" if stage == "close" else "now it hangs"
    wait_until(
        lambda: words in node.log.read_text() or node.returncode is not None,
        words,
        node.tail,
        show_images,
    )
    executor.shutdown()
    tester.destroy_node()
    # The node ends by its own: were the limit reached, it would be killed, and the status another
    # one.
    assert node.stop(timeout_s=HANG_S, sent=sent) == 0, node.tail()
    said = node.log.read_text()
    assert f"ends without waiting any longer, the worker being at: {STAGES[stage][1]}" in said
    assert "Traceback" not in said


def test_a_signal_ends_a_node_whose_main_thread_hangs(tmp_path):
    program = """
import threading
from vit_perception.ros import encoder_node, start

def hang(node):
    print("now it hangs", flush=True)
    threading.Event().wait()

encoder_node.EncoderNode.close = hang
make = encoder_node.EncoderNode.__init__
def made(self, **given):
    make(self, **given)
    print("it is there", flush=True)

encoder_node.EncoderNode.__init__ = made
raise SystemExit(start.main())
"""
    node = Child(
        [sys.executable, "-c", program, "--ros-args", "-r", "__node:=hanging"],
        tmp_path / "node.log",
    )
    wait_for_words(node, "it is there")
    assert node.stop(timeout_s=HANG_S, sent=signal.SIGTERM) == 0, node.tail()
    said = node.log.read_text()
    assert (
        "now it hangs" in said
        and "ends without waiting any longer, the worker being at: nothing" in said
    )


def test_the_limits_leave_the_documented_5_s():
    assert 2 * worker.ENDING_S < start.END_S < 5.0


@pytest.fixture
def stuck(rig, monkeypatch):
    """An active node whose engine hangs in its first frame until ``go`` is set."""
    robot, begun, go = rig(), threading.Event(), threading.Event()
    robot.activate()
    infer = robot.node._pipeline.engine.infer

    def hang(images):
        begun.set()
        assert go.wait(HANG_S)
        return infer(images)

    monkeypatch.setattr(robot.node._pipeline.engine, "infer", hang)
    monkeypatch.setattr(worker, "STOP_S", 0.3)
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.until(begun.is_set, what="the hang")
    yield robot, go
    go.set()


def test_deactivate_fails_by_name_while_the_worker_hangs_and_succeeds_after(stuck, capfd):
    robot, go = stuck
    assert robot.node.trigger_deactivate().name == "FAILURE" and state_of(robot.node) == "active"
    said = capfd.readouterr().err
    assert (
        "deactivate failed: the worker has not come back from: encode, for" in said
        and "Traceback" not in said
    )
    robot.until(lambda: "stuck: encode" in str(robot.tester.diagnostics), what="the diagnostics")
    go.set()
    robot.until(lambda: robot.node.trigger_deactivate().name == "SUCCESS", what="the deactivation")
    robot.accounts("wrist", received=1, published=1, pending=0)
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot._publishers.clear()
    robot.publish("/wrist/image", image_message(STAMP_NS + MILLISECOND_NS))
    robot.frame(STAMP_NS + MILLISECOND_NS)


def test_nothing_is_configured_or_activated_while_an_old_worker_lives(rig, monkeypatch, capfd):
    robot, go = rig(), threading.Event()
    assert robot.node.trigger_configure().name == "SUCCESS"
    old = robot.node._pipeline
    close = old.close
    monkeypatch.setattr(old, "close", lambda: (go.wait(HANG_S), close()))
    monkeypatch.setattr(worker, "STOP_S", 0.3)
    assert robot.node.trigger_cleanup().name == "FAILURE" and state_of(robot.node) == "inactive"
    assert (
        "cleanup failed: the worker has not come back from: closing the engine"
        in capfd.readouterr().err
    )
    assert robot.node.trigger_activate().name == "FAILURE"
    assert (
        "activate failed: the worker has not come back from: closing the engine"
        in capfd.readouterr().err
    )
    assert robot.node.on_configure(None).name == "FAILURE"
    assert "configure failed: the worker has not come back" in capfd.readouterr().err
    go.set()
    robot.until(lambda: not robot.node._worker.busy, what="the end of the closing")
    assert robot.node.trigger_activate().name == "FAILURE"
    assert "accepted: cleanup, configure" in capfd.readouterr().err
    assert robot.node.trigger_cleanup().name == "SUCCESS"
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)


def test_a_signal_at_any_time_of_the_start_ends_with_0(tmp_path):
    """Regression: between the imports and the end of rclpy.init SIGTERM had its default, and ended
    it with -15.
    """
    program = """
import os, signal, rclpy
from vit_perception.ros import start
init = rclpy.init
def late(**options):
    os.kill(os.getpid(), signal.SIGTERM)
    init(**options)
    raise SystemExit("it went on")
rclpy.init = late
start.main()
"""
    node = Child([sys.executable, "-c", program], tmp_path / "node.log")
    wait_until(lambda: node.returncode is not None, "its end", node.tail)
    assert node.stop() == 0 and "went on" not in node.log.read_text(), node.tail()
