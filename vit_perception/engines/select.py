"""Which engine runs: the candidates in order of preference, each opened and held against the
reference model.

Nothing falls back silently: with a backend named, it opens and passes the parity gate or
EngineError says why; with ``auto``, what each earlier candidate lacked is logged and returned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING

from vit_perception.config.settings import BadSetting, EngineSettings
from vit_perception.engines.cache.engine_file import EngineFile
from vit_perception.engines.cache.verdicts import Verdicts
from vit_perception.engines.cuda import fault as cuda_fault
from vit_perception.engines.cuda.gpus import accepted_indices, gpu_count
from vit_perception.engines.engine import (
    BackendStatus,
    Engine,
    EngineError,
    EngineSpec,
    ParityError,
)
from vit_perception.engines.source import EngineSource
from vit_perception.files.log import SILENT, Log

if TYPE_CHECKING:
    import numpy as np

    from vit_perception.checkpoints.sources import LoadedModel
    from vit_perception.engines.parity_gate import ParityReport


@dataclass(frozen=True)
class Candidate:
    """One way to run the encoder: its ``label`` in messages, the setting ``backend`` it belongs to,
    its class.

    ``provider``, where there is one, is the value of ``engine.provider`` that it is for.
    """

    label: str
    backend: str
    module: str
    class_name: str
    arguments: tuple = ()
    provider: str = ""

    def allowed_by(self, settings: EngineSettings) -> bool:
        """Whether the user's settings leave this candidate in."""
        return settings.backend in ("auto", self.backend) and self.provider in (
            "",
            settings.provider,
        )

    def make(self, gpu_index: int = 0) -> Engine:
        """The engine, not opened. Its module is imported here, its runtime when it is asked for its
        status.
        """
        engine = getattr(import_module(self.module), self.class_name)(*self.arguments)
        engine.gpu_index = gpu_index
        return engine


_ONNXRUNTIME = ("vit_perception.engines.onnxruntime_engine", "OnnxruntimeEngine")
# Fastest first: this is the order of `auto`.
CANDIDATES = (
    Candidate(
        "tensorrt",
        "tensorrt",
        "vit_perception.engines.tensorrt.engine",
        "TensorrtEngine",
        ("tensorrt",),
    ),
    Candidate(
        "tensorrt_rtx",
        "tensorrt_rtx",
        "vit_perception.engines.tensorrt.engine",
        "TensorrtEngine",
        ("tensorrt_rtx",),
    ),
    Candidate(
        "torch on CUDA", "torch", "vit_perception.engines.torch_engine", "TorchEngine", ("cuda",)
    ),
    Candidate("openvino", "openvino", "vit_perception.engines.openvino_engine", "OpenvinoEngine"),
    Candidate("onnxruntime", "onnxruntime", *_ONNXRUNTIME, ("cpu",), "cpu"),
    Candidate("onnxruntime on CUDA", "onnxruntime", *_ONNXRUNTIME, ("cuda",), "cuda"),
    Candidate("onnxruntime on TensorRT", "onnxruntime", *_ONNXRUNTIME, ("tensorrt",), "tensorrt"),
    Candidate(
        "torch on the CPU", "torch", "vit_perception.engines.torch_engine", "TorchEngine", ("cpu",)
    ),
)


@dataclass(frozen=True, eq=False)
class OpenedEngine:
    """``engine``, open and verified for ``spec``; its parity ``report``; ``tried``: (candidate, why
    not) before it.

    ``was_cached``: whether every file that it needs was there already; None for an engine that
    needs none.
    """

    engine: Engine
    report: "ParityReport"
    tried: tuple[tuple[str, str], ...]
    spec: EngineSpec
    was_cached: bool | None = None


