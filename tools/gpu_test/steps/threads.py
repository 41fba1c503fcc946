"""Runs from other threads than the one that opened, and a recording while another thread takes
memory.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest.mock import patch

import torch

from tools.gpu_test.inside import copies, differences, look_into
from tools.gpu_test.machine import Machine, Opened, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.cuda import graph as cuda_graph

RUNS, OPENINGS = 200, 3
_BLOCK_BYTES = 12 << 20  # above 10 MB torch asks the driver for each size anew
_WAIT_S = 60.0


def run(machine: Machine, note: Note) -> None:
    """For each runtime in its fastest precision."""
    loaded = machine.random()
    for runtime in machine.runtimes:
        precision = runtime.precisions()[0]
        for what in (_second_thread, _two_engines, _recording):
            note.attempt(
                f"{runtime.label} {precision}: {what.__name__.strip('_')}",
                partial(what, machine, note, runtime, precision, loaded),
            )


def _second_thread(
    machine: Machine, note: Note, runtime: Runtime, precision: str, loaded: LoadedModel
) -> None:
    with machine.opened(runtime, loaded, 2, precision) as opened, ThreadPoolExecutor(1) as pool:
        different = pool.submit(
            _run_in_turn, opened, machine.rounds(RUNS), _expected(opened)
        ).result(_WAIT_S)
        note.check(
            not different,
            f"{runtime.label} {precision}: a second thread gets the first one's outputs",
            different,
        )


def _two_engines(
    machine: Machine, note: Note, runtime: Runtime, precision: str, loaded: LoadedModel
) -> None:
    with (
        machine.opened(runtime, loaded, 2, precision) as one,
        machine.opened(runtime, loaded, 1, precision) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        expected, runs = (
            [(opened, _expected(opened)) for opened in (one, other)],
            machine.rounds(RUNS),
        )
        waiting = [pool.submit(_run_in_turn, opened, runs, outputs) for opened, outputs in expected]
        for name, future in zip(("batch 2", "batch 1"), waiting, strict=True):
            different = future.result(_WAIT_S)
            note.check(
                not different,
                f"{runtime.label} {precision}: two engines at once, {name}",
                different,
            )


def _expected(opened: Opened) -> list:
    return [(images, copies(opened.engine.infer(images))) for images in opened.two]


def _run_in_turn(opened: Opened, runs: int, expected: list) -> dict:
    """The first differences in ``runs`` of each input, empty where there are none."""
    for _ in range(runs):
        for images, outputs in expected:
            if different := differences(copies(opened.engine.infer(images)), outputs):
                return different
    return {}


class Allocator:
    """A thread that takes blocks of ever new sizes on the device, writes to them and reads them."""

    def __init__(self, device: str):
        self._device, self._pool = device, ThreadPoolExecutor(1)
        self.blocks: list[torch.Tensor] = []

    def take(self, count: int) -> None:
        """Have the thread take ``count`` blocks, and wait until it has. Raises what it raises."""
        self._pool.submit(self._take, count).result(_WAIT_S)

    def _take(self, count: int) -> None:
        for _ in range(count):
            number = len(self.blocks)
            self.blocks.append(
                torch.full(
                    (_BLOCK_BYTES * (number + 1),), number, dtype=torch.uint8, device=self._device
                )
            )
        if wrong := self.overwritten():
            raise RuntimeError(wrong)

    def overwritten(self) -> str:
        """Which blocks do not hold what was written to them, ``""`` for none."""
        wrong = [
            number for number, block in enumerate(self.blocks) if not bool((block == number).all())
        ]
        return f"blocks {wrong} of {len(self.blocks)} were overwritten" if wrong else ""


def _recording(
    machine: Machine, note: Note, runtime: Runtime, precision: str, loaded: LoadedModel
) -> None:
    label = f"{runtime.label} {precision}"
    with machine.opened(runtime, loaded, 2, precision) as quiet:
        expected = _expected(quiet)
    for _ in range(machine.rounds(OPENINGS)):
        allocator = Allocator(machine.device)
        allocator.take(1)  # what the first use of the GPU by a thread brings is no part of this

        def record(run: Callable[[], object], stream, plain=cuda_graph.record, allocator=allocator):
            def run_beside() -> None:
                run()
                allocator.take(3)

            return plain(run_beside, stream)

        with (
            patch.object(cuda_graph, "record", record),
            machine.opened(runtime, loaded, 2, precision) as opened,
        ):
            if machine.on_gpu:
                note.check(
                    look_into(opened.engine).is_graph() and len(allocator.blocks) == 4,
                    f"{label}: recorded while another thread takes memory",
                    opened.engine.note,
                )
            different = _run_in_turn(opened, 20, expected)
            note.check(
                not different, f"{label}: its outputs are those of a quiet recording", different
            )
            allocator.take(1)
            note.check(
                not allocator.overwritten(),
                f"{label}: the other thread's memory is its own",
                allocator.overwritten(),
            )
