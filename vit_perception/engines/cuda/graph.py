"""A CUDA graph of one frame, recorded by torch, and a process that stays sound where the recording
fails.

Sources: torch's notes on CUDA graphs, and its CUDAGraph.cpp and torch/cuda/graphs.py (2.8 to 2.13):
a failed recording raises at its end, before torch has put the stream back and told its allocator
that the recording is over.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Why no graph may be recorded in this process any more. A second try after a failed one can hang or
# crash in the allocator, so that a process tries until the first failure.
_failed_before = ""


def record(
    run: Callable[[], object], stream: "torch.cuda.Stream"
) -> "tuple[torch.cuda.CUDAGraph | None, str]":
    """(the graph of what ``run`` queues on ``stream``, ``""``), or (None, why it cannot be
    recorded).

    ``run`` must have run before, so that nothing is made lazily while it is recorded. After a
    failure ``stream`` must not be used any more; the stream of the calling thread is what it was,
    and later calls give None at once.
    """
    global _failed_before
    if _failed_before:
        return None, f"an earlier recording in this process failed: {_failed_before}"
    import torch

    # Recording waits for the current GPU and makes the pool there. To put a stream back makes its
    # GPU the current one.
    with torch.cuda.device(stream.device):
        previous, pool = torch.cuda.current_stream(stream.device), torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: what other threads of this process do on the GPU meanwhile does not
            # break the recording.
            with torch.cuda.graph(
                graph, pool=pool, stream=stream, capture_error_mode="thread_local"
            ):
                run()
            return graph, ""
        except Exception as error:
            # Torch's own, a runtime's that refuses to run while it is recorded.
            _failed_before = f"{type(error).__name__}: {error}"
            _end_allocation(torch, stream.device, pool)
            return None, _failed_before
        finally:
            torch.cuda.set_stream(previous)


def _end_allocation(torch, device: "torch.device", pool: tuple[int, int]) -> None:
    """Tell torch's allocator that the recording is over; where it knows so already, it raises,
    which is as well.
    """
    if end := getattr(torch._C, "_cuda_endAllocateToPool", None):
        with suppress(RuntimeError):
            end(device.index, pool)
