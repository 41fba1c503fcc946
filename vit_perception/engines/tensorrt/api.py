"""TensorRT and TensorRT-RTX: what this machine has of them, and the few places where their API
differs.

One code path serves ``tensorrt`` 10.3 to 11.x and ``tensorrt_rtx`` 1.x. What differs is here: the
module's name, the target of a build (the GPU of this machine, or named compute capabilities, which
need no GPU) and what makes repeated builds or starts quick (a timing cache, or a cache of the
kernels that RTX compiles at run time).

Sources: NVIDIA's API references for TensorRT 10.3, 10.13, 11.x and TensorRT-RTX 1.7; the guides
"Migrating from TensorRT 10.x to 11.x", "CPU-Only AOT and TensorRT-RTX Engines" and "Working with
Runtime Cache".
"""

import re
from collections import deque
from functools import cache
from importlib import import_module, util
from types import ModuleType

from vit_perception.engines.cuda.gpus import Gpu, driver_fault, find_gpu  # noqa: F401
from vit_perception.engines.engine import EngineError
from vit_perception.files.log import Log

# The names that a runtime's module goes by, the usual one first.
MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_BFLOAT16_CAPABILITY = (8, 0)
_TEXTS_KEPT = 20
# Forms of attention that change nothing, so that building them would only repeat what the gate has
# refused: by flavour, version and precision. TensorRT-RTX 1.7 fuses attention in bfloat16 with
# float32 sums and a float32 softmax whatever the form (read in its generated kernels, every target,
# heads 32, 64 and 80 wide); `half` scales the queries before the product, `float32_softmax` the
# product, which is the same for a scale that is a power of two. In float16 the two forms do differ:
# `half` sums in float16. test_attention_forms.py builds both and looks.
_SAME_AS_HALF = {("tensorrt_rtx", "1.7", "bfloat16"): ("float32_softmax",)}


def module_name(flavour: str) -> str:
    """The module to import for ``flavour``, ``""`` where none is installed. Imports nothing."""
    if flavour not in MODULES:
        raise EngineError(f"TensorRT flavour is {flavour!r}; accepted: {', '.join(MODULES)}")
    return next((name for name in MODULES[flavour] if util.find_spec(name) is not None), "")


def load_api(flavour: str) -> ModuleType:
    """The runtime's module. Raises EngineError when it is missing or does not load, with what would
    cure it.
    """
    name = module_name(flavour)
    if not name:
        raise EngineError(f"{flavour}: {missing_text(flavour)}")
    try:
        return import_module(name)
    except Exception as error:  # a shared library of another CUDA, or none for this machine
        raise EngineError(
            f"{flavour}: the module {name} is installed but does not load: {error}"
        ) from error


def missing_text(flavour: str) -> str:
    """What is missing, for people."""
    return f"Python package {' or '.join(MODULES[flavour])} is not installed"


def targets_of(api: ModuleType) -> dict[str, object]:
    """Compute capability, e.g. ``8.6``, to its enum member; empty for ``tensorrt``, which has no
    such choice.
    """
    members = getattr(getattr(api, "ComputeCapability", None), "__members__", {})
    found = {name: re.fullmatch(r"SM(\d+)(\d)", name) for name in members}
    return {f"{match[1]}.{match[2]}": members[name] for name, match in found.items() if match}


def repeated_forms(flavour: str, version: str, precision: str) -> tuple[str, ...]:
    """The forms of attention that this version compiles to what ``half`` gives; empty where that is
    not known.
    """
    return _SAME_AS_HALF.get((flavour, ".".join(version.split(".")[:2]), precision), ())


def why_not_a_target(flavour: str, api: ModuleType, gpu: Gpu) -> str:
    """Why engines for ``gpu`` cannot be built, or ``""``."""
    targets = targets_of(api)
    if flavour == "tensorrt" or gpu.compute_capability in targets:
        return ""
    return (
        f"compute capability {gpu.compute_capability} ({gpu.name}) is not a target of {flavour} "
        f"{api.__version__}; targets: {', '.join(targets)}"
    )


def precisions_of(compute_capability: str) -> tuple[str, ...]:
    """What a GPU runs natively, the one that ``auto`` prefers first."""
    major, _, minor = compute_capability.partition(".")
    native = ("bfloat16",) if (int(major), int(minor)) >= _BFLOAT16_CAPABILITY else ()
    return ("float16", *native, "float32")


