"""A look into an open engine: its graph, the same frame without it, its buffers, and the frame's
three stages.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from vit_perception.engines.engine import Engine
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.engine import TensorrtEngine
from vit_perception.wire.records import EncoderOutput

Arrays = dict[str, np.ndarray]


class Inside:
    """Of an engine that has neither a graph nor buffers of its own: torch on the CPU."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def is_graph(self) -> bool:
        """Whether a frame is one replay of a CUDA graph."""
        return False

    def eager_frame(self, images: np.ndarray) -> EncoderOutput:
        """The same frame as :meth:`Engine.infer`, its kernels launched one by one; the arrays are
        the engine's.
        """
        return self.engine.infer(images)

    def poison(self) -> None:
        """Fill every output with NaN, on the GPU and on the host."""

    def stages(self) -> dict[str, Callable[[], object]]:
        """``upload``, ``compute`` and ``download`` of a frame; each queues its part on
        :meth:`stream`, and waits for nothing.
        """
        return {}

    def stream(self) -> "torch.cuda.Stream | None":
        """The stream that frames run on."""
        return None


class InsideFrame(Inside):
    """Of torch on CUDA."""

    def __init__(self, engine: Engine):
        super().__init__(engine)
        self._frame = engine._replay

    def is_graph(self) -> bool:
        return isinstance(getattr(self._frame._launch, "__self__", None), torch.cuda.CUDAGraph)

    def eager_frame(self, images: np.ndarray) -> EncoderOutput:
        frame = self._frame
        np.copyto(frame._pinned_array, images)
        # On the frame's own stream: each stream has a workspace of cuBLAS, which may choose kernels
        # by it.
        with torch.cuda.stream(frame._stream), torch.no_grad():
            frame._images.copy_(frame._pinned, non_blocking=True)
            # Not frame._compute(): it would put its outputs in the place of the recorded ones.
            outputs = [output.contiguous() for output in frame._graph(frame._images)]
            for result, output in zip(frame._results, outputs, strict=True):
                result.copy_(output, non_blocking=True)
        frame._stream.synchronize()
        return frame._output

    def poison(self) -> None:
        frame = self._frame
        with torch.cuda.stream(frame._stream):
            for output in frame._outputs:
                output.fill_(float("nan"))
        frame._stream.synchronize()
        for result in frame._results:
            result.fill_(float("nan"))

    def stages(self) -> dict[str, Callable[[], object]]:
        frame = self._frame

        def download() -> None:
            for result, output in zip(frame._results, frame._outputs, strict=True):
                result.copy_(output, non_blocking=True)

        return {
            "upload": partial(frame._images.copy_, frame._pinned, non_blocking=True),
            "compute": frame._launch,
            "download": download,
        }

    def stream(self) -> "torch.cuda.Stream":
        return self._frame._stream


class InsideTensorrt(Inside):
    """Of TensorRT, TensorRT-RTX and the stand-in. Their graph holds all three stages, so these run
    without it.
    """

    def __init__(self, engine: TensorrtEngine):
        super().__init__(engine)
        self._api = tensorrt_api.load_api(engine.name)
        self._host_images, self._images, self._outputs, self._host_outputs, _ = engine._buffers

    def is_graph(self) -> bool:
        return isinstance(getattr(self.engine._replay, "__self__", None), torch.cuda.CUDAGraph)

    def eager_frame(self, images: np.ndarray) -> EncoderOutput:
        np.copyto(self.engine._images, images)
        with self.engine._device.on(self.stream()):
            self.engine._enqueue(self._api)
        self.stream().synchronize()
        return self.engine._output

    def poison(self) -> None:
        with self.engine._device.on(self.stream()):
            self._outputs.fill_(255)  # four such bytes are a NaN
        self.stream().synchronize()
        self._host_outputs.fill_(255)

    def stages(self) -> dict[str, Callable[[], object]]:
        return {
            "upload": partial(self._images.copy_, self._host_images, non_blocking=True),
            "compute": partial(self.engine._context.execute_async_v3, self.stream().cuda_stream),
            "download": partial(self._host_outputs.copy_, self._outputs, non_blocking=True),
        }

    def stream(self) -> "torch.cuda.Stream":
        return self.engine._stream


def look_into(engine: Engine) -> Inside:
    """What is inside of ``engine``, which is open."""
    if isinstance(engine, TensorrtEngine):
        return InsideTensorrt(engine)
    return InsideFrame(engine) if getattr(engine, "_replay", None) is not None else Inside(engine)


def copies(output: EncoderOutput) -> Arrays:
    """The arrays of ``output`` by name, copied: they hold beyond the next frame."""
    return {name: array.copy() for name, array in output.arrays.items()}


def differences(found: Arrays, expected: Arrays) -> dict[str, str]:
    """By name of an output, how it differs from what is ``expected``; empty where every bit is the
    same.
    """
    texts = {}
    if found.keys() != expected.keys():
        return {"outputs": f"{sorted(found)}, not {sorted(expected)}"}
    for name, array in found.items():
        if array.tobytes() == expected[name].tobytes():
            continue
        nan = int(np.isnan(array).sum())
        apart = np.abs(array.astype(np.float64) - expected[name])
        texts[name] = (
            f"{int((array != expected[name]).sum())} of {array.size} numbers differ, by "
            f"{np.nanmax(apart) if nan < array.size else float('nan'):.3g} at most; {nan} are NaN"
        )
    return texts


def launches(run: Callable[[], object], runs: int) -> dict[str, int]:
    """How many ``graphs`` and single ``kernels`` ``runs`` calls launch; empty where the profiler
    shows nothing.
    """
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(runs):
            run()
    counts = {event.key: event.count for event in profiler.key_averages()}
    if not any(name.startswith("cuda") for name in counts):
        return {}
    return {
        "graphs": sum(n for name, n in counts.items() if "GraphLaunch" in name),
        "kernels": sum(n for name, n in counts.items() if "LaunchKernel" in name),
    }
