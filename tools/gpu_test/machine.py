"""What steps run on: the runtimes of this machine, models, pictures, and memory in use."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_bench import random_model
from tools.gpu_test.note import LeftOut, Note
from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.config.backends import ENGINE_FILE_BACKENDS
from vit_perception.engines.engine import Engine, EngineSpec, ParityError
from vit_perception.engines.parity_gate import ParityReport, parity_batch
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.engines.verified import open_verified
from vit_perception.files.log import PrintedLog
from vit_perception.image.preprocess import Preprocessor

STAND_IN = "stand-in for tensorrt"  # torch computes: no figure of it is TensorRT's


@dataclass(frozen=True)
class Runtime:
    """One way to run the encoder here. ``label`` says where it is the stand-in."""

    label: str
    make: Callable[[], Engine]

    def precisions(self) -> tuple[str, ...]:
        """What it runs here natively, the fastest first."""
        return self.make().status().precisions


@dataclass(frozen=True, eq=False)
class Opened:
    """An engine behind the parity gate, what it was opened from, and the gate's ``pictures`` (n, 3,
    H, W) uint8.
    """

    engine: Engine
    source: EngineSource
    spec: EngineSpec
    report: ParityReport
    pictures: np.ndarray
    was_cached: bool | None  # as Engine.open returns it

    @property
    def two(self) -> tuple[np.ndarray, np.ndarray]:
        """Two different inputs (B, 3, H, W): the second is the first one's mirror image."""
        first = self.pictures[: self.spec.batch].copy()
        return first, np.ascontiguousarray(first[..., ::-1])


class Machine:
    """``device`` is ``cuda``, or ``cpu`` to show that steps work: then models are tiny and
    repetitions few.

    ``folder`` takes compiled engines; ``checkpoint`` is whose real weights are looked at.
    """

    def __init__(self, device: str, folder: Path, checkpoint: str = "demo"):
        self.device, self.folder, self.checkpoint = device, folder, checkpoint
        self.on_gpu = device == "cuda"
        self.why_no_stand_in = ""

    @cached_property
    def real_runtimes(self) -> tuple[Runtime, ...]:
        """torch, then each TensorRT that opens here: what is measured."""
        found = [
            Runtime(
                "torch on CUDA" if self.on_gpu else "torch on the CPU",
                partial(TorchEngine, self.device),
            )
        ]
        if self.on_gpu:
            found += [
                Runtime(flavour, partial(TensorrtEngine, flavour))
                for flavour in ENGINE_FILE_BACKENDS
                if TensorrtEngine(flavour).status().found
            ]
        return tuple(found)

    @cached_property
    def runtimes(self) -> tuple[Runtime, ...]:
        """What is tested: the real ones, and the stand-in for TensorRT where there is none."""
        found = self.real_runtimes
        if len(found) > 1 or tensorrt_api.module_name("tensorrt"):
            return found
        try:
            import pytest

            from test.engines import standin_tensorrt

            # Never taken back: the process of a step ends with the step.
            standin_tensorrt.install(pytest.MonkeyPatch())
            status = TensorrtEngine("tensorrt").status()
            self.why_no_stand_in = status.why_not
        except Exception:  # torch is tested without it, and the step says that it lacks
            self.why_no_stand_in = traceback.format_exc()
        return (
            found
            if self.why_no_stand_in
            else (*found, Runtime(STAND_IN, partial(TensorrtEngine, "tensorrt")))
        )

    def rounds(self, count: int) -> int:
        """``count`` on a GPU, a few on a CPU."""
        return count if self.on_gpu else min(count, 3)

    def random(self, name: str = "S/14") -> LoadedModel:
        """The variant with seeded random weights; on a CPU the tiny one instead."""
        return random_model(name if self.on_gpu else "test")

    def real(self) -> LoadedModel:
        """The checkpoint with real weights. Raises LeftOut where it cannot be had."""
        try:
            return load_checkpoint(self.checkpoint)
        except Exception as error:
            raise LeftOut(
                f"checkpoint {self.checkpoint}: {error}; --checkpoint names another"
            ) from error

    def source(self, loaded: LoadedModel, batch: int) -> EngineSource:
        """What engines for ``batch`` images are opened from; what is compiled stays for the steps
        that follow.
        """
        return EngineSource(graph_of(loaded), batch, PrintedLog(), self.folder / "engines")

    @contextmanager
    def opened(
        self,
        runtime: Runtime,
        loaded: LoadedModel,
        batch: int,
        precision: str,
        source: EngineSource | None = None,
    ) -> Iterator[Opened]:
        """An open engine, by the first form of attention that passes the gate. Raises EngineError
        where none does.
        """
        source = source or self.source(loaded, batch)
        pictures = parity_batch(Preprocessor(loaded.card.rule), batch)
        wanted = EngineSpec(batch, source.graph.network_size_px, precision)
        *earlier, last = runtime.make().attempts(wanted)
        for spec in (*earlier, last):
            try:
                engine, report, was_cached = open_verified(runtime.make(), source, spec, pictures)
                break
            except ParityError as error:
                print(f"{runtime.label}: {error}", flush=True)
                if spec is last:
                    raise
        try:
            yield Opened(engine, source, spec, report, pictures, was_cached)
        finally:
            engine.close()

    def memory(self) -> dict[str, int]:
        """Bytes in use: ``gpu`` of the whole device, ``torch`` of torch's allocator on it, ``host``
        of this process.
        """
        from vit_perception.files.memory import give_back_freed_memory

        gc.collect()
        give_back_freed_memory()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found = {"host": pages * os.sysconf("SC_PAGE_SIZE")}
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info()
            found |= {"gpu": total - free, "torch": torch.cuda.memory_allocated()}
        return found

    def allocations(self) -> int:
        """How often torch has taken memory on the GPU so far."""
        return torch.cuda.memory_stats()["allocation.all.allocated"] if self.on_gpu else 0

    def attempt_each(
        self, note: Note, one: Callable[["Machine", Note, Runtime, str, LoadedModel], None]
    ) -> None:
        """Run ``one`` on random weights for each runtime and precision. What it raises ends that
        one alone.
        """
        loaded = self.random()
        for runtime, precision in self.each():
            note.attempt(
                f"{runtime.label} {precision}", partial(one, self, note, runtime, precision, loaded)
            )

    def each(self, precisions: tuple[str, ...] = ()) -> Iterator[tuple[Runtime, str]]:
        """Each runtime with each precision that it has here, of ``precisions`` where some are
        named.
        """
        for runtime in self.runtimes:
            for precision in runtime.precisions():
                if not precisions or precision in precisions:
                    yield runtime, precision
