"""A machine of gpu-test on the CPU, and an engine whose frames are those of a GPU, in the CPU's
memory.
"""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from test.engines import standin_tensorrt
from tools.gpu_test.machine import STAND_IN, Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.engines.cuda import frame as torch_cuda_frame
from vit_perception.engines.cuda import graph as cuda_graph
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.engines.torch_engine import TorchEngine


@pytest.fixture
def note(tmp_path):
    return Note(tmp_path / "step.json", "a step")


@pytest.fixture
def machine(tmp_path):
    """With torch alone: the stand-in exports models, which takes seconds."""
    machine = Machine("cpu", tmp_path)
    machine.__dict__["runtimes"] = machine.real_runtimes
    return machine


@pytest.fixture
def stand_in(machine, monkeypatch):
    """The same machine with TensorRT's stand-in alone."""
    standin_tensorrt.install(monkeypatch, device="cpu")
    machine.__dict__["runtimes"] = (Runtime(STAND_IN, partial(TensorrtEngine, "tensorrt")),)
    return machine


class Stream:
    """A stream on which everything is done at once."""

    cuda_stream, device, priority = 0, torch.device("cpu"), 0

    def __init__(self, device=None):
        pass

    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


class FrameEngine(TorchEngine):
    """torch's engine for a GPU, its :class:`CudaFrame` whole, in the CPU's memory."""

    def __init__(self):
        super().__init__("cpu")

    def _open(self, source, spec):
        super()._open(source, spec)
        self._graph.model.patch_embedding.unfolded = True
        self._replay = torch_cuda_frame.CudaFrame(
            self._graph, (spec.batch, 3, *spec.network_size_px), torch.device("cpu")
        )
        self.note = self._replay.note


class Graph:
    """In the place of torch.cuda.CUDAGraph, which a build for the CPU cannot make."""

    def __init__(self, run):
        self._run = run

    def replay(self):
        self._run()


@pytest.fixture
def frames(machine, monkeypatch):
    """The same machine with FrameEngine alone: what looks into a GPU's frame meets every name that
    it uses.
    """

    def unpinned(make):
        return lambda *args, pin_memory=False, **kwargs: make(*args, **kwargs)

    for name, value in {
        "Stream": Stream,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "current_stream": lambda device=None: Stream(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("zeros", "empty"):
        monkeypatch.setattr(torch, name, unpinned(getattr(torch, name)))

    computing = []

    def compute(frame, plain=torch_cuda_frame.CudaFrame._compute):
        computing[:] = [frame]
        plain(frame)

    def record(run, stream):
        run()
        frame = computing[0]
        kept = frame._outputs  # the memory of a recording is its own: a replay writes nowhere else

        def replay():
            with torch.no_grad():
                for output, new in zip(kept, frame._graph(frame._images), strict=True):
                    output.copy_(new)

        return Graph(replay), ""

    monkeypatch.setattr(torch_cuda_frame.CudaFrame, "_compute", compute)
    monkeypatch.setattr(cuda_graph, "record", record)
    machine.__dict__["real_runtimes"] = machine.__dict__["runtimes"] = (
        Runtime("frames", FrameEngine),
    )
    return machine
