"""TensorRT and TensorRT-RTX as engines: built once into the cache, one CUDA graph replay a frame.

Parsing, building, the cache, the layout of buffers and error messages need no GPU, and are always
tested. Loading, running and capturing have not been run on a GPU of a supported compute capability
yet. The parity gate guards every output.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from vit_perception.engines.cache.store import read_checked, write_checked
from vit_perception.engines.cuda.device import CudaDevice
from vit_perception.engines.cuda.gpus import Gpu, named, on_gpu
from vit_perception.engines.engine import (
    BackendStatus,
    Engine,
    EngineError,
    EngineSpec,
    why_not_installed,
)
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.buffers import INPUT_NAME, BufferTable, buffer_table
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import (
    cached_engine,
    engine_key,
    kernels_file,
    timing_cache_file,
)
from vit_perception.engines.tensorrt.load import load_cached, load_carried, tensor_facts
from vit_perception.wire.records import EncoderOutput

# Fused attention in half precision is the fastest. On some versions it is silently wrong
# (NVIDIA/TensorRT#4723, #4837).
ATTENTION_FORMS = ("half", "float32_softmax", "float32")


class TensorrtEngine(Engine):
    """``flavour`` is ``tensorrt`` (Jetson, data centre) or ``tensorrt_rtx`` (desktop RTX).

    A frame is a copy into pinned memory, one replay (upload, network, download) and one wait.
    Nothing is allocated. The first start of TensorRT builds for minutes. That of RTX builds for
    seconds and compiles its kernels, which are kept next to the engine.
    """

    # Replaced by tests without a GPU.
    make_device: Callable[[], CudaDevice] = CudaDevice

    def __init__(self, flavour: str):
        super().__init__()
        self.name = flavour
        self._clear()

    def _clear(self) -> None:
        self._loaded = self._context = self._kernels = self._runtime_config = self._device = None
        self._stream = self._replay = self._images = self._output = None
        self._buffers = ()

    def status(self) -> BackendStatus:
        try:
            if not tensorrt_api.module_name(self.name):
                return self.missing(why_not_installed(self.name))
            api = tensorrt_api.load_api(self.name)
            with on_gpu(self.gpu_index):
                gpu, why_not = tensorrt_api.find_gpu()
        except EngineError as error:
            return self.missing(str(error))
        version = api.__version__
        if gpu is None:
            if targets := tensorrt_api.targets_of(api):
                why_not += (
                    f" (engines for other machines can be built here, for {', '.join(targets)})"
                )
            return self.missing(why_not, version)
        why_not = tensorrt_api.why_not_a_target(self.name, api, gpu)
        return BackendStatus(
            name=self.name,
            found=not why_not,
            version=version,
            device=named(gpu, self.gpu_index),
            precisions=tensorrt_api.precisions_of(gpu.compute_capability),
            why_not=why_not,
            hardware=str(gpu),
        )

    def attempts(self, spec: EngineSpec) -> tuple[EngineSpec, ...]:
        """Return each form of attention that makes a difference; in float32 there is one."""
        forms = attention_forms(
            self.name, tensorrt_api.load_api(self.name).__version__, spec.precision
        )
        return tuple(replace(spec, attention=form) for form in forms)

    def _open(self, source: EngineSource, spec: EngineSpec) -> bool | None:
        # TensorRT builds, loads and runs on the GPU that is current in the thread.
        with on_gpu(self.gpu_index):
            return self._open_here(source, spec)

    def _open_here(self, source: EngineSource, spec: EngineSpec) -> bool | None:
        api = tensorrt_api.load_api(self.name)
        gpu, why_not = tensorrt_api.find_gpu()
        if gpu is None:
            raise EngineError(f"{self.name}: {why_not}")
        options = options_for(self.name, api.__version__, gpu, source)
        key = engine_key(
            source,
            precision=spec.precision,
            attention=spec.attention,
            options=options,
            version=api.__version__,
            gpu=gpu,
        )
        get = partial(
            cached_engine,
            source,
            precision=spec.precision,
            attention=spec.attention,
            options=options,
            gpu=gpu,
        )
        self._loaded, self.file, was_cached = (
            load_carried(api, source.carried, key)
            if source.carried
            else load_cached(api, get, source.log)
        )
        # The network is strongly typed, so it runs in what was exported.
        self.precision = spec.precision
        kernels = kernels_file(key, gpu, source.folder)
        stored = read_checked(kernels, source.log) if self.name == "tensorrt_rtx" else b""
        if self.name == "tensorrt_rtx" and not stored:
            source.log.info(
                f"{self.name} compiles its kernels for {gpu.name}, once; this takes some seconds"
            )
        self._context, self._kernels, self._runtime_config = tensorrt_api.make_context(
            api, self.name, self._loaded.engine, stored, source.log
        )
        if self._context is None:
            raise EngineError(
                f"{self.name} makes no execution context: "
                f"{tensorrt_api.logger_of(api).take_errors()}"
            )
        self._allocate(api, buffer_table(tensor_facts(self._loaded.engine), spec))
        self._warm_up_and_capture(api, source)
        tensorrt_api.report_warnings(api, source.log)
        if self._kernels is not None:
            compiled = self._kernels.serialize()
            if compiled is None:
                source.log.warning(
                    f"{self.name} does not give its kernels away; each start compiles them"
                )
            elif bytes(compiled) != stored:
                write_checked(kernels, bytes(compiled), source.log)
        return was_cached

    def _allocate(self, api, table: BufferTable) -> None:
        """Allocate pinned host memory and GPU memory, and give the context their addresses."""
        self._device = self.make_device()
        host_images, host_outputs = (
            self._device.host_block(shape) for shape in (table.input_shape, table.size_bytes)
        )
        images, outputs = (
            self._device.block(shape) for shape in (table.input_shape, table.size_bytes)
        )
        scratch = self._device.block(max(self._loaded.engine.device_memory_size_v2, 1))
        self._context.set_device_memory(scratch.data_ptr(), scratch.numel())
        self._device.synchronize()  # the zeros are written on another stream
        self._stream = self._device.new_stream()
        self._buffers = (host_images, images, outputs, host_outputs, scratch)
        addresses = {INPUT_NAME: images.data_ptr()}
        addresses |= {slot.name: outputs.data_ptr() + slot.offset for slot in table.outputs}
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(
                    f"{self.name} refuses the buffer of {name}: "
                    f"{tensorrt_api.logger_of(api).take_errors()}"
                )
        self._images = host_images.numpy()
        flat = host_outputs.numpy()
        self._output = EncoderOutput(
            **{
                slot.name: flat[slot.offset : slot.offset + slot.size_bytes]
                .view(np.float32)
                .reshape(slot.shape)
                for slot in table.outputs
            }
        )

    def _enqueue(self, api) -> None:
        """Queue upload, network and download on the stream, which has to be current."""
        host_images, images, outputs, host_outputs, _ = self._buffers
        images.copy_(host_images, non_blocking=True)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise EngineError(
                f"{self.name} does not run: {tensorrt_api.logger_of(api).take_errors()}"
            )
        host_outputs.copy_(outputs, non_blocking=True)

    def _warm_up_and_capture(self, api, source: EngineSource) -> None:
        """Run twice, so that nothing is made lazily later; then record the frame as a CUDA graph.

        A frame that cannot be recorded is enqueued each time. This is slower, but no error.
        """
        with self._device.on(self._stream):
            for _ in range(2):
                self._enqueue(api)
            self._stream.synchronize()
        capturable = getattr(self._context, "is_stream_capturable", None)
        replay = None
        why_not = "the runtime says so"
        if capturable is None or capturable(self._stream.cuda_stream):
            logger = tensorrt_api.logger_of(api)
            logger.take_errors()
            replay, why_not = self._device.record(partial(self._enqueue, api), self._stream)
            if replay is None:
                if said := logger.take_errors(without=""):
                    why_not = f"{said}; {why_not}"
                # The stream of a failed recording cannot be used again.
                self._stream = self._device.new_stream()
        if replay is not None:
            self._replay = replay
            return
        self.note = (
            f"runs without a CUDA graph ({why_not}); each frame is enqueued, which costs more of "
            "the host's time"
        )
        source.log.warning(f"{self.name} {self.note}")
        self._replay = partial(self._enqueue, api)

    def _run(self, images: np.ndarray) -> EncoderOutput:
        np.copyto(self._images, images)
        # The current stream is this thread's, which need not be the one that opened.
        with self._device.on(self._stream):
            self._replay()
        self._stream.synchronize()
        return self._output

    def _close(self) -> None:
        if self._loaded is None:
            return
        with contextlib.suppress(RuntimeError), contextlib.ExitStack() as stack:
            with contextlib.suppress(RuntimeError):
                stack.enter_context(on_gpu(self.gpu_index))
            self._free()

    def _free(self) -> None:
        if self._stream is not None:
            # After a fault on the GPU every call fails. The fault itself was reported before.
            with contextlib.suppress(RuntimeError):
                self._stream.synchronize()
        # The graph before the context, the context before the engine, the engine before the
        # runtime. Arrays that callers hold keep the pinned memory that they view.
        self._replay = None
        self._context = self._kernels = self._runtime_config = None
        self._loaded = None
        device = self._device
        self._clear()
        if device is not None:
            device.give_back()


def attention_forms(flavour: str, version: str, precision: str) -> tuple[str, ...]:
    """Return the forms of attention to try in ``precision``, the fastest first."""
    if precision == "float32":
        return ("half",)
    repeated = tensorrt_api.repeated_forms(flavour, version, precision)
    return tuple(form for form in ATTENTION_FORMS if form not in repeated)


def options_for(flavour: str, version: str, gpu: Gpu, source: EngineSource) -> BuildOptions:
    """Return how an engine for this machine's GPU is built.

    For RTX it is the engine that is built ahead for the GPU's compute capability.
    """
    if flavour == "tensorrt_rtx":
        return BuildOptions(flavour, (gpu.compute_capability,))
    timings = timing_cache_file(version, gpu, source.folder)
    return BuildOptions(flavour, timing_cache=timings)