@cache
def logger_of(api: ModuleType):
    """The one logger of a process: TensorRT keeps the first that it is given and complains of
    others.

    It keeps the last errors and warnings for whoever reports them (:func:`report_warnings`).
    """
    severities = api.ILogger.Severity
    bad = (severities.INTERNAL_ERROR, severities.ERROR)

    class Logger(api.ILogger):
        def __init__(self):
            api.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=_TEXTS_KEPT)
            self._warnings: deque[str] = deque(maxlen=_TEXTS_KEPT)

        def log(self, severity, message):
            if severity in bad:
                self._errors.append(message.strip())
            elif severity == severities.WARNING:
                self._warnings.append(message.strip())

        def take_errors(self, without: str = "it gave no reason") -> str:
            """The errors since the last call, the first one first, and forget them; ``without``
            any, that text.
            """
            texts = list(dict.fromkeys(self._errors))
            self._errors.clear()
            return "; ".join(texts) or without

        def take_warnings(self) -> list[str]:
            """The warnings since the last call, the first one first, and forget them."""
            texts = list(dict.fromkeys(self._warnings))
            self._warnings.clear()
            return texts

    return Logger()


def report_warnings(api: ModuleType, log: Log) -> None:
    """Tell ``log`` what the runtime has warned of since the last call."""
    for text in logger_of(api).take_warnings():
        log.warning(f"{api.__name__} {api.__version__}: {text}")


def strongly_typed(api: ModuleType) -> int:
    """The flags of a network that takes every type from the ONNX file. 11.x ignores the flag, and
    may drop it.
    """
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def set_targets(api: ModuleType, config, targets: tuple[str, ...]) -> None:
    """Build for ``targets`` (compute capabilities). Raises EngineError for one that the runtime
    does not have.
    """
    known = targets_of(api)
    unknown = [target for target in targets if target not in known]
    if unknown:
        raise EngineError(
            f"compute capability {', '.join(unknown)} is not a target of {api.__name__} "
            f"{api.__version__}; accepted: "
            f"{', '.join(known) or 'none: it builds for the GPU of this machine'}"
        )
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(known[target], index):
            raise EngineError(
                f"{api.__name__} {api.__version__} refuses compute capability {target}"
            )


def set_flags(api: ModuleType, config) -> None:
    """What both runtimes do by default and must not: float32 products in TF32, and (RTX) allocating
    while they run.
    """
    # With TF32 a float32 engine would not be one; with allocations no CUDA graph could be captured.
    for name, change in (("TF32", config.clear_flag), ("REQUIRE_USER_ALLOCATION", config.set_flag)):
        flag = getattr(api.BuilderFlag, name, None)
        if flag is not None:
            change(flag)


def use_timing_cache(config, content: bytes):
    """Give ``config`` the timing cache that ``content`` holds, an empty one for ``b""`` or another
    version's.
    """
    cache_ = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if not config.set_timing_cache(cache_, False):
        cache_ = config.create_timing_cache(b"")
        config.set_timing_cache(cache_, False)
    return cache_


def make_context(api: ModuleType, flavour: str, engine, kernels: bytes, log: Log):
    """(execution context, runtime cache, runtime configuration); RTX takes the kernels that an
    earlier start compiled.

    Cache and configuration are None for ``tensorrt``. All three have to be kept as long as the
    engine: the context reads them. The caller owns the context's scratch memory,
    ``engine.device_memory_size_v2`` bytes, and has to set it. ``kernels`` of another GPU, driver or
    version are refused by the runtime itself, and compiled anew.
    """
    strategy = api.ExecutionContextAllocationStrategy.USER_MANAGED
    if flavour == "tensorrt":
        return engine.create_execution_context(strategy), None, None
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    runtime_cache = config.create_runtime_cache()
    # What only speeds a start up is never a reason to refuse an engine.
    if kernels and not runtime_cache.deserialize(kernels):
        log.info(
            f"the kernels that {flavour} kept are another GPU's, driver's or version's; it "
            "compiles them again"
        )
    if not config.set_runtime_cache(runtime_cache):
        log.warning(f"{flavour} refuses a runtime cache; each start compiles its kernels")
    return engine.create_execution_context(config), runtime_cache, config
