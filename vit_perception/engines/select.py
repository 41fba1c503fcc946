"""Which engine runs: backends in order of preference, each opened and compared with the reference.

Nothing falls back silently. A backend that is named opens and passes the parity gate, or
EngineError says why not. With ``auto`` the reason for each earlier candidate is logged and
returned.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from vit_perception.config.backends import BACKENDS, Backend
from vit_perception.config.settings import BadSetting, CameraSettings, EngineSettings
from vit_perception.engines.available import make_engine
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
from vit_perception.engines.verified import open_verified
from vit_perception.files.log import SILENT, Log

if TYPE_CHECKING:
    import numpy as np

    from vit_perception.checkpoints.sources import LoadedModel
    from vit_perception.engines.parity_gate import ParityReport
    from vit_perception.image.preprocess import Preprocessor


class Tried(NamedTuple):
    """A candidate that is not used."""

    label: str
    why_not: str


@dataclass(frozen=True, eq=False)
class OpenedEngine:
    """An engine that is open and has passed the parity gate."""

    engine: Engine
    report: "ParityReport"
    # The candidates before it, in order.
    tried: tuple[Tried, ...]
    spec: EngineSpec
    # Of the table: the runtime and its kind of device.
    backend: Backend
    # Whether every file that it needs was in the cache; None for an engine that needs none.
    was_cached: bool | None = None

    @property
    def leaves_a_core(self) -> bool:
        """Whether a CPU core of this process is free while the engine runs."""
        cores = len(os.sched_getaffinity(0))
        return self.backend.device == "gpu" or 0 < self.spec.threads < cores


def open_engine(
    settings: EngineSettings,
    loaded: "LoadedModel",
    batch: int,
    *,
    block: int = -1,
    dense: bool = False,
    log: Log = SILENT,
    cameras: Sequence[CameraSettings] = (),
) -> OpenedEngine:
    """Open the first candidate that ``settings`` allows and that passes the parity gate.

    The engine takes ``batch`` images. With ``dense`` it also gives ``block_tokens``, which the
    checkpoint's dense head takes. Precision ``auto`` tries what the device runs natively, the
    fastest first and float32 last. A named precision is the only one tried. What the gate refused
    before is not built again (:mod:`.cache.verdicts`). ``log`` gets exports and builds,
    candidates that did not open, and the parity figures. Images of a recording for int8 are those
    that the network sees of ``cameras``.

    It takes seconds, or minutes if an engine is built.

    Raises:
        EngineError: None opens (the message has the reason of each), or the model has no such
            block, or the batch is below 1.
        BadSetting: The calibration images cannot be read, or there is no GPU of that index.
        GpuLost: This process can no longer use the GPU. Nothing else is tried: no CPU takes over
            from a GPU that broke.
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
    source = EngineSource(
        graph_of(loaded, block, dense),
        batch,
        log,
        calibration=_calibration(settings, preprocess, cameras),
        check_memory=settings.check_memory,
        carried=carried,
    )
    images = parity_batch(preprocess, batch)
    search = _Search(settings, source, images, log)
    for backend in BACKENDS:
        if backend.allowed_by(settings.backend, settings.provider):
            opened = search.opened_from(backend)
            if opened is not None:
                return opened
    reasons = "; ".join(f"{label}: {why_not}" for label, why_not in search.tried)
    # A lost GPU has been raised by now. What the reasons say of one is about a process that built.
    raise cuda_fault.elsewhere(
        EngineError(
            f"engine.backend {settings.backend!r} with engine.precision "
            f"{settings.precision!r} cannot run: {reasons}"
        )
    )


def _calibration(
    settings: EngineSettings, preprocess: "Preprocessor", cameras: Sequence[CameraSettings]
) -> "Callable[[], np.ndarray] | None":
    """What reads the images for int8; None without ``engine.calibration``."""
    if not settings.calibration:
        return None
    # Reading bags needs packages that a machine which only runs engines may not have.
    from vit_perception.image.calibration import calibration_images
    from vit_perception.streams.recorded_views import recorded_views

    # Read once: each attempt at int8 asks for them, and so does the memory of what failed.
    return cache(
        partial(
            calibration_images,
            settings.calibration,
            preprocess,
            views_of=partial(recorded_views, cameras),
        )
    )


