"""The flow of the package, one call a stage. The node, the bag tools and the benchmarks all run
this object.

    pipeline = Pipeline.open(settings, log=PrintedLog())
    prepared = pipeline.prepare({"wrist": message})      # decode, resize: uint8 batch
    encoded = pipeline.encode(prepared)                  # ONE batched run of each encoder
    result = pipeline.assemble(prepared, encoded, samples)   # heads, tokens, fusion

Each step may be called from a thread of its own, so that those of successive frames overlap
(:mod:`vit_perception.pipeline.frames`); no step is called from two threads at once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.settings import EncoderSettings
from vit_perception.engines.select import OpenedEngine
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT, Log
from vit_perception.files.memory import give_back_freed_memory
from vit_perception.image.camera_info import Calibration
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.camera_views import camera_views
from vit_perception.pipeline.encoders import close_engines, load_encoders, open_engines
from vit_perception.pipeline.layout import layout_of
from vit_perception.pipeline.parts import Parts
from vit_perception.pipeline.prepare import ImageChange, Preparation, Prepared
from vit_perception.streams.sample_history import how_far
from vit_perception.tokens.frame import FrameInputs
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.source import SampledSource, calibrated, sampled
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import (
    BadInput,
    CameraResult,
    EncoderOutput,
    FrameResult,
    RgbImage,
    Roi,
    SampleAtImage,
    TokenSequence,
)


class Pipeline:
    """Images and poses in, tokens, embedding and classifications out. Made by :meth:`open`.

    ``every_opened`` has the engines, one for each of ``parts.encoders``. What has no such list
    (``engine``, ``card``, ``width``, ``grid`` and so on) is that of the first encoder.
    """

    def __init__(
        self, settings: EncoderSettings, parts: Parts, every_opened: Sequence[OpenedEngine]
    ):
        self.settings = settings
        self.sources = sources_of(settings)
        self.parts = parts
        self.every_opened = tuple(every_opened)
        self.opened = self.every_opened[0]
        self.engine = self.engine_in_hand = self.opened.engine
        self.card = parts.card
        self.width = parts.width
        self.grid = parts.grid
        self.block = parts.block
        self.patch_size_px = parts.patch_size_px
        self.encoder_sha256 = parts.encoder_sha256
        self.heads = parts.heads
        self.dense = parts.dense
        self.history = parts.history
        self.together: Any = None  # a FramesTogether, where frames are encoded several at a time
        self._every_preprocess = [Preprocessor(each.card.rule) for each in parts.encoders]
        self._preprocess = self._every_preprocess[0]
        self._prepare = Preparation(settings.cameras, self._every_preprocess)

    @classmethod
    def open(
        cls,
        settings: EncoderSettings,
        log: Log = SILENT,
        loaded: LoadedModel | None = None,
    ) -> "Pipeline":
        """Load everything, and open for each checkpoint an engine that passes the parity gate.
        ``loaded`` is ``model.checkpoint`` if it is loaded already.

        Takes seconds, minutes where an engine is built. Raises BadSetting, CheckpointError,
        EngineError or ValueError with the parameter or file, its value, and what would be accepted;
        nothing stays open then.
        """
        every_loaded = load_encoders(settings, log, loaded)
        del loaded
        parts = Parts(settings, every_loaded, log)
        opened = open_engines(settings, every_loaded, log)
        try:
            pipeline = cls(settings, parts, opened)
        except BaseException:
            close_engines(opened)
            raise
        del every_loaded
        give_back_freed_memory()
        return pipeline

    def apply(self, settings: EncoderSettings) -> None:
        """Go on with other policies, labels and outputs, from the next call on. Raises BadSetting
        for wrong labels.

        What the engine, the parts and the layout's groups were made for must be the same in
        ``settings``.
        """
        self.parts.apply(settings)
        self.settings = settings
        self.sources = sources_of(settings)

    def close(self) -> None:
        """Free the engines. The pipeline cannot be used after it."""
        if self.together is not None:
            self.together.close()
        close_engines(self.every_opened)
        give_back_freed_memory()

    # -- prepare -----------------------------------------------------------------------------------

    @property
    def camera_in_hand(self) -> str:
        """Whose image :meth:`prepare` is at, for who watches it from another thread."""
        return self._prepare.camera_in_hand

    def prepare(
        self,
        messages: Mapping[str, Any],
        batch: int = 0,
        calibrations: Mapping[str, Calibration | BadInput] | None = None,
        depths: Mapping[str, Any] | None = None,
        change: ImageChange | None = None,
    ) -> Prepared:
        """Decode, rectify and resize one message a camera; cameras that are absent from
        ``messages`` get zero rows.

        Instead of a message there may be a decoded :class:`RgbImage`, or a function that makes one.

        A message that cannot be used lands in ``refused`` and counts as absent; so does one at
        which the code fails, with the reason ``error`` and the traceback. ``batch`` is 0 or 1: the
        pipeline's own buffer that is written, which holds until it is prepared again.
        ``calibrations`` has that of each camera with ``rectify`` or rays, or why there is none; one
        with ``rectify`` is refused without it. ``depths`` has the depth message of each camera with
        a depth topic, or why there is none. ``change`` gets each camera and its rectified image.
        """
        return self._prepare(messages, batch, calibrations or {}, depths or {}, change)

    # -- encode ------------------------------------------------------------------------------------

    def encode(self, prepared: Prepared) -> EncoderOutput:
        """Run each encoder once for all cameras. The output holds until the next call."""
        started = time.perf_counter()
        outputs = []
        for opened, batch in zip(self.every_opened, prepared.each, strict=True):
            self.engine_in_hand = opened.engine
            outputs.append(opened.engine.infer(batch))
        prepared.stage_ms["infer"] = 1e3 * (time.perf_counter() - started)
        return replace(outputs[0], more=tuple(outputs[1:])) if outputs[1:] else outputs[0]

    @property
    def leaves_a_core(self) -> bool:
        """Whether a CPU core of this process is free while any engine runs."""
        return all(opened.leaves_a_core for opened in self.every_opened)

    # -- assemble ----------------------------------------------------------------------------------

    def assemble(
        self,
        prepared: Prepared,
        output: EncoderOutput,
        samples: Mapping[str, SampleAtImage[Any]],
    ) -> FrameResult:
        """Make heads, tokens and fusion of ``samples``, by source, and the encoder's ``output``.

        Per-camera arrays are views of ``output``; tokens are a copy, and with ``history.frames``
        those of earlier frames stand before them.

        Raises:
            BadInput: ``<kind>_missing``, such as pose_missing, where the policy of a source's kind
                is ``require``; ``not_finite`` where the engine or a source's token went wrong.
        """
        started = time.perf_counter()
        self._require(samples, prepared.first.stamp_ns)
        rows = {camera.name: row for row, camera in enumerate(self.settings.cameras)}
        cameras = {
            name: self._camera_result(name, row, prepared, output)
            for name, row in rows.items()
            if name in prepared.images
        }
        frame = FrameInputs(
            output=output,
            rows=rows,
            present=frozenset(cameras),
            samples=samples,
            encoders=self.parts.grids,
            tokenizers=self.parts.tokenizers,
            views=camera_views(
                settings=self.settings,
                parts=self.parts,
                preprocess=self._every_preprocess,
                prepared=prepared,
                wanted=calibrated(self.sources),
            ),
        )
        groups = [group for source in self.sources for group in source.token_groups(frame)]
        sequence = TokenSequence.of([group for group in groups if not group.apart])
        if not np.isfinite(sequence.tokens).all():
            runtimes = dict.fromkeys(opened.engine.runtime for opened in self.every_opened)
            raise BadInput(
                "not_finite",
                f"{' or '.join(runtimes)} gave NaN or infinity; accepted: finite features",
            )
        embedding = self.parts.fusion.embedding(sequence)
        stamp_ns = prepared.first.stamp_ns
        sequence, history_stamps_ns = self.history.extended(sequence, stamp_ns, cameras)
        prepared.stage_ms["assemble"] = 1e3 * (time.perf_counter() - started)
        return FrameResult(
            stamp_ns=stamp_ns,
            frame_id=prepared.first.frame_id,
            cameras=cameras,
            samples=dict(samples),
            sequence=sequence,
            embedding=embedding,
            stage_ms=prepared.stage_ms,
            apart=tuple(group for group in groups if group.apart),
            history_stamps_ns=history_stamps_ns,
            changes=self.parts.changes(cameras, prepared.stage_ms),
        )

    def _require(self, samples: Mapping[str, SampleAtImage[Any]], stamp_ns: int) -> None:
        missing: dict[type[SampledSource], list[str]] = {}
        for source in sampled(self.sources):
            found = samples[source.name]
            if source.required and found.value is None:
                why = "; ".join(
                    [*filter(None, [", ".join(found.lacking)]), how_far(found.nearest_ns)]
                )
                missing.setdefault(type(source), []).append(f"{source.name} ({why})")
        for kind, texts in missing.items():
            raise BadInput(
                f"{kind.kind}_missing",
                f"no {kind.sample_label} of {', '.join(texts)} near the image stamp {stamp_ns} ns; "
                f"accepted: a sample within {kind.group}.<name>.max_skew_s, or "
                f"{kind.group}.policy: mask",
            )

    def _camera_result(
        self, name: str, row: int, prepared: Prepared, output: EncoderOutput
    ) -> CameraResult:
        camera = self.settings.cameras[row]
        return CameraResult(
            image=prepared.images[name],
            cls_token=output.cls_token[row],
            patch_tokens=output.patch_tokens[row],
            cls_attention=output.cls_attention[row],
            grid=self.grid,
            classes=self.parts.classes(camera, row, output, self.settings.output),
            block_tokens=None if output.block_tokens is None else output.block_tokens[row],
            roi=camera.region,
        )

    def dense_values(self, camera: CameraResult) -> np.ndarray:
        """Depth (H, W) float32, or labels (H, W), of ``camera``'s image, pixel for pixel: see
        :class:`DenseMap`.

        It takes longer than all the rest on a CPU, so it is not part of :meth:`assemble`. It reads
        the encoder's output: call it before :meth:`encode` is called again, or on a copy.
        ``dense.enabled`` has to be true.
        """
        if self.dense is None or camera.block_tokens is None:
            raise InvalidValue("dense.enabled is false; accepted: true, for depth or segmentation")
        plan = self._preprocess.plan(camera.image.size, camera.roi)
        return self.dense(camera.block_tokens, plan)

    # -- what the outputs mean ---------------------------------------------------------------------

    def labels_of(self, camera: str) -> tuple[str, ...]:
        """The class labels of ``camera`` in the order of its scores; empty without classes."""
        return self.parts.labels_of(next(c for c in self.settings.cameras if c.name == camera))

    def geometry(self, source_size_px: tuple[int, int], roi: Roi | None = None) -> PatchGeometry:
        """Patch index <-> pixel for images of ``source_size_px`` (H, W), of which ``roi`` is seen.

        Raises:
            BadInput: ``roi``: it is not inside the image.
        """
        return PatchGeometry(self._preprocess.plan(source_size_px, roi), self.patch_size_px)

    def network_view(self, image: RgbImage, roi: Roi | None = None) -> np.ndarray:
        """What the network sees of ``image`` or of its ``roi``, (H, W, 3) uint8 RGB."""
        return self._preprocess(image, roi=roi).permute(1, 2, 0).contiguous().numpy()

    def what_runs(self) -> str:
        """Say each model, runtime and precision, for people."""
        return "; ".join(
            f"{encoder.card.name} on {opened.engine.runtime} in {opened.engine.precision}"
            for encoder, opened in zip(self.parts.encoders, self.every_opened, strict=True)
        )

    def layout(self, images: Mapping[str, RgbImage] | None = None) -> Layout:
        """How to read the outputs; the size of ``images``, by camera, gives the geometry."""
        return layout_of(
            settings=self.settings,
            parts=self.parts,
            preprocess=self._every_preprocess,
            images=images or {},
            opened=self.every_opened,
        )
