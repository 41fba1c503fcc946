"""ONNX Runtime as an engine, on the CPU or on the GPU provider that the user names.

The two GPU providers need the package onnxruntime-gpu. They have never been run.
"""

from pathlib import Path

import numpy as np

from vit_perception.engines.engine import (
    BackendStatus,
    Engine,
    EngineError,
    EngineSpec,
    why_not_installed,
)
from vit_perception.engines.source import EngineSource
from vit_perception.engines.torch_engine import read_cpu
from vit_perception.wire.records import EncoderOutput

# engine.provider to ONNX Runtime's names: first what runs, then what takes the nodes it refuses.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
# Otherwise it computes float32 in TF32, and would not run in the precision that is published.
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


def providers(name: str, gpu_index: int) -> list[tuple[str, dict[str, str]]]:
    """Return (ONNX Runtime's name, options) of each provider for the value of engine.provider."""
    gpu = {} if name == "cpu" else {"device_id": str(gpu_index)}
    return [(provider, {**_OPTIONS.get(provider, {}), **gpu}) for provider in _PROVIDERS[name]]


class OnnxruntimeEngine(Engine):
    """``provider`` is a value of engine.provider: ``cpu``, ``cuda`` or ``tensorrt``.

    The session is bound to arrays of this engine, and writes the outputs in place. The tensorrt
    provider compiles at each start; the backend ``tensorrt`` keeps what it compiled.
    """

    name = "onnxruntime"

    def __init__(self, provider: str = "cpu"):
        super().__init__()
        self._provider = provider
        self._session = None
        self._binding = None
        self._images: np.ndarray | None = None
        self._output: EncoderOutput | None = None

    def status(self) -> BackendStatus:
        if why_not := why_not_installed(self.name):
            return self.missing(why_not)
        try:
            import onnxruntime

            version = onnxruntime.__version__
            available = onnxruntime.get_available_providers()
        except Exception as error:  # a library that does not load on this system
            return self.missing(f"onnxruntime does not start: {error}")
        wanted = _PROVIDERS[self._provider][0]
        if wanted not in available:
            return self.missing(
                f"this onnxruntime has no {wanted}, only {', '.join(available)}; the package "
                "onnxruntime-gpu has it",
                version,
            )
        # On a CPU float16 is emulated: its kernels cast to float32 and back around each layer.
        on_cpu = self._provider == "cpu"
        return BackendStatus(
            name=self.name,
            found=True,
            version=version,
            device=read_cpu(Path("/proc/cpuinfo"))[0] if on_cpu else f"GPU {self.gpu_index}",
            precisions=("float32",) if on_cpu else ("float16", "float32"),
        )

    def _open(self, source: EngineSource, spec: EngineSpec) -> bool:
        import onnxruntime

        file = source.onnx_file(spec.precision)
        wanted = _PROVIDERS[self._provider]
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = spec.threads
        options.log_severity_level = 3  # errors; its warnings are about harmless things
        if self._provider != "cpu":
            # Otherwise layers that the provider refuses run on the CPU, without a word.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._session = onnxruntime.InferenceSession(
            file.path,
            options,
            providers=providers(self._provider, self.gpu_index),
        )
        running = self._session.get_providers()[0]
        if running != wanted[0]:
            raise EngineError(
                f"onnxruntime fell back to {running}: {wanted[0]} does not start here; "
                "accepted for engine.provider: cpu, or a GPU whose driver, CUDA and cuDNN fit this "
                "onnxruntime"
            )
        self._session.disable_fallback()
        self.runtime = f"{self.runtime} {running}"
        self.precision = spec.precision  # the file is run as it is
        self._bind(spec)
        return file.was_cached

    def _bind(self, spec: EngineSpec) -> None:
        self._images = np.zeros((spec.batch, 3, *spec.network_size_px), np.uint8)
        arrays = {
            output.name: np.zeros(output.shape, np.float32)
            for output in self._session.get_outputs()
        }
        self._output = EncoderOutput(**arrays)
        self._binding = self._session.io_binding()
        self._binding.bind_input(
            self._session.get_inputs()[0].name,
            "cpu",
            0,
            np.uint8,
            self._images.shape,
            self._images.ctypes.data,
        )
        for name, array in arrays.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def _run(self, images: np.ndarray) -> EncoderOutput:
        np.copyto(self._images, images)
        self._session.run_with_iobinding(self._binding)
        return self._output

    def _close(self) -> None:
        # Arrays that callers hold are numpy's, so they outlive the session. Its bindings go first.
        self._binding = None
        self._session = self._images = self._output = None
