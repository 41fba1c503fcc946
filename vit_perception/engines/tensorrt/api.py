"""TensorRT and TensorRT-RTX: what this machine has of them, and where their APIs differ.

One code path serves ``tensorrt`` 10.3 to 11.x and ``tensorrt_rtx`` 1.x. What differs is here: the
module's name; the target of a build, which is this machine's GPU or, without a GPU, compute
capabilities; and what makes repeated builds or starts fast, which is a timing cache or a cache of
the kernels that RTX compiles at run time.

Sources: NVIDIA's API references for TensorRT 10.3, 10.13, 11.x and TensorRT-RTX 1.7; the guides
"Migrating from TensorRT 10.x to 11.x", "CPU-Only AOT and TensorRT-RTX Engines" and "Working with
Runtime Cache".
"""

import re
from collections import deque
from functools import cache
from importlib import import_module, util
from types import ModuleType
from typing import Any, NamedTuple

from vit_perception.config.backends import ENGINE_FILE_BACKENDS, modules_of
from vit_perception.engines.cuda.gpus import Gpu, driver_fault, find_gpu  # noqa: F401
from vit_perception.engines.engine import EngineError, why_not_installed
from vit_perception.files.log import Log

_BFLOAT16_CAPABILITY = (8, 0)
_TEXTS_KEPT = 20
# Forms of attention that compile to the same as `half`, by flavour, version and precision. Building
# them would only repeat what the gate refused. TensorRT-RTX 1.7 fuses attention in bfloat16 with
# float32 sums and a float32 softmax in every form (read in its generated kernels, for every target
# and heads 32, 64 and 80 wide). `half` scales the queries before the product, `float32_softmax` the
# product, which is equal if the scale is a power of two. In float16 the forms differ, because
# `half` sums in float16. test_attention_forms.py builds both and compares.
_SAME_AS_HALF = {("tensorrt_rtx", "1.7", "bfloat16"): ("float32_softmax",)}


def module_name(flavour: str) -> str:
    """Return the module to import for ``flavour``; "" if none is installed. Imports nothing."""
    if flavour not in ENGINE_FILE_BACKENDS:
        raise EngineError(
            f"TensorRT flavour is {flavour!r}; accepted: {', '.join(ENGINE_FILE_BACKENDS)}"
        )
    return next((name for name in modules_of(flavour) if util.find_spec(name) is not None), "")


def load_api(flavour: str) -> ModuleType:
    """Import the runtime's module.

    Raises:
        EngineError: It is missing or does not load.
    """
    name = module_name(flavour)
    if not name:
        raise EngineError(f"{flavour}: {why_not_installed(flavour)}")
    try:
        return import_module(name)
    except Exception as error:  # a shared library of another CUDA, or none for this machine
        raise EngineError(
            f"{flavour}: the module {name} is installed but does not load: {error}"
        ) from error


def targets_of(api: ModuleType) -> dict[str, object]:
    """Return the enum member of each compute capability, such as "8.6"; {} for ``tensorrt``."""
    members = getattr(getattr(api, "ComputeCapability", None), "__members__", {})
    found = {name: re.fullmatch(r"SM(\d+)(\d)", name) for name in members}
    return {f"{match[1]}.{match[2]}": members[name] for name, match in found.items() if match}


def repeated_forms(flavour: str, version: str, precision: str) -> tuple[str, ...]:
    """Return the forms of attention that this version is known to compile to the same as half."""
    return _SAME_AS_HALF.get((flavour, ".".join(version.split(".")[:2]), precision), ())


def why_not_a_target(flavour: str, api: ModuleType, gpu: Gpu) -> str:
    """Say why engines for ``gpu`` cannot be built; "" if they can."""
    targets = targets_of(api)
    if flavour == "tensorrt" or gpu.compute_capability in targets:
        return ""
    return (
        f"compute capability {gpu.compute_capability} ({gpu.name}) is not a target of {flavour} "
        f"{api.__version__}; targets: {', '.join(targets)}"
    )


def precisions_of(compute_capability: str) -> tuple[str, ...]:
    """Return what a GPU runs natively. The first is what ``auto`` prefers."""
    major, _, minor = compute_capability.partition(".")
    native = ("bfloat16",) if (int(major), int(minor)) >= _BFLOAT16_CAPABILITY else ()
    return ("float16", *native, "float32")


@cache
def logger_of(api: ModuleType):
    """Return the one logger of this process: TensorRT keeps the first, and complains about others.

    It keeps the last errors and warnings until they are taken, see :func:`report_warnings`.
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
            """Return and forget the errors since the last call; ``without`` if there are none."""
            texts = list(dict.fromkeys(self._errors))
            self._errors.clear()
            return "; ".join(texts) or without

        def take_warnings(self) -> list[str]:
            """Return and forget the warnings since the last call."""
            texts = list(dict.fromkeys(self._warnings))
            self._warnings.clear()
            return texts

    return Logger()


def report_warnings(api: ModuleType, log: Log) -> None:
    """Report the runtime's warnings since the last call to ``log``."""
    for text in logger_of(api).take_warnings():
        log.warning(f"{api.__name__} {api.__version__}: {text}")


def strongly_typed(api: ModuleType) -> int:
    """Return the flags of a network that takes every type from the ONNX file.

    TensorRT 11 ignores the flag, and later versions may not have it.
    """
    flag = getattr(api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def set_targets(api: ModuleType, config, targets: tuple[str, ...]) -> None:
    """Build for the compute capabilities ``targets``.

    Raises:
        EngineError: The runtime does not have one of them.
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
    """Turn off what both runtimes do by default: float32 products in TF32, allocations in a run."""
    # With TF32 a float32 engine would not be one; with allocations no CUDA graph could be captured.
    for name, change in (("TF32", config.clear_flag), ("REQUIRE_USER_ALLOCATION", config.set_flag)):
        flag = getattr(api.BuilderFlag, name, None)
        if flag is not None:
            change(flag)


def use_timing_cache(config, content: bytes):
    """Give ``config`` the timings in ``content``; none for b"" or another version's."""
    cache_ = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if not config.set_timing_cache(cache_, False):
        cache_ = config.create_timing_cache(b"")
        config.set_timing_cache(cache_, False)
    return cache_


class Context(NamedTuple):
    """An execution context, and what it reads: keep all three as long as the engine."""

    context: Any  # None if the runtime makes none
    # RTX alone: the kernels that it compiled, and the configuration that refers to them.
    runtime_cache: Any = None
    runtime_config: Any = None


def make_context(api: ModuleType, flavour: str, engine: Any, kernels: bytes, log: Log) -> Context:
    """Make a context of ``engine``; RTX takes the ``kernels`` that an earlier start compiled.

    The caller owns the context's scratch memory, ``engine.device_memory_size_v2`` bytes, and has to
    set it. The runtime refuses kernels of another GPU, driver or version, and compiles again.
    """
    strategy = api.ExecutionContextAllocationStrategy.USER_MANAGED
    if flavour == "tensorrt":
        return Context(engine.create_execution_context(strategy))
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    runtime_cache = config.create_runtime_cache()
    # Kernels only make a start faster, so they are never a reason to refuse an engine.
    if kernels and not runtime_cache.deserialize(kernels):
        log.info(
            f"the kernels that {flavour} kept are another GPU's, driver's or version's; it "
            "compiles them again"
        )
    if not config.set_runtime_cache(runtime_cache):
        log.warning(f"{flavour} refuses a runtime cache; each start compiles its kernels")
    return Context(engine.create_execution_context(config), runtime_cache, config)
