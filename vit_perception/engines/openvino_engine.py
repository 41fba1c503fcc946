"""OpenVINO as an engine, on the CPU. openvino is imported on first use."""

from collections import Counter
from dataclasses import replace
from importlib import metadata, util
from typing import Any

import numpy as np

from vit_perception.engines.engine import BackendStatus, Engine, EngineError, EngineSpec
from vit_perception.engines.int8 import LEFT_OUT, int8_model
from vit_perception.engines.source import EngineSource
from vit_perception.wire.records import EncoderOutput

_DEVICE = "CPU"
# Our name, OpenVINO's capability, the value of its precision hint. What the CPU lacks is emulated
# or ignored.
_PRECISIONS = (("bfloat16", "BF16", "bf16"), ("float16", "FP16", "f16"), ("float32", "FP32", "f32"))
_INT8 = ("int8", "INT8")


class OpenvinoEngine(Engine):
    """Compiles the ONNX file for lowest latency. Inputs and outputs are arrays that the request
    writes in place.
    """

    name = "openvino"

    def __init__(self):
        super().__init__()
        self._request = None
        self._images: np.ndarray | None = None
        self._output: EncoderOutput | None = None

    def status(self) -> BackendStatus:
        if util.find_spec("openvino") is None:
            return BackendStatus(
                self.name, False, why_not="Python package openvino is not installed"
            )
        version = metadata.version("openvino")
        try:
            import openvino

            core = openvino.Core()
            capabilities = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
            device = core.get_property(_DEVICE, "FULL_DEVICE_NAME").strip()
        except Exception as error:  # a library that does not load on this CPU or system
            return BackendStatus(
                self.name, False, version, why_not=f"openvino {version} does not start: {error}"
            )
        # int8 last: `auto` takes the first, and int8 needs images that only the user has.
        precisions = tuple(p[0] for p in (*_PRECISIONS, _INT8) if p[1] in capabilities)
        return BackendStatus(self.name, True, version, device, precisions)

    def attempts(self, spec: EngineSpec) -> tuple[EngineSpec, ...]:
        return (
            tuple(replace(spec, left_out=groups) for groups in LEFT_OUT)
            if spec.precision == "int8"
            else (spec,)
        )

    def _open(self, source: EngineSource, spec: EngineSpec) -> None:
        import openvino

        core = openvino.Core()
        file = int8_model(source, spec) if spec.precision == "int8" else source.onnx_file()
        # Around int8 layers, what the device is fastest in.
        precision = self.status().precisions[0] if spec.precision == "int8" else spec.precision
        hint = next(value for ours, _, value in _PRECISIONS if ours == precision)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if spec.threads:
            options["INFERENCE_NUM_THREADS"] = spec.threads
        compiled = core.compile_model(core.read_model(file), _DEVICE, options)
        self.precision = _precision_of(compiled)
        self._request = compiled.create_infer_request()
        self._images = np.zeros((spec.batch, 3, *spec.network_size_px), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self._images, shared_memory=True))
        arrays = {
            port.any_name: np.zeros(tuple(port.shape), np.float32) for port in compiled.outputs
        }
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


def _precision_of(compiled: Any) -> str:
    """The precision that the compiled model says it runs in: int8 where linear layers do, whatever
    runs the rest.
    """
    layers = linear_layer_types(compiled)
    if layers["i8"] + layers["u8"]:
        return "int8"
    running = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    for ours, _, hint in _PRECISIONS:
        if running == hint:
            return ours
    raise EngineError(
        f"openvino compiled the model to {running!r}; accepted: "
        f"{', '.join(p[2] for p in _PRECISIONS)}"
    )


def linear_layer_types(compiled: Any) -> Counter[str]:
    """How many linear layers of an ``openvino.CompiledModel`` run in each type, by OpenVINO's
    names: ``u8``.
    """
    layers = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    return Counter(
        info["runtimePrecision"].astype(str)
        for info in layers
        if info["layerType"].astype(str) == "FullyConnected"
    )
