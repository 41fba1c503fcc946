"""The base class of engines: opened once for fixed shapes, run many times, closed.

An engine runs the encoder graph for a static batch. Each runtime has its own file in this room. The
file imports the runtime only when an engine opens, so a machine needs only the runtimes it uses.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.config.backends import modules_of
from vit_perception.config.settings import BadSetting
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.files import telemetry
from vit_perception.files.errors import OperationFailed
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    from vit_perception.engines.source import EngineSource


class EngineError(OperationFailed):
    """An engine cannot open, fails the parity gate, or was used wrongly. The message says why."""


class ParityError(EngineError):
    """An engine opens and runs, but its features differ too much from the reference model's."""


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is opened for."""

    # Images per run.
    batch: int
    # (H, W)
    network_size_px: tuple[int, int]
    # One of config.backends.PRECISIONS. What `auto` stands for is decided in engines/select.py.
    precision: str
    # CPU threads; 0 uses all cores.
    threads: int = 0
    # Groups of layers that int8 leaves in floating point.
    left_out: tuple[str, ...] = ()
    # How attention is computed in half precision: half, float32_softmax or float32. Other than
    # half is only for compilers that may get half wrong.
    attention: str = "half"

    def __str__(self) -> str:
        without = f" without {', '.join(self.left_out)}" if self.left_out else ""
        attention = "" if self.attention == "half" else f" with attention {self.attention}"
        return f"{self.precision}{without}{attention}"


@dataclass(frozen=True)
class BackendStatus:
    """What this machine has of one runtime, for ``vit-perception doctor`` and for ``auto``."""

    # The backend; of a row of the table its label.
    name: str
    # Whether it can be opened.
    found: bool
    # Of the runtime.
    version: str = ""
    # The device's name.
    device: str = ""
    # What the device runs natively. `auto` prefers the first.
    precisions: tuple[str, ...] = ()
    # What is missing, if it cannot be opened.
    why_not: str = ""
    # What tells devices of one name apart: all Jetsons of a family have the same name.
    hardware: str = ""


def why_not_installed(name: str) -> str:
    """Say which Python package of backend ``name`` is missing; "" if its runtime is installed."""
    modules = modules_of(name)
    if any(util.find_spec(module) is not None for module in modules):
        return ""
    return f"Python package {' or '.join(modules)} is not installed"


# Kept until the process ends: what they hold on the GPU may not be freed, not even by Python.
_LOST: list["Engine"] = []


class Engine(ABC):
    """One runtime. Subclasses define ``status``, ``_open``, ``_run`` and ``_close``.

    An engine is not thread-safe: only one thread at a time may call ``infer`` or ``close``.
    """

    # The backend, a value of engine.backend.
    name = ""

    def __init__(self):
        telemetry.off()  # before a runtime is imported, which every engine does later
        # Set by open: the precision that really runs, not the one that was asked for.
        self.precision = ""
        # Set by open: the device's name.
        self.device = ""
        # Set by open: the runtime with its version, for example "openvino 2026.4.1".
        self.runtime = ""
        # Set by open: the compiled engine, if the runtime keeps one as a file.
        self.file: Path | None = None
        # Set by open: what is slower here than usual, for people; "" for nothing.
        self.note = ""
        # Set before open: the GPU that an engine for GPUs takes.
        self.gpu_index = 0
        self._input_shape: tuple[int, int, int, int] | None = None
        self._lost = False

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision} on {self.device}"

    @abstractmethod
    def status(self) -> BackendStatus:
        """Say what this machine has of the runtime. Never raises: ``why_not`` is the reason."""

    def missing(self, why_not: str, version: str = "") -> BackendStatus:
        """Return the status of a runtime that cannot be opened here."""
        return BackendStatus(name=self.name, found=False, version=version, why_not=why_not)

    def attempts(self, spec: EngineSpec) -> tuple[EngineSpec, ...]:
        """Return the ways to run ``spec``, the fastest first.

        The next one is tried if the parity gate refuses one.
        """
        return (spec,)

    def open(self, source: "EngineSource", spec: EngineSpec) -> bool | None:
        """Load ``source`` for ``spec``. The engine stays closed when this raises.

        It returns whether every file that the engine needs was in the cache; None if it needs none.

        Raises:
            EngineError: The runtime is missing, or does not run the precision, or fails to load;
                or the engine is open already.
            BadSetting: The calibration images cannot be read.
            GpuLost: This process can no longer use the GPU, and has to end.
        """
        if self._input_shape is not None:
            raise EngineError(f"the {self.name} engine is open already; close it first")
        status = self.status()
        if not status.found:
            raise EngineError(f"{self.name}: {status.why_not}")
        if spec.precision not in status.precisions:
            raise EngineError(
                f"{self.name} does not run {spec.precision!r} on {status.device}; "
                f"accepted: {', '.join(status.precisions)}"
            )
        self.device = status.device
        self.runtime = f"{self.name} {status.version}"
        self.precision = ""
        self.file = None
        self.note = ""
        try:
            was_cached = self._open(source, spec)
            if self.precision != spec.precision:
                raise EngineError(
                    f"{self.name} was asked for {spec.precision} but compiled to {self.precision}"
                )
        except Exception as error:  # each runtime raises types of its own
            self._check_gpu(error)
            self.close()
            if isinstance(error, EngineError | BadSetting):
                raise
            raise EngineError(
                f"{self.name} {spec.precision}: {type(error).__name__}: {error}"
            ) from error
        self._input_shape = (spec.batch, 3, *spec.network_size_px)
        return was_cached

    def infer(self, images: np.ndarray) -> EncoderOutput:
        """Run ``images`` (B, 3, H, W) uint8 RGB, C-contiguous; B, H and W are those of the spec.

        The caller may reuse the input as soon as this returns. The float32 arrays of the output
        belong to the engine and hold until its next ``infer``: copy what must live longer.

        Raises:
            EngineError: The shape, dtype or layout is another, or the engine is not open.
            GpuLost: This process can no longer use the GPU, and has to end.
            Exception: What the runtime itself raises.
        """
        if self._input_shape is None:
            raise EngineError(f"the {self.name or 'base'} engine is not open")
        if images.shape != self._input_shape or images.dtype != np.uint8:
            raise EngineError(
                f"images are {images.dtype} {images.shape}; accepted: uint8 {self._input_shape}"
            )
        if not images.flags.c_contiguous:
            raise EngineError(
                f"images have strides {images.strides}; accepted: a C-contiguous array"
            )
        try:
            return self._run(images)
        except Exception as error:  # each runtime raises types of its own
            self._check_gpu(error)
            raise

    def close(self) -> None:
        """Free what the runtime holds. It may be called twice, and after a failed ``open``.

        If the GPU is lost, nothing is freed: such calls may hang, or abort the process.
        """
        self._input_shape = None
        if not self._lost:
            self._close()

    def _check_gpu(self, error: Exception) -> None:
        """Raise GpuLost if ``error`` says that this process can no longer use the GPU."""
        gone = cuda_fault.lost(error)
        if gone is not None:
            self._lost = True
            _LOST.append(self)
            raise gone from (None if gone is error else error)

    @abstractmethod
    def _open(self, source: "EngineSource", spec: EngineSpec) -> bool | None:
        """Load, and set ``precision`` to what runs. Return what ``open`` returns.

        ``device`` and ``runtime`` are set from ``status``.
        """

    @abstractmethod
    def _run(self, images: np.ndarray) -> EncoderOutput:
        """Run checked images."""

    @abstractmethod
    def _close(self) -> None:
        """Free everything that was made."""
