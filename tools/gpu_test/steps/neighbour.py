"""Two processes on one GPU: what a busy one costs the encoder, and the encoder the other, by
priority and by rate.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_figures import timing
from tools.gpu_test.inside import look_into
from tools.gpu_test.machine import Machine
from tools.gpu_test.note import Note
from vit_perception.engines.engine import Engine

ROOT = Path(__file__).resolve().parents[3]
PHASE_S = 4.0
RATES_HZ = (30.0, 10.0)
HIGHEST = -100  # CUDA takes the nearest that it has


class Neighbour:
    """The process of :mod:`tools.gpu_test.busy`."""

    def __init__(self, device: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.gpu_test.busy", "--device", device],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout.readline() != "busy\n":
            raise RuntimeError(f"the busy process ended with {self._process.wait()}")

    def figures(self) -> dict:
        """Of its steps since the last call."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def highest_priority(on_gpu: bool) -> Iterator[None]:
    """While entered, streams that are made have the highest priority; kernels of a graph take it
    from its recording.
    """
    if not on_gpu:
        yield
        return
    plain = torch.cuda.Stream

    class Stream(plain):
        def __new__(cls, device=None, priority=HIGHEST, **existing):
            # torch also calls it to name a stream that is there, with that one's numbers.
            return super().__new__(cls, device, 0 if existing else priority, **existing)

    torch.cuda.Stream = Stream
    try:
        yield
    finally:
        torch.cuda.Stream = plain


def run(machine: Machine, note: Note, name: str) -> None:
    """Alone, then beside the neighbour: at full rate without and with priority, and at bounded
    rates.
    """
    loaded, phase_s = machine.random(name), PHASE_S if machine.on_gpu else 0.2
    name = name if machine.on_gpu else "test"
    for runtime in machine.real_runtimes:
        precision = runtime.precisions()[0]
        common = {"model": name, "batch": 1, "runtime": runtime.label, "precision": precision}

        def phase(
            what: str,
            engine: Engine,
            images: np.ndarray,
            neighbour: Neighbour | None,
            rate_hz: float = 0.0,
            common: dict = common,
        ) -> None:
            if neighbour:
                neighbour.figures()  # what came before is no part of it
            row = {**common, "mode": what, **paced(engine, images, phase_s, rate_hz)}
            if neighbour:
                row["neighbour"] = neighbour.figures()
            note.row(row)

        with machine.opened(runtime, loaded, 1, precision) as opened:
            engine, images = opened.engine, opened.two[0]
            phase("alone", engine, images, None)
            neighbour = Neighbour(machine.device)
            try:
                neighbour.figures()
                time.sleep(phase_s)
                note.figure(f"{runtime.label}: the neighbour alone", neighbour.figures())
                phase("beside a busy process", engine, images, neighbour)
                for rate_hz in RATES_HZ:
                    phase(
                        f"beside a busy process, max_rate_hz {rate_hz:g}",
                        engine,
                        images,
                        neighbour,
                        rate_hz,
                    )
                with (
                    highest_priority(machine.on_gpu),
                    machine.opened(runtime, loaded, 1, precision) as preferred,
                ):
                    if machine.on_gpu:
                        priority = look_into(preferred.engine).stream().priority
                        note.check(
                            priority < 0, f"{runtime.label}: its stream has priority", priority
                        )
                    phase(
                        "beside a busy process, stream priority",
                        preferred.engine,
                        images,
                        neighbour,
                    )
            finally:
                neighbour.close()


def paced(engine: Engine, images: np.ndarray, seconds: float, rate_hz: float) -> dict:
    """p50, p99 and rate of ``engine`` for ``seconds``; ``rate_hz`` 0 is no bound, as the node's
    ``max_rate_hz``.
    """
    times_ms, ended_s = [], time.monotonic() + seconds
    while time.monotonic() < ended_s or not times_ms:
        begun_s = time.monotonic()
        engine.infer(images)
        took_s = time.monotonic() - begun_s
        times_ms.append(1e3 * took_s)
        if rate_hz:
            time.sleep(max(0.0, 1 / rate_hz - took_s))
    return {**timing(times_ms, 1), "frames": len(times_ms), "rate_hz": len(times_ms) / seconds}
