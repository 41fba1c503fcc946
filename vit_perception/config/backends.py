"""The runtimes that can run the encoder: one table for parameters, selection, doctor and build.

It stands below the engines because the accepted values of parameters come from it. It names the
classes of engines by their path, and imports none of them.
"""

from dataclasses import dataclass
from typing import Literal

PRECISIONS = ("float32", "bfloat16", "float16", "int8")

_TENSORRT = "vit_perception.engines.tensorrt.engine:TensorrtEngine"
_TORCH = "vit_perception.engines.torch_engine:TorchEngine"
_ONNXRUNTIME = "vit_perception.engines.onnxruntime_engine:OnnxruntimeEngine"


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run the encoder: a runtime on one kind of device."""

    # Its name in messages; unique.
    label: str
    # The value of engine.backend that it belongs to. Several rows may share one.
    name: str
    # Python modules of the runtime, the usual one first. One of them has to be installed.
    runtime: tuple[str, ...]
    # The class of its engine as module:class, and the argument of its constructor.
    engine: str
    argument: str | None = None
    device: Literal["cpu", "gpu"]
    # The most that it runs. What the device of this machine runs is asked when it is opened.
    precisions: tuple[str, ...]
    # The value of engine.provider that it belongs to; "" for a runtime without providers.
    provider: str = ""
    # Whether engine.backend `auto` tries it. The order is that of the table.
    in_auto: bool = True
    # Whether `build --out` writes its engine as one file, which the parameter engine.file opens.
    one_file: bool = False

    def allowed_by(self, backend: str, provider: str) -> bool:
        """Whether ``engine.backend`` and ``engine.provider`` leave this row in."""
        wanted = self.in_auto if backend == "auto" else self.name == backend
        return wanted and self.provider in ("", provider)


# The fastest first: this is the order of `auto`.
BACKENDS = (
    Backend(
        label="tensorrt",
        name="tensorrt",
        runtime=("tensorrt",),
        engine=_TENSORRT,
        argument="tensorrt",
        device="gpu",
        precisions=("float16", "bfloat16", "float32"),
        one_file=True,
    ),
    Backend(
        label="tensorrt_rtx",
        name="tensorrt_rtx",
        runtime=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        engine=_TENSORRT,
        argument="tensorrt_rtx",
        device="gpu",
        precisions=("float16", "bfloat16", "float32"),
        one_file=True,
    ),
    Backend(
        label="torch on CUDA",
        name="torch",
        runtime=("torch",),
        engine=_TORCH,
        argument="cuda",
        device="gpu",
        precisions=("float16", "bfloat16", "float32"),
    ),
    Backend(
        label="openvino",
        name="openvino",
        runtime=("openvino",),
        engine="vit_perception.engines.openvino.engine:OpenvinoEngine",
        device="cpu",
        precisions=("bfloat16", "float16", "float32", "int8"),
    ),
    Backend(
        label="onnxruntime",
        name="onnxruntime",
        runtime=("onnxruntime",),
        engine=_ONNXRUNTIME,
        argument="cpu",
        device="cpu",
        precisions=("float32",),
        provider="cpu",
    ),
    Backend(
        label="onnxruntime on CUDA",
        name="onnxruntime",
        runtime=("onnxruntime",),
        engine=_ONNXRUNTIME,
        argument="cuda",
        device="gpu",
        precisions=("float16", "float32"),
        provider="cuda",
        in_auto=False,
    ),
    Backend(
        label="onnxruntime on TensorRT",
        name="onnxruntime",
        runtime=("onnxruntime",),
        engine=_ONNXRUNTIME,
        argument="tensorrt",
        device="gpu",
        precisions=("float16", "float32"),
        provider="tensorrt",
        in_auto=False,
    ),
    Backend(
        label="torch on the CPU",
        name="torch",
        runtime=("torch",),
        engine=_TORCH,
        argument="cpu",
        device="cpu",
        precisions=("bfloat16", "float32"),
    ),
)
BACKEND_NAMES = tuple(dict.fromkeys(row.name for row in BACKENDS))
PROVIDERS = tuple(row.provider for row in BACKENDS if row.provider)
ENGINE_FILE_BACKENDS = tuple(row.name for row in BACKENDS if row.one_file)


def modules_of(name: str) -> tuple[str, ...]:
    """Return the Python modules of backend ``name``, the usual one first; () if unknown."""
    return next((row.runtime for row in BACKENDS if row.name == name), ())


def runs_on_cpu_only(backend: str, provider: str) -> bool:
    """Whether all that these settings allow runs on the CPU."""
    devices = {row.device for row in BACKENDS if row.allowed_by(backend, provider)}
    return devices == {"cpu"}
