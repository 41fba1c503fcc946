"""A GPU that the node can use no more: it says so, counts its images, ends with 75, and works when
started again.
"""

import sys
import time

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from test.ros.conftest import image_message
from test.waiting import status_of, wait_until
from vit_perception.cli.processes import Child
from vit_perception.engines.cuda.fault import EXIT_STATUS
from vit_perception.ros.diagnostics import parse_accounts

# While the file BROKEN is there, every engine's run raises what torch 2.8 and later raise; closing
# one never ends.
PROGRAM = """
import ctypes, sys, torch
from pathlib import Path
from vit_perception.engines import torch_engine
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.ros import reporter, start

broken, hang_at_the_end = Path(sys.argv.pop(1)), sys.argv.pop(1) == "hang"

def hang(*arguments):
    print("it hangs", flush=True)
    ctypes.CDLL(None).sleep(600)

def break_runs(kind):
    run, close = kind._run, kind._close
    def run_or_fail(engine, images):
        if broken.exists():
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\\nCompile with "
                                         "`TORCH_USE_CUDA_DSA` to enable device-side assertions.\\n")
        return run(engine, images)
    kind._run, kind._close = run_or_fail, lambda engine: hang() if broken.exists() else close(engine)

break_runs(torch_engine.TorchEngine)
break_runs(OpenvinoEngine)
if hang_at_the_end:
    reporter.Reporter.wait_until_sent = hang
raise SystemExit(start.main())
"""  # noqa: E501
NAME = "/gpu_lost"


@pytest.fixture
def broken(tmp_path):
    return tmp_path / "BROKEN"


@pytest.fixture
def node(tmp_path, tiny_checkpoint, broken):
    """``node(backend, at_the_end)``: the node in a process of its own, active as soon as it can."""
    made = []

    def begin(backend="torch", at_the_end=""):
        parameters = {
            "camera_names": ["wrist"],
            "cameras.wrist.topic": f"{NAME}/image",
            "autostart": True,
            "model.checkpoint": str(tiny_checkpoint),
            "engine.backend": backend,
            "engine.precision": "float32",
        }
        (tmp_path / "params.yaml").write_text(
            yaml.safe_dump({"/**": {"ros__parameters": parameters}})
        )
        made.append(
            Child(
                [
                    sys.executable,
                    "-c",
                    PROGRAM,
                    str(broken),
                    at_the_end,
                    "--ros-args",
                    "--params-file",
                    str(tmp_path / "params.yaml"),
                    "-r",
                    f"__node:={NAME[1:]}",
                ],
                tmp_path / f"node{len(made)}.log",
            )
        )
        return made[-1]

    yield begin
    for child in made:
        child.kill()


class Watcher:
    """Shows the node images, and keeps its tokens and its diagnostics."""

    def __init__(self):
        self.node, self.executor = rclpy.create_node("gpu_lost_tester"), SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.tokens, self.diagnostics = [], []
        self.node.create_subscription(Image, f"{NAME}/tokens", self.tokens.append, 5)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep, 100)
        self.images = self.node.create_publisher(Image, f"{NAME}/image", 5)

    def _keep(self, message):
        if message.status and message.status[0].name.startswith(NAME[1:]):
            self.diagnostics.append(message)

    def show(self):
        self.images.publish(image_message(time.time_ns()))
        self.executor.spin_once(timeout_sec=0.05)

    def until(self, done, what, child):
        wait_until(done, what, child.tail, self.show)


@pytest.fixture
def watcher():
    made = Watcher()
    yield made
    made.executor.shutdown()
    made.node.destroy_node()


def test_a_lost_gpu_ends_the_node_with_75_and_a_line_and_started_again_it_works(
    node, watcher, broken
):
    first = node()
    watcher.until(lambda: len(watcher.tokens) >= 2, "two frames", first)
    broken.touch()
    watcher.until(lambda: first.returncode is not None, "its end", first)
    assert first.stop() == EXIT_STATUS == 75
    said = first.log.read_text()
    fatal = [line for line in said.splitlines() if "FATAL" in line]
    assert (
        len(fatal) == 1 and "CUDA error 700, an illegal memory access was encountered" in fatal[0]
    )
    assert (
        "ends with exit status 75, to be started again" in fatal[0]
        and "dropped (engine_error 1" in fatal[0]
    )
    assert "Traceback" not in said and "it hangs" not in said and "without waiting" not in said

    wait_until(
        lambda: [
            s
            for s in watcher.diagnostics[-1].status
            if s.level == b"\x02" and "status 75" in s.message
        ],
        "the last diagnostics",
        step=lambda: watcher.executor.spin_once(timeout_sec=0.05),
    )
    books = parse_accounts(watcher.diagnostics[-1])["wrist"]
    dropped = sum(n for reason, n in books.items() if reason.startswith("dropped."))
    assert books["received"] == books["published"] + dropped and books["pending"] == 0
    assert books["dropped.engine_error"] == 1 and books["published"] >= 2
    # It has taken leave: nobody has to wait for a lease before it is started again.
    wait_until(
        lambda: not watcher.node.count_publishers(f"{NAME}/tokens"),
        "the end of its topics",
        step=lambda: watcher.executor.spin_once(timeout_sec=0.05),
    )

    broken.unlink()
    watcher.tokens.clear()
    second = node()
    watcher.until(lambda: len(watcher.tokens) >= 2, "two frames of the second", second)
    assert second.returncode is None


def test_auto_takes_no_other_engine_after_a_gpu_is_lost_while_it_opens(node, broken):
    broken.touch()
    child = node(backend="auto")
    assert status_of(child) == 75
    said = child.log.read_text()
    assert (
        said.count("FATAL") == 1
        and "Images: none was received" in said
        and "configured:" not in said
    )
    assert "onnxruntime" not in said and "it hangs" not in said and "Traceback" not in said


def test_a_node_that_hangs_after_the_gpu_is_lost_ends_with_75_all_the_same(node, watcher, broken):
    child = node(at_the_end="hang")
    watcher.until(lambda: watcher.tokens, "a frame", child)
    broken.touch()
    watcher.until(lambda: child.returncode is not None, "its end", child)
    assert child.stop() == 75
    said = child.log.read_text()
    assert "it hangs" in said and "has lost the GPU, and ends without waiting any longer" in said