class _Search:
    """The search of one start; ``tried`` has the candidates that are not used."""

    def __init__(
        self, settings: EngineSettings, source: EngineSource, images: "np.ndarray", log: Log
    ):
        self.tried: list[Tried] = []
        self._settings = settings
        self._source = source
        self._images = images
        self._log = log
        self._absent: list[Tried] = []  # not here, and not told yet
        self._verdicts = Verdicts(source, images, settings.min_cosine, log)

    def opened_from(self, backend: Backend) -> OpenedEngine | None:
        """Open the first spec of ``backend`` that passes the gate; None if there is none."""
        engine = make_engine(backend, self._settings.device)
        status = engine.status()
        if not status.found:
            if (gone := cuda_fault.lost(EngineError(status.why_not), ask=lambda: 0)) is not None:
                raise gone
            self.tried.append(Tried(backend.label, status.why_not))
            self._absent.append(self.tried[-1])
            return None
        self._tell_absent()
        broken: set[str] = set()  # precisions
        for spec in self._specs(engine, status):
            if spec.precision in broken:
                continue
            label = f"{backend.label} {spec}"
            if why_not := self._refused_before(backend, status, spec):
                self._pass_over(label, why_not)
                continue
            self._log.info(f"opening {label}")
            try:
                opened = open_verified(
                    engine, self._source, spec, self._images, self._settings.min_cosine
                )
            except ParityError as error:
                self._pass_over(label, str(error))
                if self._source.carried is None:
                    self._verdicts.remember(backend.label, status, spec, error)
            except EngineError as error:
                # A runtime that is not installed is normal; one that is installed and fails is not.
                unexpected = error.__cause__ is not None and not isinstance(
                    error.__cause__, (EngineError, OSError)
                )
                self._pass_over(label, str(error), warn=unexpected)
                broken.add(spec.precision)
            else:
                self._log.info(f"{engine.runtime} {spec} on {engine.device}: {opened.report}")
                if spec.precision == "int8":
                    self._tell_int8_speed(engine, backend, spec)
                return OpenedEngine(
                    engine=engine,
                    report=opened.report,
                    tried=tuple(self.tried),
                    spec=spec,
                    backend=backend,
                    was_cached=opened.was_cached,
                )
        return None

    def _specs(self, engine: Engine, status: BackendStatus) -> list[EngineSpec]:
        wanted = EngineSpec(
            self._source.batch,
            self._source.graph.network_size_px,
            self._settings.precision,
            self._settings.threads,
        )
        if self._source.carried is not None:
            return [replace(wanted, attention=self._source.carried.attention)]
        return specs_to_try(engine, wanted, status)

    def _refused_before(self, backend: Backend, status: BackendStatus, spec: EngineSpec) -> str:
        """Why the gate refused this engine at an earlier start; "" if it did not.

        Verdicts are about engines that were built here, so none is about a carried file.
        """
        if self._source.carried is not None:
            return ""
        return self._verdicts.recall(backend.label, status, spec)

    def _pass_over(self, label: str, why_not: str, warn: bool = False) -> None:
        self.tried.append(Tried(label, why_not))
        say = self._log.warning if warn else self._log.info
        say(f"{label} is not used: {why_not}")

    def _tell_absent(self) -> None:
        """Say in one line which runtimes are not here: without a GPU that is three of them."""
        if len(self._absent) == 1:
            self._log.info(f"{self._absent[0].label} is not used: {self._absent[0].why_not}")
        elif self._absent:
            listed = "; ".join(f"{label} ({why_not})" for label, why_not in self._absent)
            self._log.info(f"not used: {listed}")
        self._absent = []

    def _tell_int8_speed(self, int8: Engine, backend: Backend, spec: EngineSpec) -> None:
        """Say whether ``int8`` is faster than the runtime's fastest other precision."""
        from vit_perception.engines.openvino.int8_on_cpu import comparison, interleaved_medians_ms

        # Both run in turns, so the engine that is compared is one of its own.
        other = make_engine(backend)
        batch = self._images[: spec.batch]
        precision = other.status().precisions[0]
        try:
            other.open(self._source, replace(spec, precision=precision, left_out=()))
            try:
                times_ms = interleaved_medians_ms(
                    [lambda: int8.infer(batch), lambda: other.infer(batch)]
                )
            finally:
                other.close()
        except EngineError as error:
            self._log.info(f"int8 is not compared with {precision}, which does not open: {error}")
            return
        what = f"one run of the encoder for {spec.batch} images"
        measured = comparison(*times_ms, precision, what)
        say = self._log.warning if measured.slower else self._log.info
        say(measured.text)


def specs_to_try(engine: Engine, wanted: EngineSpec, status: BackendStatus) -> list[EngineSpec]:
    """Return the ways to run ``wanted`` on ``engine``, the fastest first.

    Its precision may be ``auto``: all that the device runs natively, except int8. Then come the
    first attempt of each half precision, the second of each, and so on, because later attempts are
    slower in each. float32 comes last.
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
