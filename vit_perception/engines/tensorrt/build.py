"""From an ONNX file to a TensorRT or TensorRT-RTX engine, and to its place in the cache.

The network is strongly typed: every type is the ONNX file's, so the precision is what was exported.
TensorRT builds for, and on, the GPU of this machine; TensorRT-RTX for named compute capabilities,
on any machine.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vit_perception.engines.building import memory
from vit_perception.engines.building.child import call_in_child
from vit_perception.engines.building.progress import BuildProgress
from vit_perception.engines.cache.neighbours import what_changed
from vit_perception.engines.cache.store import (
    CacheError,
    cache_folder,
    digest_of,
    present,
    read_checked,
    write_checked,
)
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.files.log import Log
from vit_perception.files.private_cache import Untrusted

if TYPE_CHECKING:
    from vit_perception.engines.source import EngineSource

ENGINE_NAME = "model.engine"
# Scratch memory that a tactic may take. A ViT's largest activations are tens of MB, and a Jetson's
# memory is shared.
WORKSPACE_BYTES = 1 << 30
# Part of the cache's key: raise it when the same options would give another engine.
_RECIPE_VERSION = 1


@dataclass(frozen=True)
class BuildOptions:
    """``flavour`` is ``tensorrt`` or ``tensorrt_rtx``; ``targets`` are compute capabilities, for
    RTX alone.

    ``batches`` (least, usual, most) is for a graph with an open batch. ``timing_cache`` (a file;
    TensorRT alone, RTX times nothing) carries kernel timings from build to build. Raises
    EngineError for what cannot be.
    """

    flavour: str
    targets: tuple[str, ...] = ()
    batches: tuple[int, int, int] | None = None
    workspace_bytes: int = WORKSPACE_BYTES
    timing_cache: Path | None = None

    def __post_init__(self):
        tensorrt_api.module_name(self.flavour)
        if (self.flavour == "tensorrt_rtx") != bool(self.targets):
            raise EngineError(
                f"targets are {self.targets} for {self.flavour}; accepted: at least one compute "
                "capability for tensorrt_rtx, none for tensorrt, which builds for this machine's "
                "GPU"
            )
        if (
            self.batches is not None
            and not 1 <= self.batches[0] <= self.batches[1] <= self.batches[2]
        ):
            raise EngineError(f"batches are {self.batches}; accepted: 1 <= least <= usual <= most")


def build_engine(
    onnx_path: Path,
    options: BuildOptions,
    log: Log,
) -> bytes:
    """The serialised engine. Seconds for RTX, minutes for TensorRT; ``log`` hears how
    far it is.

    Raises EngineError: the runtime is missing, the file does not parse (the first error with its
    node), a target that the runtime does not have, an open batch without ``batches`` (or the
    reverse), or a build that fails. What ``log`` raises ends the build and passes
    through: a node that is shut down does not build to the end.
    """
    api = tensorrt_api.load_api(options.flavour)
    logger = tensorrt_api.logger_of(api)
    logger.take_errors()
    try:
        builder = api.Builder(logger)
    except TypeError as error:  # pybind11's answer to a null pointer
        raise EngineError(
            f"{options.flavour} {api.__version__} cannot build here: {logger.take_errors()}"
        ) from error
    network = builder.create_network(tensorrt_api.strongly_typed(api))
    parser = api.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise EngineError(
            f"{options.flavour} {api.__version__} cannot parse {onnx_path}: {first_error(parser)}"
        )
    if not network.num_inputs or not network.num_outputs:
        # parse_from_file of TensorRT-RTX 1.7 is content with a file that is not ONNX at all.
        raise EngineError(
            f"{options.flavour} {api.__version__} finds no model in {onnx_path}: "
            f"{logger.take_errors()}"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    tensorrt_api.set_flags(api, config)
    if options.targets:
        tensorrt_api.set_targets(api, config, options.targets)
    _set_batches(builder, network, config, options.batches)
    timings = None
    if options.timing_cache is not None and options.flavour == "tensorrt":
        timings = tensorrt_api.use_timing_cache(config, read_checked(options.timing_cache, log))
    where = f"compute capability {', '.join(options.targets)}" if options.targets else "this GPU"
    what = f"building the {options.flavour} {api.__version__} engine for {where}"
    progress = BuildProgress(what, log)
    config.progress_monitor = _monitor(api, progress)
    started_s = time.monotonic()
    engine = builder.build_serialized_network(network, config)
    tensorrt_api.report_warnings(api, log)
    if progress.stopped_by is not None:
        raise progress.stopped_by
    if engine is None:
        raise EngineError(f"{what} fails: {logger.take_errors()}")
    content = bytes(engine)
    log.info(f"{what}: done in {time.monotonic() - started_s:.1f} s, {len(content) / 1e6:.1f} MB")
    if timings is not None and (measured := timings.serialize()) is not None:
        write_checked(options.timing_cache, bytes(measured), log)
    return content


def build_apart(
    onnx_path: Path,
    options: BuildOptions,
    path: Path,
    log: Log,
    device: int = 0,
) -> int:
    """``build_engine`` into the file ``path`` in a process of its own; the most memory that it
    took, in bytes.

    ``device`` is the CUDA device that TensorRT builds for, and on. Raises what ``build_engine`` and
    ``call_in_child`` do.
    """
    return call_in_child(
        _build,
        onnx_path,
        options,
        path,
        device,
        doing=f"building the {options.flavour} engine",
        log=log,
    )


def _build(
    onnx_path: Path,
    options: BuildOptions,
    path: Path,
    device: int,
    log: Log,
) -> None:
    """What the child does. It needs no torch, but for another device than the first."""
    if device:
        import torch

        torch.cuda.set_device(device)
    path.write_bytes(build_engine(onnx_path, options, log))


def first_error(parser) -> str:
    """The parser's first error, with the node that it is about where it names one."""
    if parser.num_errors == 0:
        return "it gave no reason"
    error = parser.get_error(0)
    name, operator = error.node_name(), error.node_operator()
    node = f"node {name or error.node()} ({operator}): " if operator or name else ""
    return f"{node}{error.desc().strip()}"


