"""PyTorch as an engine, on the CPU and on an NVIDIA GPU.

On a GPU the kernels of a frame are recorded once as a CUDA graph. A replay is one launch instead of
some hundred. This part has not been run on a GPU yet; tests marked ``gpu`` do it.
"""

import contextlib
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.cuda.gpus import accepted_indices, described, named
from vit_perception.engines.engine import BackendStatus, Engine, EngineSpec, why_not_installed
from vit_perception.engines.source import EngineSource
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    from vit_perception.engines.cuda.frame import CudaFrame

# Flags of /proc/cpuinfo for bfloat16 products in hardware. Without them torch emulates bfloat16.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class TorchEngine(Engine):
    """``device`` is ``cuda``, ``cpu``, or ``auto``: the GPU if torch has one.

    On the CPU each run makes new output arrays. On a GPU they are the engine's, in pinned memory.
    """

    name = "torch"

    def __init__(self, device: str = "auto"):
        super().__init__()
        self._wanted_device = device
        self._graph = None
        self._replay: CudaFrame | None = None
        self._torch_device = None
        self._threads = 0
        self._threads_before = 0

    def status(self) -> BackendStatus:
        if why_not := why_not_installed(self.name):
            return self.missing(why_not)
        version = metadata.version("torch")
        try:
            return self._status(version)
        except Exception as error:  # libraries that do not load, a GPU that another process holds
            return self.missing(f"torch {version} does not start: {error}", version)

    def _status(self, version: str) -> BackendStatus:
        import torch

        if self._wanted_device == "cpu" or (
            self._wanted_device == "auto" and not torch.cuda.is_available()
        ):
            name, flags = read_cpu(Path("/proc/cpuinfo"))
            native = ("bfloat16",) if flags & _BFLOAT16_FLAGS else ()
            return BackendStatus(
                name=self.name,
                found=True,
                version=version,
                device=name,
                precisions=(*native, "float32"),
            )
        if not torch.cuda.is_available():
            why_not = (
                "this torch is built without CUDA"
                if torch.version.cuda is None
                else "torch finds no CUDA device"
            )
            return self.missing(why_not, version)
        if self.gpu_index >= (count := torch.cuda.device_count()):
            return self.missing(
                f"GPU {self.gpu_index} is asked for; accepted: {accepted_indices(count)}", version
            )
        gpu = described(torch, self.gpu_index)
        with torch.cuda.device(self.gpu_index):
            # By default is_bf16_supported is True on GPUs that emulate it, too.
            native = (
                ("bfloat16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ()
            )
        return BackendStatus(
            name=self.name,
            found=True,
            version=version,
            device=named(gpu, self.gpu_index),
            precisions=("float16", *native, "float32"),
            hardware=str(gpu),
        )

    def _open(self, source: EngineSource, spec: EngineSpec) -> None:
        import torch

        on_gpu = self._wanted_device == "cuda" or (
            self._wanted_device == "auto" and torch.cuda.is_available()
        )
        self._torch_device = torch.device("cuda", self.gpu_index) if on_gpu else torch.device("cpu")
        # A copy: the source's graph is the reference of the parity gate, and its weights may be
        # mapped from the checkpoint's file.
        precision = getattr(torch, spec.precision)
        self._graph = source.graph.copied_to(self._torch_device, precision)
        self.precision = str(next(self._graph.parameters()).dtype).removeprefix("torch.")
        self._threads = spec.threads
        self._threads_before = torch.get_num_threads()
        if on_gpu:
            # As a matrix product: by default cuDNN's convolutions run float32 in TF32, and matrix
            # products do not.
            self._graph.model.patch_embedding.unfolded = True
            from vit_perception.engines.cuda.frame import CudaFrame

            # Pinned memory and the recording belong to the current GPU.
            with torch.cuda.device(self._torch_device):
                self._replay = CudaFrame(
                    self._graph, (spec.batch, 3, *spec.network_size_px), self._torch_device
                )
            self.note = self._replay.note
            if self.note:
                source.log.warning(f"torch on CUDA {self.note}")

    def _run(self, images: np.ndarray) -> EncoderOutput:
        if self._replay is not None:
            return self._replay.run(images)
        import torch

        # The number is the whole process's, and each thread may have an older one.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            outputs = self._graph(torch.from_numpy(images))
            arrays = (output.numpy() for output in outputs)
            return EncoderOutput(**dict(zip(self._graph.output_names, arrays, strict=True)))

    def _close(self) -> None:
        if self._graph is None:
            return
        import torch

        self._graph = self._replay = None
        if self._threads:
            torch.set_num_threads(self._threads_before)
        if self._torch_device.type == "cuda":
            # After a fault on the GPU every call fails. The fault itself was reported before.
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()


def read_cpu(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    """Return the model name and feature flags of the first processor in Linux's /proc/cpuinfo.

    Unknown flags are an empty set.
    """
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    except OSError:
        lines = []
    fields = {}
    for name, _, value in lines:
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""  # x86, Arm
    return fields.get("model name") or platform.machine(), frozenset(flags.split())
