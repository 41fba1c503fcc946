"""Several frames in one run of each encoder, for recordings: on a GPU that is where the speed is.

A runtime may add up in another order for another batch size, so features are equal to those of
single frames only nearly. How nearly is measured on the first frames of each recording.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import EncoderSettings
from vit_perception.engines.parity_gate import ParityLimits, ParityReport, measure, run_batches
from vit_perception.files.errors import OperationFailed
from vit_perception.files.log import Log
from vit_perception.pipeline.encoders import close_engines, load_encoders, open_engines
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.prepare import Prepared
from vit_perception.wire.records import EncoderOutput

# Decoded images of all of them are in memory together.
MOST_FRAMES = 256
# Encoded one by one too, at the beginning of each recording.
MEASURED_FRAMES = 4


class BatchDiffers(OperationFailed):
    """Features of several frames in one run differ too much from those of single frames."""


class FramesTogether:
    """Engines for ``frames`` frames of ``pipeline`` at a time, of its own runtime and precision.

    Opening takes as long as for the pipeline, and each engine passes the parity gate. Memory: the
    weights again, and the images of ``frames`` frames.

    Raises:
        BadSetting: The settings name an engine file, which has a fixed batch.
        EngineError: An engine does not open for that batch, or fails the gate.
    """

    def __init__(self, pipeline: Pipeline, frames: int, log: Log):
        settings = pipeline.settings
        if settings.engine.file:
            raise BadSetting(
                "engine.file",
                settings.engine.file,
                f"none with a batch of {frames}: the file is for one frame at a time",
            )
        self.frames = frames
        self._single = pipeline.every_opened
        self._rows = len(settings.cameras)
        # The runtime and the precision that the pipeline found, so that only the batch differs.
        opened = pipeline.opened
        engine = replace(
            settings.engine, backend=opened.backend.name, precision=opened.engine.precision
        )
        loaded = load_encoders(settings, log)
        self._opened = open_engines(replace(settings, engine=engine), loaded, log, frames=frames)
        self._limits = ParityLimits.for_precision(
            opened.engine.precision, settings.engine.min_cosine
        )
        self._batches = [
            np.zeros((each.spec.batch, 3, *each.spec.network_size_px), np.uint8)
            for each in self._opened
        ]
        # By frame of the batch: whether :meth:`put` has filled it.
        self._filled: set[int] = set()
        self._report: ParityReport | None = None

    def put(self, slot: int, prepared: Prepared) -> None:
        """Copy the images of a frame into place ``slot`` of the next run."""
        for batch, rows in zip(self._batches, prepared.each, strict=True):
            batch[self._slice(slot)] = rows
        self._filled.add(slot)

    def run(self, measured: bool = False) -> Mapping[int, EncoderOutput]:
        """Encode what :meth:`put` has filled; return the output of each frame by its slot.

        The outputs hold until the next call. With ``measured`` the first frames are also encoded
        one by one and compared.

        Raises:
            BatchDiffers: The comparison misses the limits of the parity gate.
        """
        if not self._filled:
            return {}
        slots = sorted(self._filled)
        for slot in range(self.frames):
            if slot not in self._filled:
                for batch in self._batches:
                    batch[self._slice(slot)] = 0
        self._filled = set()
        outputs = [
            each.engine.infer(batch)
            for each, batch in zip(self._opened, self._batches, strict=True)
        ]
        if measured:
            self._measure(slots[:MEASURED_FRAMES], outputs)
        return {slot: self._of_slot(outputs, slot) for slot in slots}

    def take_report(self) -> dict[str, float]:
        """Return what :meth:`run` has measured since the earlier call; empty if nothing."""
        report = self._report
        self._report = None
        if report is None:
            return {}
        return {
            "images": report.pictures,
            "cls_cosine": report.cls_cosine,
            "patch_cosine": report.patch_cosine,
            "worst_patch_cosine": report.worst_patch_cosine,
            "tokens_l2": report.tokens_l2,
        }

    def close(self) -> None:
        """Free the engines."""
        close_engines(self._opened)

    def _measure(self, slots: Sequence[int], outputs: Sequence[EncoderOutput]) -> None:
        rows = np.concatenate([np.arange(self._rows) + slot * self._rows for slot in slots])
        for batch, together, single in zip(self._batches, outputs, self._single, strict=True):
            alone = run_batches(single.engine.infer, batch[rows], self._rows)
            report = measure(_chosen(together, rows), alone)
            if failures := report.failures(self._limits):
                raise BatchDiffers(
                    f"features of {self.frames} frames together differ from those of single frames "
                    f"on {single.engine.runtime}: {'; '.join(failures)} ({report}); accepted: a "
                    "difference within the limits of the parity gate",
                    hint=" 1 encodes one frame at a time",
                    hint_argument="batch",
                )
            if self._report is None or report.min_cosine < self._report.min_cosine:
                self._report = report

    def _of_slot(self, outputs: Sequence[EncoderOutput], slot: int) -> EncoderOutput:
        first, *more = (_chosen(output, self._slice(slot)) for output in outputs)
        return replace(first, more=tuple(more))

    def _slice(self, slot: int) -> slice:
        return slice(slot * self._rows, (slot + 1) * self._rows)


def _chosen(output: EncoderOutput, rows: slice | np.ndarray) -> EncoderOutput:
    return replace(output, **{name: array[rows] for name, array in output.arrays.items()}, more=())


def opened_pipeline(settings: EncoderSettings, frames: int, log: Log) -> Pipeline:
    """Open a pipeline, and if ``frames`` is above 1 the engines for that many frames together.

    Raises what :meth:`Pipeline.open` and :class:`FramesTogether` raise; nothing stays open then.
    """
    pipeline = Pipeline.open(settings, log)
    if frames > 1:
        try:
            pipeline.together = FramesTogether(pipeline, frames, log)
        except BaseException:
            pipeline.close()
            raise
    return pipeline
