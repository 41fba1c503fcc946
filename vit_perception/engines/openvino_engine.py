"""OpenVINO as an engine, on the CPU. openvino is imported on first use."""

from importlib import metadata, util

import numpy as np

from vit_perception.engines.engine import BackendStatus, Engine, EngineError, EngineSpec
from vit_perception.engines.source import EngineSource
from vit_perception.types import EncoderOutput

_DEVICE = "CPU"
# Our name, OpenVINO's capability, the value of its precision hint. What the CPU lacks is emulated or ignored.
_PRECISIONS = (("bfloat16", "BF16", "bf16"), ("float16", "FP16", "f16"), ("float32", "FP32", "f32"))


class OpenvinoEngine(Engine):
    """Compiles the ONNX file for lowest latency. Inputs and outputs are arrays that the request writes in place."""

    name = "openvino"

    def __init__(self):
        super().__init__()
        self._request = None
        self._images: np.ndarray | None = None
        self._output: EncoderOutput | None = None

    def status(self) -> BackendStatus:
        if util.find_spec("openvino") is None:
            return BackendStatus(self.name, False, why_not="Python package openvino is not installed")
        version = metadata.version("openvino")
        try:
            import openvino
            core = openvino.Core()
            capabilities = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
            device = core.get_property(_DEVICE, "FULL_DEVICE_NAME").strip()
        except Exception as error:  # noqa: BLE001 - a library that does not load on this CPU or system
            return BackendStatus(self.name, False, version, why_not=f"openvino {version} does not start: {error}")
        precisions = tuple(ours for ours, capability, _ in _PRECISIONS if capability in capabilities)
        return BackendStatus(self.name, True, version, device, precisions)

    def _open(self, source: EngineSource, spec: EngineSpec) -> None:
        import openvino
        core = openvino.Core()
        hint = next(value for ours, _, value in _PRECISIONS if ours == spec.precision)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if spec.threads:
            options["INFERENCE_NUM_THREADS"] = spec.threads
        compiled = core.compile_model(core.read_model(source.onnx_file()), _DEVICE, options)
        self.precision = _precision_of(compiled)
        self._request = compiled.create_infer_request()
        self._images = np.zeros((spec.batch, 3, *spec.network_size_px), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self._images, shared_memory=True))
        arrays = {port.any_name: np.zeros(tuple(port.shape), np.float32) for port in compiled.outputs}
        for name, array in arrays.items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._output = EncoderOutput(**arrays)

    def _run(self, images: np.ndarray) -> EncoderOutput:
        np.copyto(self._images, images)
        self._request.infer()
        return self._output

    def _close(self) -> None:
        # The arrays that callers still hold are numpy's own, so they outlive the request.
        self._request = self._images = self._output = None


def _precision_of(compiled) -> str:
    """The precision that the compiled model says it runs in."""
    running = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    for ours, _, hint in _PRECISIONS:
        if running == hint:
            return ours
    raise EngineError(f"openvino compiled the model to {running!r}; accepted: {', '.join(p[2] for p in _PRECISIONS)}")
