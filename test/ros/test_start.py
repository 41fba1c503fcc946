"""Ctrl-C before the node is there: its imports take seconds, and launch sends it when the bag's player fails at once."""

import signal
import time

import pytest

from vit_perception.cli.processes import Child


@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.5])
def test_ctrl_c_during_the_imports_ends_with_0_and_no_traceback(tmp_path, after_s):
    node = Child.module("vit_perception.ros.start", log=tmp_path / "node.log")
    time.sleep(after_s)
    assert node.stop(timeout_s=10.0, sent=signal.SIGINT) == 0, node.tail()
    assert "Traceback" not in (tmp_path / "node.log").read_text()
