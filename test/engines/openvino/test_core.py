"""OpenVINO's core: one for the process, so that signals find a stack that is there."""

import ctypes
import gc
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from test.conftest import ROOT
from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.openvino.core import DEVICE, core
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.openvino.int8 import int8_model
from vit_perception.engines.source import EngineSource

pytest.importorskip("openvino", reason="openvino is not installed")

# faulthandler gives the thread a signal stack, as pytest and `python -X faulthandler` do.
TWO_ENGINES = """
import faulthandler, gc, signal, subprocess, sys
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource

faulthandler.enable()
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append("a child ended"))
loaded = load_checkpoint(sys.argv[1])
source = EngineSource(graph_of(loaded), 1)
engines = []
for _ in range(2):
    engines.append(OpenvinoEngine())
    engines[-1].open(source, EngineSpec(1, loaded.card.rule.network_size_px, "float32"))
while engines:
    engines.pop(0).close()  # the first one first
    gc.collect()
subprocess.run(["true"], check=True)
print(seen)
"""


def test_a_signal_after_two_engines_were_closed_in_their_order(tiny_classifier):
    """Regression: each engine had a core, the second one brought back the signal stack of the first
    when both were gone, and the next signal ended the process (SIGSEGV).
    """
    done = subprocess.run(
        [sys.executable, "-c", TWO_ENGINES, str(tiny_classifier)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['a child ended']"), done.stderr


class SignalStack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2) on Linux."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size_bytes", ctypes.c_size_t),
    )


def signal_stack():
    """Where this thread's signal stack starts, and its size in bytes."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.start, stack.size_bytes


def test_making_an_int8_model_leaves_the_signal_stack_in_place(source, tmp_path):
    """NNCF makes cores of its own."""
    pytest.importorskip("nncf", reason="nncf is not installed")
    if "int8" not in OpenvinoEngine().status().precisions:
        pytest.skip("openvino has no int8 on this CPU")
    core().get_property(DEVICE, "FULL_DEVICE_NAME")
    before = signal_stack()
    spec = EngineSpec(2, (64, 64), "int8")
    own = EngineSource(source.graph, 2, folder=tmp_path, calibration=source.calibration)
    for left_out in ((), ("classification head",)):
        int8_model(own, replace(spec, left_out=left_out))
    gc.collect()
    assert signal_stack() == before


def test_no_other_code_makes_a_core():
    files = [*ROOT.glob("vit_perception/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    files += [*ROOT.glob("tools/**/*.py"), *ROOT.glob("test/**/*.py")]
    makers = [
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r"\bCore\(\)", file.read_text()) and file.name != "test_core.py"
    ]
    assert makers == ["vit_perception/engines/openvino/core.py"]