def _set_batches(builder, network, config, batches: tuple[int, int, int] | None) -> None:
    images = network.get_input(0)
    shape = tuple(images.shape)
    if (shape[0] == -1) != (batches is not None):
        raise EngineError(
            f"the graph's input is {shape} and batches are {batches}; accepted: batches (least, "
            "usual, "
            "most) for an open batch (-1), none for a static one"
        )
    if batches is None:
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *((batch, *shape[1:]) for batch in batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"the optimisation profile for batches {batches} is refused")


def _monitor(api: ModuleType, progress: BuildProgress):
    """``progress`` as what TensorRT calls; its base class belongs to the module, so the class is
    made here.
    """

    class Monitor(api.IProgressMonitor):
        def __init__(self):
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name, parent_phase, num_steps):
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name, step):
            progress.step(phase_name, step)
            return progress.stopped_by is None  # whether to go on

        def phase_finish(self, phase_name):
            progress.finish(phase_name)

    return Monitor()


def engine_key(
    source: "EngineSource",
    precision: str,
    attention: str,
    options: BuildOptions,
    version: str,
    gpu: tensorrt_api.Gpu | None,
) -> dict:
    """What an engine depends on. For TensorRT also the GPU that it was tuned on, as it was then; an
    RTX engine is for every GPU of its targets.

    Not the bytes of the ONNX file, nor the versions that wrote it: the parity gate judges what was
    built.
    """
    built_for = (
        {"targets": sorted(options.targets)}
        if options.flavour == "tensorrt_rtx"
        else {"gpu": gpu.traits}
    )
    return {
        "kind": "engine",
        **source.graph_key,
        "batch": source.batch,
        "batches": options.batches,
        "runtime": f"{options.flavour} {version}",
        "precision": precision,
        "attention": attention,
        "workspace_bytes": options.workspace_bytes,
        "recipe": _RECIPE_VERSION,
        **built_for,
    }


