"""A stand-in for NVIDIA's `tensorrt` and `tensorrt_rtx`, for tests: their names and signatures,
with torch inside.

It is no TensorRT. Its builder wraps the ONNX file, its engine runs that graph operator by operator
with torch, and its version ends in ``+standin``, which every status, log line and cache key then
shows. No figure of it is TensorRT's: what it proves is the code around a runtime (build, save,
load, allocate, run, the parity gate, close, and each failure).

- On a CPU the engine takes the CPU's memory (:class:`CpuDevice`), and the machine's GPU is said to
  be :data:`CPU_GPU`. There is no CUDA graph.
- On a GPU nothing but the module is replaced: memory, stream, capture and replay are real. The
  stand-in queues on the stream that it is given and never waits.

Use::

    from test.engines import standin_tensorrt

    def test_something(monkeypatch):
        standin = standin_tensorrt.install(monkeypatch)            # or install(monkeypatch, "tensorrt_rtx")
        open_engine(EngineSettings("tensorrt", "float16"), loaded, batch=2)
        standin.tell("build_none", "load_warns")                   # faults.FAULTS; tell() takes all back

Outside of a test: ``with pytest.MonkeyPatch.context() as patch: standin_tensorrt.install(patch)``.
``device="cpu"`` keeps it on the CPU where there is a GPU. Processes that are started meanwhile
import the stand-in, too, and do wrong what this one was told to: it stands in PYTHONPATH, the rest
in environment variables.
"""  # noqa: E501

import os
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from test.engines.standin_tensorrt.faults import FAULTS, VARIABLE
from vit_perception.engines.tensorrt.api import Gpu

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = Path(__file__).parent / "modules"
CPU_GPU = Gpu("stand-in for a GPU, in the CPU's memory", "8.7", 1, 1)


class CpuDevice:
    """The CPU's memory in the place of a GPU's: what a test hands to an engine as its
    ``CudaDevice``.
    """

    def host_block(self, shape):
        return self.block(shape)

    def block(self, shape):
        import torch

        from test.engines.standin_tensorrt.run_part import ALIGNMENT_BYTES

        sides = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(torch.Size(sides).numel())
        raw = torch.zeros(size + ALIGNMENT_BYTES, dtype=torch.uint8)
        start = -raw.data_ptr() % ALIGNMENT_BYTES  # as cudaMalloc does
        return raw[start : start + size].view(sides)

    def synchronize(self):
        pass

    def new_stream(self):
        return SimpleNamespace(cuda_stream=0, synchronize=lambda: None)

    def on(self, stream):
        return nullcontext()

    def record(self, run, stream):
        return None, "the CPU has no CUDA graphs"

    def give_back(self):
        pass


class Standin:
    """An installed stand-in; ``api`` is its module."""

    def __init__(self, patch: "pytest.MonkeyPatch", api: ModuleType):
        self._patch, self.api = patch, api

    def tell(self, *faults: str) -> None:
        """From now on do these of FAULTS wrong, and no others."""
        assert set(faults) <= set(FAULTS), faults
        self._patch.setenv(VARIABLE, ",".join(faults))


def install(patch: "pytest.MonkeyPatch", flavour: str = "tensorrt", device: str = "") -> Standin:
    """Have ``import tensorrt`` (``flavour``) find the stand-in, until ``patch`` is undone.

    ``device`` is ``cpu`` or ``cuda``; ``""`` is the GPU where torch finds one.
    """
    # Here, so that a process that only imports what stands in PYTHONPATH needs none of them.
    import torch

    from test.engines.standin_tensorrt.run_part import DEVICE_VARIABLE
    from vit_perception.engines.tensorrt import api as tensorrt_api
    from vit_perception.engines.tensorrt.engine import TensorrtEngine

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = str(MODULES / flavour)
    patch.setenv(
        "PYTHONPATH",
        os.pathsep.join(filter(None, [folder, str(ROOT), os.environ.get("PYTHONPATH")])),
    )
    patch.setenv(DEVICE_VARIABLE, device)
    patch.setenv(VARIABLE, "")
    patch.syspath_prepend(folder)
    patch.setitem(
        sys.modules, flavour, None
    )  # so that undoing it puts back what was there, or nothing
    del sys.modules[flavour]
    if device == "cpu":
        patch.setattr(tensorrt_api, "find_gpu", lambda *arguments: (CPU_GPU, ""))
        patch.setattr(TensorrtEngine, "make_device", CpuDevice)
    return Standin(patch, import_module(flavour))
