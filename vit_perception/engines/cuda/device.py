"""Memory and streams of torch's current GPU, in the few calls that an engine needs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from vit_perception.engines.cuda import graph as cuda_graph

if TYPE_CHECKING:
    import torch


class CudaDevice:
    """torch's current GPU. Blocks are uint8 tensors; torch's allocator owns them."""

    def __init__(self):
        import torch

        self._torch = torch
        self._device = torch.device("cuda", torch.cuda.current_device())

    def host_block(self, shape: int | tuple[int, ...]) -> "torch.Tensor":
        """Return zeros in pinned host memory, which the GPU can copy by itself."""
        return self._torch.zeros(shape, dtype=self._torch.uint8).pin_memory()

    def block(self, shape: int | tuple[int, ...]) -> "torch.Tensor":
        """Return zeros in the GPU's memory.

        They are written on the current stream: call :meth:`synchronize` before another stream uses
        them.
        """
        return self._torch.zeros(shape, dtype=self._torch.uint8, device=self._device)

    def synchronize(self) -> None:
        """Wait for everything that is queued on the GPU."""
        self._torch.cuda.synchronize(self._device)

    def new_stream(self) -> "torch.cuda.Stream":
        """Return a new stream, with ``cuda_stream`` (its address) and ``synchronize``."""
        return self._torch.cuda.Stream(self._device)

    def on(self, stream: "torch.cuda.Stream") -> AbstractContextManager:
        """Queue on ``stream`` what this thread queues inside the ``with`` block."""
        return self._torch.cuda.stream(stream)

    def record(
        self, run: Callable[[], object], stream: "torch.cuda.Stream"
    ) -> tuple[Callable[[], None] | None, str]:
        """Record ``run`` as a CUDA graph: (what replays it, ""), or (None, why not).

        See :func:`cuda_graph.record`.
        """
        recorded, why_not = cuda_graph.record(run, stream)
        return recorded.replay if recorded else None, why_not

    def give_back(self) -> None:
        """Return unused memory to the GPU.

        After a fault on the GPU every call fails. The fault itself was reported before.
        """
        with suppress(RuntimeError):
            self._torch.cuda.empty_cache()