def open_engine(
    settings: EngineSettings,
    loaded: "LoadedModel",
    batch: int,
    block: int = -1,
    log: Log = SILENT,
    dense: bool = False,
) -> OpenedEngine:
    """Open the first candidate that ``settings`` allows and that passes the parity gate, for
    ``batch`` images.

    With ``dense`` the engine also gives ``block_tokens``, what the checkpoint's dense head takes.

    Precision ``auto`` tries what the device runs natively, the fastest first, float32 last; a
    precision that is named is the only one tried. What the gate refused before is not built again
    (:mod:`.verdicts`). ``log`` hears of exports, of candidates that did not open and of the parity
    figures, ``progress`` how much of which engine is built, 0 to 1. Blocks for seconds, or minutes
    while it is built. Raises EngineError when none opens, with the reason of each, and for a block
    that the model does not have; BadSetting for calibration images that cannot be read, and for a
    GPU that there is not, whatever could run instead; GpuLost, without a look at what is left,
    where the process can use the GPU no more: no CPU takes over from a GPU that has broken.
    """
    from vit_perception.engines.parity_gate import parity_batch
    from vit_perception.engines.reference import graph_of
    from vit_perception.image.preprocess import Preprocessor

    if batch < 1:
        raise EngineError(f"the batch is {batch}; accepted: at least 1, the number of cameras")
    if settings.device and settings.device >= (count := gpu_count()):
        raise BadSetting("engine.device", settings.device, accepted_indices(count))
    depth = loaded.model.config.depth
    if not -depth <= block < depth:
        raise EngineError(
            f"model.block is {block}; accepted: {-depth} to {depth - 1}, -1 for the last"
        )
    carried = EngineFile.opened(settings.file) if settings.file else None
    settings = carried.narrowed(settings) if carried else settings
    preprocess = Preprocessor(loaded.card.rule)
    calibration = None
    if settings.calibration:
        # What reads bags needs packages of its own, which a machine that only runs engines may
        # lack.
        from vit_perception.image.calibration import calibration_images

        # Read once: each attempt at int8 asks for them, and so does the memory of what failed.
        calibration = cache(partial(calibration_images, settings.calibration, preprocess))
    source = EngineSource(
        graph_of(loaded, block, dense),
        batch,
        log,
        calibration=calibration,
        check_memory=settings.check_memory,
        carried=carried,
    )
    images = parity_batch(preprocess, batch)
    verdicts = Verdicts(source, images, settings.min_cosine, log)
    tried: list[tuple[str, str]] = []
    for candidate in CANDIDATES:
        if not candidate.allowed_by(settings):
            continue
        status = candidate.make(settings.device).status()
        if not status.found:
            if (gone := cuda_fault.lost(EngineError(status.why_not), ask=lambda: 0)) is not None:
                raise gone
            _note(tried, candidate.label, status.why_not, log.info)
            continue
        wanted = EngineSpec(
            batch, source.graph.network_size_px, settings.precision, settings.threads
        )
        broken: set[str] = set()
        # A file's own form, and no verdict: what was built here says nothing of it, nor it of what
        # may be built here.
        specs = (
            [replace(wanted, attention=carried.attention)]
            if carried
            else specs_to_try(candidate.make(settings.device), wanted, status)
        )
        for spec in specs:
            if spec.precision in broken:
                continue
            label = f"{candidate.label} {spec}"
            if carried is None and (why_not := verdicts.recall(candidate.label, status, spec)):
                _note(tried, label, why_not, log.info)
                continue
            source.made.clear()
            try:
                engine, report = open_verified(
                    candidate.make(settings.device), source, spec, images, settings.min_cosine
                )
            except ParityError as error:
                _note(tried, label, str(error), log.info)
                if carried is None:
                    verdicts.remember(candidate.label, status, spec, error)
                continue
            except EngineError as error:
                # A missing runtime is no news; one that is there and breaks is.
                unexpected = error.__cause__ is not None and not isinstance(
                    error.__cause__, (EngineError, OSError)
                )
                _note(tried, label, str(error), log.warning if unexpected else log.info)
                broken.add(spec.precision)
                continue
            log.info(f"{engine.runtime} {spec} on {engine.device}: {report}")
            if spec.precision == "int8":
                _tell_int8_speed(engine, candidate, source, spec, images, log)
            was_cached = not any(source.made) if source.made else None
            return OpenedEngine(engine, report, tuple(tried), spec, was_cached)
    reasons = "; ".join(f"{label}: {why_not}" for label, why_not in tried)
    # A lost GPU has been raised by now: what the reasons say of one is that of a process that
    # built.
    raise cuda_fault.elsewhere(
        EngineError(
            f"engine.backend {settings.backend!r} with engine.precision "
            f"{settings.precision!r} cannot run: {reasons}"
        )
    )


