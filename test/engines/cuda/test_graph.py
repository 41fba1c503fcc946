"""A recording that fails leaves torch as it was: the thread's stream, and an allocator that knows
the recording is over.

Without a GPU torch's own context manager runs (torch.cuda.graph, where the stream is lost) on a
small stand-in for what is C++ below it. On a GPU a real recording is broken, in a process of its
own.
"""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from test.conftest import ROOT
from test.waiting import run_program
from vit_perception.engines.cuda import graph as cuda_graph

BROKEN = "CUDA error: operation failed due to a previous error during capture"


class StandinCuda:
    """What torch's C++ keeps: the stream of this thread and the pools that a recording is under way
    for.
    """

    def __init__(self):
        self.stream, self.under_way, self.begun, self.broken = "the thread's", [], [], False

    def on(self, stream):
        """torch.cuda.stream(stream), as a class: a generator that is thrown away would put the
        stream back itself.
        """
        cuda = self

        class On:
            def __enter__(self):
                self.previous, cuda.stream = cuda.stream, stream

            def __exit__(self, *error):
                cuda.stream = self.previous

        return On()

    def set_stream(self, stream):
        self.stream = stream

    def end(self, device, pool):
        if pool not in self.under_way:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.under_way.remove(pool)

    def empty_cache(self):
        if self.under_way:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")


@pytest.fixture
def cuda(monkeypatch):
    made = StandinCuda()

    class Graph:
        def capture_begin(self, pool, capture_error_mode, **ignored):
            made.begun.append((pool, capture_error_mode))
            made.under_way.append(pool)

        def capture_end(self):
            if made.broken:  # as CUDAGraph.cpp: before the allocator hears of it
                raise RuntimeError(BROKEN)
            made.end(0, made.begun[-1][0])

    for name, value in {
        "CUDAGraph": Graph,
        "current_stream": lambda device=None: made.stream,
        "stream": made.on,
        "set_stream": made.set_stream,
        "graph_pool_handle": lambda: (7, len(made.begun)),
        "synchronize": lambda device=None: None,
        "empty_cache": made.empty_cache,
        "device": lambda device: nullcontext(),
        "Stream": lambda *args, **kwargs: SimpleNamespace(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name, value in {
        "_cuda_endAllocateToPool": made.end,
        "_host_emptyCache": lambda: None,
    }.items():
        monkeypatch.setattr(torch._C, name, value, raising=False)
    monkeypatch.setattr(cuda_graph, "_failed_before", "")
    return made


def a_stream():
    return SimpleNamespace(device=torch.device("cuda", 0))


def test_a_recording_gives_its_graph_and_leaves_the_threads_stream(cuda):
    stream, seen = a_stream(), []
    graph, why_not = cuda_graph.record(lambda: seen.append(cuda.stream), stream)
    assert type(graph) is torch.cuda.CUDAGraph and why_not == "" and seen == [stream]
    assert cuda.stream == "the thread's" and not cuda.under_way
    assert cuda.begun[0][1] == "thread_local"  # what other threads do meanwhile does not break it
    assert cuda_graph.record(lambda: None, a_stream())[0] is not None


@pytest.mark.parametrize("raises", [True, False], ids=["the run raises", "the end tells"])
def test_a_failed_recording_leaves_the_stream_and_a_working_allocator(cuda, raises):
    """Regression: the thread kept the dead stream, and empty_cache() failed for the rest of the
    process.
    """

    def run():
        cuda.broken = True
        if raises:
            raise ValueError("the runtime refuses to run")

    graph, why_not = cuda_graph.record(run, a_stream())
    assert graph is None and BROKEN in why_not
    assert cuda.stream == "the thread's" and not cuda.under_way
    torch.cuda.empty_cache()


def test_a_run_that_raises_in_a_recording_that_ends_well_is_told(cuda):
    def run():
        raise ValueError("the runtime refuses to run")

    assert cuda_graph.record(run, a_stream()) == (None, "ValueError: the runtime refuses to run")
    assert cuda.stream == "the thread's" and not cuda.under_way


def test_after_a_failure_no_recording_is_tried_in_this_process(cuda):
    cuda.broken = True
    cuda_graph.record(lambda: None, a_stream())
    cuda.broken, ran = False, []
    graph, why_not = cuda_graph.record(lambda: ran.append(1), a_stream())
    assert (
        graph is None
        and "an earlier recording in this process failed" in why_not
        and BROKEN in why_not
    )
    assert not ran and len(cuda.begun) == 1


def test_a_torch_without_the_allocators_call_still_gets_its_stream_back(cuda, monkeypatch):
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool")
    cuda.broken = True
    assert cuda_graph.record(lambda: None, a_stream())[0] is None and cuda.stream == "the thread's"


ON_A_GPU = """
import torch
from vit_perception.engines.cuda import graph as cuda_graph
values, before = torch.zeros(4, device="cuda"), torch.cuda.current_stream()
def run():
    values.add_(1)
    torch.cuda.synchronize()  # which a recording does not allow
graph, why_not = cuda_graph.record(run, torch.cuda.Stream())
assert graph is None and why_not, why_not
assert torch.cuda.current_stream() == before
torch.cuda.empty_cache()
assert torch.ones(1 << 20, device="cuda").sum().item() == 1 << 20
assert cuda_graph.record(lambda: values.add_(1), torch.cuda.Stream())[0] is None
print("sound")
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_broken_recording_leaves_a_process_that_works():
    done = run_program([sys.executable, "-c", ON_A_GPU], cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith("sound\n"), done.stderr
