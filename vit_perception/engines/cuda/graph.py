"""A CUDA graph of one frame, recorded by torch, and a process that survives a failed recording.

Sources: torch's notes on CUDA graphs, its CUDAGraph.cpp and torch/cuda/graphs.py (2.8 to 2.13). A
failed recording raises at its end, before torch has restored the stream and told its allocator that
the recording is over.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Why this process may record no more graphs. A recording after a failed one can hang or crash in
# the allocator, so a process only records until the first failure.
_failed_before = ""


def record(
    run: Callable[[], object], stream: "torch.cuda.Stream"
) -> "tuple[torch.cuda.CUDAGraph | None, str]":
    """Record what ``run`` queues on ``stream``: (the graph, ""), or (None, why not).

    ``run`` must have run before, so that nothing is made lazily during the recording. After a
    failure ``stream`` must not be used again. The calling thread's stream is restored, and later
    calls return None at once.
    """
    global _failed_before
    if _failed_before:
        return None, f"an earlier recording in this process failed: {_failed_before}"
    import torch

    # Recording waits for the current GPU and makes the pool there. Restoring a stream makes its GPU
    # the current one.
    with torch.cuda.device(stream.device):
        previous = torch.cuda.current_stream(stream.device)
        pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: what other threads do on the GPU meanwhile does not break the recording.
            with torch.cuda.graph(
                graph, pool=pool, stream=stream, capture_error_mode="thread_local"
            ):
                run()
            return graph, ""
        except Exception as error:
            # torch's own errors, and those of a runtime that refuses to run during a recording
            _failed_before = f"{type(error).__name__}: {error}"
            _end_allocation(torch, stream.device, pool)
            return None, _failed_before
        finally:
            torch.cuda.set_stream(previous)


def _end_allocation(torch, device: "torch.device", pool: tuple[int, int]) -> None:
    """Tell torch's allocator that the recording is over. If it knows already, it raises."""
    if end := getattr(torch._C, "_cuda_endAllocateToPool", None):
        with suppress(RuntimeError):
            end(device.index, pool)