def cached_engine(
    source: "EngineSource",
    precision: str,
    attention: str,
    options: BuildOptions,
    gpu: tensorrt_api.Gpu | None,
) -> tuple[Path, bool]:
    """(engine's file, whether it was there already), built at the first call. ``gpu`` None is for
    RTX alone.

    An engine of TensorRT that was built while fewer of the GPU's multiprocessors were active is
    taken, too. Export and build are processes of their own, which end with this one. Raises
    EngineError for what ``build_engine`` and ``call_in_child`` do, too little memory and a cache
    that cannot be written; the exporter's errors.
    """
    version = tensorrt_api.load_api(options.flavour).__version__
    key = engine_key(source, precision, attention, options, version, gpu)
    if "gpu" in key and (found := _of_fewer_multiprocessors(source, key)):
        return found / ENGINE_NAME, True

    def build(folder: Path) -> None:
        if changed := what_changed(key, source.folder or cache_folder()):
            source.log.info(changed)
        doing = f"building the {options.flavour} engine in {precision}"
        if source.check_memory:  # before the export, which would be for nothing
            # TensorRT tries kernels on the GPU, whose memory is the host's on a Jetson; RTX does
            # not.
            workspace_bytes = options.workspace_bytes if options.flavour == "tensorrt" else 0
            memory.check(
                doing,
                memory.build_bytes(memory.weights_of(source.graph), precision, workspace_bytes),
            )
        onnx_path = source.onnx_file(precision, attention, apart=True)
        device = 0
        if options.flavour == "tensorrt":
            import torch

            device = torch.cuda.current_device() if torch.cuda.is_available() else 0
        took_bytes = build_apart(onnx_path, options, folder / ENGINE_NAME, source.log, device)
        source.log.info(f"{doing}: done, in up to {memory.gib(took_bytes)} of memory")

    place = len(source.made)  # the export inside is asked of the cache, too
    return source.cached(key, build) / ENGINE_NAME, not source.made[place]


def _of_fewer_multiprocessors(source: "EngineSource", key: dict) -> Path | None:
    """The entry for ``key`` but for the number of active multiprocessors, of which it was built
    with as many or fewer.

    A Jetson's power mode switches multiprocessors off. To have one engine for several GPUs of an
    architecture, NVIDIA's guide has it built on the smallest; with fewer multiprocessors than it
    was built for, newer versions warn of errors and of a deadlock.
    """
    active = key["gpu"]["multiprocessors"]
    for built_with in range(active, 0, -1):
        try:
            entry = present(
                {**key, "gpu": {**key["gpu"], "multiprocessors": built_with}}, source.folder
            )
        except Untrusted as error:
            raise CacheError(f"the engine cache is not used: {error}") from error
        if entry is not None:
            source.made.append(False)
            if built_with < active:
                source.log.info(
                    f"the engine was built while {built_with} multiprocessors of the GPU were "
                    "active, and "
                    f"{active} are now (another power mode?): it serves, if perhaps not as fast as "
                    "one built "
                    f"now; remove {entry} to have that"
                )
            return entry
    return None


def served_by(key: dict, built: Mapping) -> dict:
    """``key`` with the multiprocessors of an engine that was ``built`` with as many or fewer, which
    serves it too.
    """
    wanted, other = key.get("gpu"), built.get("gpu")
    if not isinstance(wanted, dict) or not isinstance(other, Mapping):
        return key
    count = other.get("multiprocessors")
    if not isinstance(count, int) or not 0 < count <= wanted["multiprocessors"]:
        return key
    return {**key, "gpu": {**wanted, "multiprocessors": count}}


def timing_cache_file(version: str, gpu: tensorrt_api.Gpu, folder: Path | None = None) -> Path:
    """One for each version of TensorRT and each GPU: timings of another tell nothing."""
    name = digest_of({"kind": "timings", "version": version, "gpu": gpu.traits})
    return (folder or cache_folder()) / f"{name}.timings"


def kernels_file(key: dict, gpu: tensorrt_api.Gpu, folder: Path | None = None) -> Path:
    """Where RTX keeps what it compiled of the engine for ``key`` for this GPU: beside the engine's
    folder, which stays as it was built.
    """
    return (folder or cache_folder()) / f"{digest_of(key)}.{digest_of(gpu.traits)[:8]}.kernels"
