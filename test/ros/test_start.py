"""Ctrl-C before the node is active: its imports take seconds, and an engine may take minutes to
build.

launch sends it when the bag's player fails at once, and insists with SIGTERM after 5 s.
"""

import os
import signal
import sys
import time

import pytest

from test.waiting import HANG_S, handles, status_of, wait_for_words, wait_until
from vit_perception.cli.processes import Child


@pytest.mark.parametrize(
    "after_s, sent", [(0.0, signal.SIGINT), (0.3, signal.SIGTERM), (1.0, signal.SIGINT)]
)
def test_a_signal_during_the_imports_ends_with_0_and_no_traceback(tmp_path, after_s, sent):
    node = Child.module("vit_perception.ros.start", log=tmp_path / "node.log")
    # Before that, it is Python that a signal ends.
    wait_until(lambda: handles(node.pid, signal.SIGTERM), "its handlers", node.tail)
    time.sleep(after_s)
    assert node.stop(timeout_s=HANG_S, sent=sent) == 0, node.tail()
    assert "Traceback" not in (tmp_path / "node.log").read_text()


# The node with a checkpoint that never ends to load, as from a network share that has gone.
HANGING_NODE = """
import sys, time
from vit_perception.pipeline import encoders
encoders.load_checkpoint = lambda *_: time.sleep(1e6)
from vit_perception.ros.start import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "sent",
    [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]],
    ids=["one", "two", "SIGTERM"],
)
def test_ctrl_c_during_configure_ends_at_once_with_0_and_no_traceback(tmp_path, sent):
    parameters = {
        "autostart": "true",
        "camera_names": "[wrist]",
        "cameras.wrist.topic": "/wrist/image",
    }
    options = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node = Child(
        [sys.executable, "-c", HANGING_NODE, "--ros-args", *options], tmp_path / "node.log"
    )
    wait_for_words(node, "loading checkpoint demo")
    time.sleep(0.5)
    assert node.returncode is None and "failed" not in node.log.read_text(), node.tail()
    for each in sent[1:]:
        os.kill(node.pid, each)
        time.sleep(0.02)
    assert node.stop(timeout_s=HANG_S, sent=sent[0]) == 0, node.tail()
    assert "Traceback" not in node.tail()


def test_arguments_that_ros_cannot_read_end_it_with_an_error(tmp_path):
    """Regression: it ended with 0, as if it had been told to."""
    node = Child.module(
        "vit_perception.ros.start",
        "--ros-args",
        "--params-file",
        "/no/file.yaml",
        log=tmp_path / "node.log",
    )
    assert status_of(node) == 1 and "/no/file.yaml" in node.log.read_text(), node.tail()
