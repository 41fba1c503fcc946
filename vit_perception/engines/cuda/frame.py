"""One frame of a torch module on an NVIDIA GPU: upload, run, download, in memory that is allocated
once.
"""

from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.cuda import graph as cuda_graph
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    import torch
    from torch import nn

# cuBLAS and cuDNN choose kernels and allocate workspaces, which may not happen in a recording
_WARM_UP_RUNS = 3


class CudaFrame:
    """``graph``, recorded on a stream of its own for one input shape, with the buffers that it
    reads and writes.

    A frame is one copy into pinned memory, an upload, the replay and the downloads, all queued, and
    one wait; nothing is allocated. The order (warm up on a side stream, record, replay) is that of
    torch's notes on CUDA graphs. ``note`` says why the frame cannot be recorded; then each frame
    launches its kernels one by one, which is slower.
    """

    def __init__(self, graph: "nn.Module", shape: tuple[int, ...], device: "torch.device"):
        import torch

        self._torch = torch
        self._graph = graph
        self._stream = torch.cuda.Stream(device)
        self._pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._pinned_array = self._pinned.numpy()
        self._images = torch.zeros(shape, dtype=torch.uint8, device=device)
        # The zeros above are written on the current stream.
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                self._compute()
        self._stream.synchronize()
        recorded, why_not = cuda_graph.record(self._compute, self._stream)
        self.note = f"runs without a CUDA graph ({why_not})" if why_not else ""
        if recorded is None:
            self._stream = torch.cuda.Stream(device)  # a stream whose recording failed is of no use
            with torch.cuda.stream(self._stream):
                self._compute()
        self._launch = self._compute if recorded is None else recorded.replay
        self._results = [
            torch.empty(o.shape, dtype=o.dtype, pin_memory=True) for o in self._outputs
        ]
        # Views of pinned memory: arrays that callers keep also keep the memory.
        self._output = EncoderOutput(
            **{
                name: result.numpy()
                for name, result in zip(graph.output_names, self._results, strict=True)
            }
        )

    def _compute(self) -> None:
        with self._torch.no_grad():
            # Downloading a view of other strides would allocate at each frame.
            self._outputs = [output.contiguous() for output in self._graph(self._images)]

    def run(self, images: np.ndarray) -> EncoderOutput:
        """One frame; the arrays given back are the same ones each time."""
        np.copyto(self._pinned_array, images)
        with self._torch.cuda.stream(self._stream):
            self._images.copy_(self._pinned, non_blocking=True)
            self._launch()
            for result, output in zip(self._results, self._outputs):
                result.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return self._output
