"""The flow of the package, one call a stage. The node, the bag tools and the benchmarks all run
this object.

    pipeline = Pipeline.open(settings, log=PrintedLog())
    prepared = pipeline.prepare({"wrist": message})      # decode, resize: uint8 batch
    encoded = pipeline.encode(prepared)                  # ONE batched encoder run
    result = pipeline.assemble(prepared, encoded, samples)   # heads, tokens, fusion

Each step may be called from a thread of its own, so that those of successive frames overlap
(:mod:`vit_perception.pipeline.frames`); no step is called from two threads at once.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.config.settings import EncoderSettings
from vit_perception.engines.building.build import fitted_to
from vit_perception.engines.select import OpenedEngine, open_engine
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT, Log
from vit_perception.files.memory import give_back_freed_memory
from vit_perception.heads.classification import scores_of, top_classes
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.layout import layout_of
from vit_perception.pipeline.parts import Parts
from vit_perception.pipeline.prepare import Preparation, Prepared
from vit_perception.pipeline.zero_shot_heads import zero_shot_heads
from vit_perception.streams.sample_history import how_far
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.source import FrameInputs, SampledSource, sampled
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import (
    BadInput,
    CameraResult,
    ClassScore,
    EncoderOutput,
    FrameResult,
    RgbImage,
    SampleAtImage,
    TokenSequence,
)


class Pipeline:
    """Images and poses in, tokens, embedding and classifications out. Made by :meth:`open`."""

    def __init__(self, settings: EncoderSettings, parts: Parts, opened: OpenedEngine):
        self.settings = settings
        self.sources = sources_of(settings)
        self.parts = parts
        self.opened = opened
        self.engine = opened.engine
        self.card, self.width, self.grid, self.block = (
            parts.card,
            parts.width,
            parts.grid,
            parts.block,
        )
        self.patch_size_px, self.encoder_sha256, self.heads = (
            parts.patch_size_px,
            parts.encoder_sha256,
            parts.heads,
        )
        self.dense = parts.dense
        self._preprocess = Preprocessor(self.card.rule)
        self._prepare = Preparation(settings.cameras, self._preprocess)

    @classmethod
    def open(
        cls,
        settings: EncoderSettings,
        log: Log = SILENT,
        loaded: LoadedModel | None = None,
    ) -> "Pipeline":
        """Load the checkpoint, heads, tokenizers and fusion weights, and open an engine that passes
        the parity gate. ``loaded`` is the checkpoint if it is loaded already.

        Takes seconds, minutes where an engine is built. Raises BadSetting, CheckpointError,
        EngineError or ValueError with the parameter or file, its value, and what would be accepted;
        nothing stays open then.
        """
        if loaded is None:
            log.info(f"loading checkpoint {settings.model.checkpoint}")
            loaded = load_checkpoint(settings.model.checkpoint, settings.model.family)
        loaded = fitted_to(settings, loaded)
        parts = Parts(settings, loaded, zero_shot_heads(settings, loaded, log))
        opened = open_engine(
            settings.engine,
            loaded,
            batch=len(settings.cameras),
            block=settings.model.block,
            log=log,
            dense=settings.dense.enabled,
        )
        try:
            pipeline = cls(settings, parts, opened)
        except BaseException:
            opened.engine.close()
            raise
        del loaded
        give_back_freed_memory()
        return pipeline

    def apply(self, settings: EncoderSettings) -> None:
        """Go on with other policies, labels and outputs, from the next call on. Raises BadSetting
        for wrong labels.

        What the engine, the parts and the layout's groups were made for must be the same in
        ``settings``.
        """
        self.parts.check_labels(settings)
        self.settings = settings
        self.sources = sources_of(settings)

    def close(self) -> None:
        """Free the engine. The pipeline cannot be used after it."""
        self.engine.close()
        give_back_freed_memory()

    # -- prepare -----------------------------------------------------------------------------------

    @property
    def camera_in_hand(self) -> str:
        """Whose image :meth:`prepare` is at, for who watches it from another thread."""
        return self._prepare.camera_in_hand

    def prepare(self, messages: Mapping[str, Any], batch: int = 0) -> Prepared:
        """Decode and resize one message a camera; cameras that are absent from ``messages`` get
        zero rows.

        Instead of a message there may be a decoded :class:`RgbImage`, or a function without
        arguments that decodes one: pictures and videos need not be dressed up as messages.

        A message that cannot be used lands in ``refused`` and counts as absent; so does one at
        which the code fails, with the reason ``error`` and the traceback. ``batch`` is 0 or 1: the
        pipeline's own buffer that is written, which holds until it is prepared again.
        """
        return self._prepare(messages, batch)

    # -- encode ------------------------------------------------------------------------------------

    def encode(self, prepared: Prepared) -> EncoderOutput:
        """Run the encoder once for all cameras. The output holds until the next call."""
        started = time.perf_counter()
        output = self.engine.infer(prepared.batch)
        prepared.stage_ms["infer"] = 1e3 * (time.perf_counter() - started)
        return output

    # -- assemble ----------------------------------------------------------------------------------

    def assemble(
        self,
        prepared: Prepared,
        output: EncoderOutput,
        samples: Mapping[str, SampleAtImage[Any]],
    ) -> FrameResult:
        """Make heads, tokens and fusion of ``samples``, by source, and the encoder's ``output``.

        Per-camera arrays are views of ``output``; tokens are a copy.

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
            grid=self.grid,
            tokenizers=self.parts.tokenizers,
        )
        groups = [group for source in self.sources for group in source.token_groups(frame)]
        sequence = TokenSequence.of([group for group in groups if not group.apart])
        if not np.isfinite(sequence.tokens).all():
            raise BadInput(
                "not_finite",
                f"{self.engine.runtime} gave NaN or infinity; accepted: finite features",
            )
        embedding = self.parts.fusion.embedding(sequence)
        prepared.stage_ms["assemble"] = 1e3 * (time.perf_counter() - started)
        return FrameResult(
            stamp_ns=prepared.first.stamp_ns,
            frame_id=prepared.first.frame_id,
            cameras=cameras,
            samples=dict(samples),
            sequence=sequence,
            embedding=embedding,
            stage_ms=prepared.stage_ms,
            apart=tuple(group for group in groups if group.apart),
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
        cls_token, patch_tokens = output.cls_token[row], output.patch_tokens[row]
        return CameraResult(
            prepared.images[name],
            cls_token,
            patch_tokens,
            output.cls_attention[row],
            self.grid,
            self._classes(name, cls_token, patch_tokens, output, row),
            None if output.block_tokens is None else output.block_tokens[row],
        )

    def _classes(
        self,
        name: str,
        cls_token: np.ndarray,
        patch_tokens: np.ndarray,
        output: EncoderOutput,
        row: int,
    ) -> tuple[ClassScore, ...]:
        """The camera's own head or zero-shot labels where it has them, else the checkpoint's head,
        else nothing.
        """
        if name in self.heads:
            scores = self.heads[name].scores(cls_token, patch_tokens)
        elif output.logits is not None:
            scores = scores_of(output.logits[row], self.card.scores)
        else:
            return ()
        best = top_classes(scores, self.labels_of(name), self.settings.output.top_k)
        return tuple(c for c in best if c.score >= self.settings.output.min_score)

    def dense_values(self, camera: CameraResult) -> np.ndarray:
        """Depth (H, W) float32, or labels (H, W), of ``camera``'s image, pixel for pixel: see
        :class:`DenseMap`.

        It takes longer than all the rest on a CPU, so it is not part of :meth:`assemble`. It reads
        the encoder's output: call it before :meth:`encode` is called again, or on a copy.
        ``dense.enabled`` has to be true.
        """
        if self.dense is None or camera.block_tokens is None:
            raise InvalidValue("dense.enabled is false; accepted: true, for depth or segmentation")
        return self.dense(camera.block_tokens, self._preprocess.plan(camera.image.size))

    # -- what the outputs mean ---------------------------------------------------------------------

    def labels_of(self, camera: str) -> tuple[str, ...]:
        """The class labels of ``camera``, in the order of its scores; empty where it is not
        classified.
        """
        return self.parts.labels_of(next(c for c in self.settings.cameras if c.name == camera))

    def geometry(self, source_size_px: tuple[int, int]) -> PatchGeometry:
        """Patch index <-> source pixel for images of ``source_size_px`` (height, width)."""
        return PatchGeometry(self._preprocess.plan(source_size_px), self.patch_size_px)

    def network_view(self, image: RgbImage) -> np.ndarray:
        """The pixels of ``image`` that the network sees, (H, W, 3) uint8 RGB, for pictures drawn
        over them.
        """
        return self._preprocess(image).permute(1, 2, 0).contiguous().numpy()

    def layout(self, images: Mapping[str, RgbImage] | None = None) -> Layout:
        """How to read the outputs. ``images`` are those seen so far, by camera: their size gives
        the geometry.
        """
        return layout_of(
            settings=self.settings,
            parts=self.parts,
            preprocess=self._preprocess,
            images=images or {},
            runtime=self.engine.runtime,
            precision=self.engine.precision,
            min_cosine=self.opened.report.min_cosine,
        )
