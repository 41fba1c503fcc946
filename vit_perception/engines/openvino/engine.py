"""OpenVINO as an engine, on the CPU."""

import platform
from collections import Counter
from dataclasses import replace
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from vit_perception.engines.engine import (
    BackendStatus,
    Engine,
    EngineError,
    EngineSpec,
    why_not_installed,
)
from vit_perception.engines.openvino.core import DEVICE, core
from vit_perception.engines.openvino.gelu import separate_gelus
from vit_perception.engines.openvino.int8 import LEFT_OUT, int8_model
from vit_perception.engines.source import EngineSource
from vit_perception.wire.records import EncoderOutput


class _Precision(NamedTuple):
    name: str  # ours
    capability: str  # OpenVINO's; without it the CPU emulates or ignores the precision
    hint: str  # the value of OpenVINO's precision hint


_PRECISIONS = (
    _Precision("bfloat16", "BF16", "bf16"),
    _Precision("float16", "FP16", "f16"),
    _Precision("float32", "FP32", "f32"),
)


class OpenvinoEngine(Engine):
    """Compiles the ONNX file for lowest latency. A run reads and writes its own arrays in place."""

    name = "openvino"

    def __init__(self):
        super().__init__()
        self._request = None
        self._images: np.ndarray | None = None
        self._output: EncoderOutput | None = None

    def status(self) -> BackendStatus:
        if why_not := why_not_installed(self.name):
            return self.missing(why_not)
        version = metadata.version("openvino")
        try:
            capabilities = core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
            device = core().get_property(DEVICE, "FULL_DEVICE_NAME").strip()
        except Exception as error:  # a library that does not load on this CPU or system
            return self.missing(f"openvino {version} does not start: {error}", version)
        precisions = tuple(p.name for p in _PRECISIONS if p.capability in capabilities)
        if "INT8" in capabilities:
            # Last: `auto` takes the first, and int8 needs images that only the user has.
            precisions = (*precisions, "int8")
        return BackendStatus(
            name=self.name,
            found=True,
            version=version,
            device=device,
            precisions=precisions,
        )

    def attempts(self, spec: EngineSpec) -> tuple[EngineSpec, ...]:
        return (
            tuple(replace(spec, left_out=groups) for groups in LEFT_OUT)
            if spec.precision == "int8"
            else (spec,)
        )

    def _open(self, source: EngineSource, spec: EngineSpec) -> bool:
        import openvino

        file = int8_model(source, spec) if spec.precision == "int8" else source.onnx_file()
        # The other layers of an int8 model run in the fastest precision of the device.
        precision = self.status().precisions[0] if spec.precision == "int8" else spec.precision
        model = core().read_model(file.path)
        if spec.precision == "float32":
            suit_float32(model)
        compiled = compile_model(model, precision, spec.threads)
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
        return file.was_cached

    def _run(self, images: np.ndarray) -> EncoderOutput:
        np.copyto(self._images, images)
        self._request.infer()
        return self._output

    def _close(self) -> None:
        # Arrays that callers hold are numpy's, so they outlive the request.
        self._request = self._images = self._output = None


def suit_float32(model: Any) -> None:
    """Change an ``openvino.Model`` to what runs fastest in float32 on this kind of processor."""
    if platform.machine() in ("x86_64", "AMD64"):  # others have other kernels, not measured here
        separate_gelus(model)


def compile_model(model: Any, precision: str, threads: int) -> Any:
    """Compile an ``openvino.Model`` for lowest latency on the CPU; 0 ``threads`` are OpenVINO's."""
    hint = next(p.hint for p in _PRECISIONS if p.name == precision)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return core().compile_model(model, DEVICE, options)


def _precision_of(compiled: Any) -> str:
    """Return the precision that the compiled model says it runs in.

    It is int8 if linear layers run in int8, whatever the other layers run in.
    """
    layers = linear_layer_types(compiled)
    if layers["i8"] + layers["u8"]:
        return "int8"
    running = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    for precision in _PRECISIONS:
        if running == precision.hint:
            return precision.name
    raise EngineError(
        f"openvino compiled the model to {running!r}; accepted: "
        f"{', '.join(p.hint for p in _PRECISIONS)}"
    )


def linear_layer_types(compiled: Any) -> Counter[str]:
    """Count the linear layers of an ``openvino.CompiledModel`` by type, in OpenVINO's names."""
    layers = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    return Counter(
        info["runtimePrecision"].astype(str)
        for info in layers
        if info["layerType"].astype(str) == "FullyConnected"
    )
