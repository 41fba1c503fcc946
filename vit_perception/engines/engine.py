"""What every engine is: opened once for fixed shapes, run many times, closed.

An engine runs the encoder graph for a static batch. Each runtime has a file of its own here, which
imports that runtime only when it opens, so that a machine needs just the runtimes that it uses.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.config.settings import BadSetting
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.files import telemetry
from vit_perception.files.errors import OperationFailed
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    from vit_perception.engines.source import EngineSource


class EngineError(OperationFailed):
    """An engine that cannot open, fails the parity gate, or was used wrongly; the message says
    which and why.
    """


class ParityError(EngineError):
    """An engine that opens and runs, but whose features are not those of the reference model."""


@dataclass(frozen=True)
class EngineSpec:
    """What to open: ``batch`` images of ``network_size_px`` (H, W), at ``precision``, on
    ``threads`` (0: all).

    ``precision`` is ``float32``, ``bfloat16``, ``float16`` or ``int8``; what to try for the setting
    ``auto`` is the business of :mod:`vit_perception.engines.select`. ``left_out`` names the groups
    of layers that int8 leaves in floating point. ``attention`` is the form that attention has in
    half precision, one of ``half``, ``float32_softmax`` and ``float32``; only a compiler that may
    get it wrong is told another than ``half``.
    """

    batch: int
    network_size_px: tuple[int, int]
    precision: str
    threads: int = 0
    left_out: tuple[str, ...] = ()
    attention: str = "half"

    def __str__(self) -> str:
        without = f" without {', '.join(self.left_out)}" if self.left_out else ""
        attention = "" if self.attention == "half" else f" with attention {self.attention}"
        return f"{self.precision}{without}{attention}"


@dataclass(frozen=True)
class BackendStatus:
    """What this machine has of one runtime, for people (``vit-perception doctor``) and for
    ``auto``.

    ``found``: it can be opened; otherwise ``why_not`` says what is missing. ``precisions`` are
    those that the device runs natively, the one that ``auto`` prefers first. ``hardware`` is what
    else than its name the device is known by: all of a Jetson family have one name.
    """

    name: str
    found: bool
    version: str = ""
    device: str = ""
    precisions: tuple[str, ...] = ()
    why_not: str = ""
    hardware: str = ""


# Kept to the end of the process: what they hold on the GPU may not be freed, not even by Python's
# own hand.
_LOST: list["Engine"] = []


class Engine(ABC):
    """One runtime. Subclasses fill in ``status``, ``_open``, ``_run`` and ``_close``.

    After ``open``: ``precision`` is the one that really runs (not the one asked for), ``device``
    the device's name, ``runtime`` the runtime with its version, e.g. ``openvino 2026.4.1``,
    ``file`` the compiled engine in the cache where the runtime has one, ``note`` what falls short
    of how it usually runs, for people (``""``: nothing). ``gpu_index``, set before it opens, is the
    GPU that an engine for GPUs takes. Not thread-safe: one thread at a time may call ``infer`` or
    ``close``.
    """

    name = ""

    def __init__(self):
        telemetry.off()  # before a runtime is imported, which every engine does later
        self.precision = ""
        self.device = ""
        self.runtime = ""
        self.file: Path | None = None
        self.note = ""
        self.gpu_index = 0
        self._input_shape: tuple[int, int, int, int] | None = None
        self._lost = False

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision} on {self.device}"

    @abstractmethod
    def status(self) -> BackendStatus:
        """What this machine has of the runtime. Never raises: what is missing is said in
        ``why_not``.
        """

    def attempts(self, spec: EngineSpec) -> tuple[EngineSpec, ...]:
        """The ways to run ``spec``, the fastest first: the next one is for where the parity gate
        refuses one.
        """
        return (spec,)

    def open(self, source: "EngineSource", spec: EngineSpec) -> None:
        """Load ``source`` for ``spec``. Raises EngineError, and leaves the engine closed, when that
        fails.

        A setting that no engine could use (BadSetting, of ``engine.calibration``) passes through.
        Raises GpuLost where the process can use the GPU no more: it has to end.
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
        self.device, self.runtime, self.note = status.device, f"{self.name} {status.version}", ""
        try:
            self._open(source, spec)
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

    def infer(self, images: np.ndarray) -> EncoderOutput:
        """Run ``images`` (B, 3, H, W) uint8 RGB, C-contiguous; B, H and W are those of the spec.

        The input may be reused as soon as this returns. The output's float32 arrays belong to the
        engine and hold until its next ``infer``: copy what must live longer. Raises EngineError for
        another shape, dtype or layout, or when the engine is not open; GpuLost where the process
        can use the GPU no more and has to end; what the runtime raises otherwise.
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
        """Free what the runtime holds. May be called twice, and on an engine that failed half-way
        to open.

        Nothing is freed of an engine whose GPU is lost: such calls may hang, or abort the process.
        """
        self._input_shape = None
        if not self._lost:
            self._close()

    def _check_gpu(self, error: Exception) -> None:
        """Raise GpuLost where ``error`` tells of a GPU that this process can use no more."""
        gone = cuda_fault.lost(error)
        if gone is not None:
            self._lost = True
            _LOST.append(self)
            raise gone from (None if gone is error else error)

    @abstractmethod
    def _open(self, source: "EngineSource", spec: EngineSpec) -> None:
        """Load, and set ``precision`` to what runs. ``device`` and ``runtime`` are set from
        ``status``.
        """

    @abstractmethod
    def _run(self, images: np.ndarray) -> EncoderOutput:
        """Run checked images."""

    @abstractmethod
    def _close(self) -> None:
        """Free everything, whether it was made or not."""
