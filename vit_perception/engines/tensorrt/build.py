"""From an ONNX file to a TensorRT or TensorRT-RTX engine.

The network is strongly typed: it takes every type from the ONNX file, so its precision is what was
exported. TensorRT builds on and for the GPU of this machine. TensorRT-RTX builds for the compute
capabilities that it is given, on any machine.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vit_perception.engines.building.child import call_in_child
from vit_perception.engines.building.progress import BuildProgress
from vit_perception.engines.cache.store import read_checked, write_checked
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.files.log import Log

# Scratch memory that a kernel may take. A ViT's largest activations are tens of MB, and a Jetson's
# memory is shared with the host.
WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Raises:
        EngineError: The options do not fit each other, or there is no such flavour.
    """

    # tensorrt or tensorrt_rtx
    flavour: str
    # Compute capabilities, for RTX alone.
    targets: tuple[str, ...] = ()
    # (least, usual, most), for a graph with an open batch.
    batches: tuple[int, int, int] | None = None
    workspace_bytes: int = WORKSPACE_BYTES
    # A file with the timings of kernels from earlier builds. RTX measures none.
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
    """Build the engine, and return it serialised.

    This takes seconds with RTX and minutes with TensorRT. ``log`` gets the progress. An error
    that ``log`` raises ends the build and passes through, so a node that is shut down does not
    build to the end.

    Raises:
        EngineError: The runtime is missing, the file does not parse (with the first error and its
            node), the runtime does not have a target, ``batches`` does not fit the graph, or the
            build fails.
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
    """Build into the file ``path`` in a process of its own; return the most memory it took.

    The memory is in bytes. ``device`` is the CUDA device that TensorRT builds on and for. It raises
    what ``build_engine`` and ``call_in_child`` raise.
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
    """Build, in the child. It only needs torch for another device than the first."""
    if device:
        import torch

        torch.cuda.set_device(device)
    path.write_bytes(build_engine(onnx_path, options, log))


def first_error(parser) -> str:
    """Return the parser's first error, with its node if the parser names one."""
    if parser.num_errors == 0:
        return "it gave no reason"
    error = parser.get_error(0)
    name = error.node_name()
    operator = error.node_operator()
    node = f"node {name or error.node()} ({operator}): " if operator or name else ""
    return f"{node}{error.desc().strip()}"


def _set_batches(builder, network, config, batches: tuple[int, int, int] | None) -> None:
    images = network.get_input(0)
    shape = tuple(images.shape)
    if (shape[0] == -1) != (batches is not None):
        raise EngineError(
            f"the graph's input is {shape} and batches are {batches}; accepted: batches (least, "
            "usual, most) for an open batch (-1), none for a static one"
        )
    if batches is None:
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *((batch, *shape[1:]) for batch in batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"the optimisation profile for batches {batches} is refused")


def _monitor(api: ModuleType, progress: BuildProgress):
    """Return a progress monitor for TensorRT that reports to ``progress``.

    Its base class is in the runtime's module, so the class is made here.
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