def specs_to_try(engine: Engine, wanted: EngineSpec, status: BackendStatus) -> list[EngineSpec]:
    """The ways to run ``wanted`` on ``engine``, the fastest first; its precision may be ``auto``.

    ``auto`` is what the device runs natively, int8 left out: the first way of each half precision,
    then the second of each, and so on, as what takes more care is slower in both; float32 comes
    last.
    """
    precisions = (wanted.precision,)
    if wanted.precision == "auto":
        precisions = tuple(precision for precision in status.precisions if precision != "int8")
    ways = [
        (spec.precision == "float32", turn, spec)
        for precision in precisions
        for turn, spec in enumerate(engine.attempts(replace(wanted, precision=precision)))
    ]
    return [spec for _, _, spec in sorted(ways, key=lambda way: way[:2])]


def open_verified(
    engine: Engine,
    source: EngineSource,
    spec: EngineSpec,
    images: "np.ndarray",
    min_cosine: float = 0.0,
) -> "tuple[Engine, ParityReport]":
    """Open ``engine`` and run the parity gate on ``images`` (n, 3, H, W), n a multiple of the
    batch.

    Raises EngineError, with the engine closed, when it does not open or does not pass; the message
    has the figures and the limits.
    """
    from vit_perception.engines.parity_gate import ParityLimits, measure, run_batches

    engine.open(source, spec)
    try:
        outputs = run_batches(engine.infer, images, spec.batch)
        report = measure(outputs, source.reference(images))
        failures = report.failures(ParityLimits.for_precision(engine.precision, min_cosine))
        if failures:
            raise ParityError(
                f"{engine.runtime} {spec} does not agree with the float32 model: "
                f"{'; '.join(failures)} ({report})"
            )
    except (EngineError, BadSetting, cuda_fault.GpuLost):
        engine.close()
        raise
    except Exception as error:  # each runtime raises types of its own
        engine.close()
        raise EngineError(
            f"{engine.runtime} {engine.precision} fails to run: {type(error).__name__}: {error}"
        ) from error
    return engine, report


def _tell_int8_speed(
    int8: Engine,
    candidate: Candidate,
    source: EngineSource,
    spec: EngineSpec,
    images: "np.ndarray",
    log: Log,
) -> None:
    """Say whether ``int8`` is faster than the runtime's fastest other precision, measured now."""
    from vit_perception.engines.int8_on_cpu import comparison, interleaved_medians_ms

    other, batch = candidate.make(), images[: spec.batch]
    precision = other.status().precisions[0]
    try:
        other.open(source, replace(spec, precision=precision, left_out=()))
        try:
            times_ms = interleaved_medians_ms(
                [lambda: int8.infer(batch), lambda: other.infer(batch)]
            )
        finally:
            other.close()
    except EngineError as error:
        log.info(f"int8 is not compared with {precision}, which does not open: {error}")
        return
    measured = comparison(*times_ms, precision, f"one run of the encoder for {spec.batch} images")
    (log.warning if measured.slower else log.info)(measured.text)


def available_backends() -> list[BackendStatus]:
    """What this machine can run, in the order of ``auto``; ``name`` is the candidate's label. Opens
    nothing.
    """
    return [_labelled(candidate) for candidate in CANDIDATES]


def _labelled(candidate: Candidate) -> BackendStatus:
    status = candidate.make().status()
    return BackendStatus(
        candidate.label,
        status.found,
        status.version,
        status.device,
        status.precisions,
        status.why_not,
        status.hardware,
    )


def _note(
    tried: list[tuple[str, str]],
    label: str,
    why_not: str,
    say: Callable[[str], None],
) -> None:
    tried.append((label, why_not))
    say(f"{label} is not used: {why_not}")
