"""A recording that fails: the process stays sound, and frames run right without a graph."""

from collections.abc import Callable
from unittest.mock import patch

import torch

from tools.gpu_test.inside import copies, differences, look_into
from tools.gpu_test.machine import Machine
from tools.gpu_test.note import Note
from vit_perception.engines.cuda import graph as cuda_graph


class Forced(Exception):
    """What a recording is ended with."""


def fail(kind: str) -> None:
    """End the recording that is under way: ``synchronize``, which CUDA refuses then, or ``error``,
    Python's own.
    """
    if kind == "synchronize":
        torch.cuda.synchronize()
    raise Forced("the recording is ended on purpose")


def run(machine: Machine, note: Note, argument: str) -> None:
    """``argument`` is the kind, then ``tensorrt`` where that runtime comes first; the others find
    what it has left.
    """
    kind, _, first = argument.partition(" ")
    runtimes = machine.runtimes[::-1] if first else machine.runtimes

    def record(run_frame: Callable[[], object], stream, plain=cuda_graph.record):
        def run_and_fail() -> None:
            run_frame()  # so that the recording has taken memory of its own
            fail(kind)

        return plain(run_and_fail, stream)

    loaded = machine.random()
    for index, runtime in enumerate(runtimes):
        before = torch.cuda.current_stream() if machine.on_gpu else None
        with (
            patch.object(cuda_graph, "record", record),
            machine.opened(runtime, loaded, 2, runtime.precisions()[0]) as opened,
        ):
            if machine.on_gpu:
                _sound(
                    note,
                    runtime.label,
                    before,
                    opened.engine.note,
                    "an earlier recording" if index else "",
                )
            inside = look_into(opened.engine)
            for images in opened.two * 3:
                different = differences(
                    copies(opened.engine.infer(images)), copies(inside.eager_frame(images))
                )
                note.check(not different, f"{runtime.label}: frames are right", different)
        note.check(
            bool(torch.ones(1 << 20, device=machine.device).sum() == 1 << 20),
            f"{runtime.label}: the device goes on when the engine is closed",
        )


def _sound(note: Note, label: str, before: "torch.cuda.Stream", said: str, reason: str) -> None:
    note.figure(f"{label}: says", said)
    note.check(
        "without a CUDA graph" in said and reason in said,
        f"{label}: it runs without a graph, and says why",
        said,
    )
    note.check(
        torch.cuda.current_stream() == before,
        f"{label}: this thread's stream is what it was",
        torch.cuda.current_stream(),
    )
    note.check(
        not torch.cuda.is_current_stream_capturing(), f"{label}: nothing is recorded any more"
    )
    note.attempt(f"{label}: empty_cache() works", torch.cuda.empty_cache)
    note.attempt(f"{label}: the GPU can be waited for", torch.cuda.synchronize)
