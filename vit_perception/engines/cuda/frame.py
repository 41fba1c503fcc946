"""One frame of a torch module on an NVIDIA GPU: upload, run and download, in memory made once."""

from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.cuda import graph as cuda_graph
from vit_perception.wire.records import EncoderOutput

if TYPE_CHECKING:
    import torch
    from torch import nn

# In these runs cuBLAS and cuDNN choose kernels and allocate memory, which a recording forbids.
_WARM_UP_RUNS = 3


class CudaFrame:
    """``graph`` recorded for one input shape on a stream of its own, with its buffers.

    A frame copies into pinned memory, queues upload, replay and downloads, and waits once. Nothing
    is allocated. The order (warm up on a side stream, record, replay) is that of torch's notes on
    CUDA graphs. If the frame cannot be recorded, ``note`` says why, and each frame launches its
    kernels one by one, which is slower.
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
            # The stream of a failed recording cannot be used again.
            self._stream = torch.cuda.Stream(device)
            with torch.cuda.stream(self._stream):
                self._compute()
        self._launch = self._compute if recorded is None else recorded.replay
        self._results = [
            torch.empty(o.shape, dtype=o.dtype, pin_memory=True) for o in self._outputs
        ]
        # Views of pinned memory: an array that a caller keeps also keeps the memory.
        self._output = EncoderOutput(
            **{
                name: result.numpy()
                for name, result in zip(graph.output_names, self._results, strict=True)
            }
        )

    def _compute(self) -> None:
        with self._torch.no_grad():
            # Downloading a view with other strides would allocate memory for each frame.
            self._outputs = [output.contiguous() for output in self._graph(self._images)]

    def run(self, images: np.ndarray) -> EncoderOutput:
        """Run one frame. It returns the same arrays each time."""
        np.copyto(self._pinned_array, images)
        with self._torch.cuda.stream(self._stream):
            self._images.copy_(self._pinned, non_blocking=True)
            self._launch()
            for result, output in zip(self._results, self._outputs):
                result.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return self._output
