"""The flow of the package, one call a stage. The node, the bag tools and the benchmarks all run this object.

    pipeline = Pipeline.open(settings, log=print)
    prepared = pipeline.prepare({"wrist": message})      # decode, resize: uint8 batch
    encoded = pipeline.encode(prepared)                  # ONE batched encoder run
    result = pipeline.assemble(prepared, encoded, poses) # heads, pose tokens, fusion

The three steps are separable, so that a node can overlap them on a GPU. They are called from one thread.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.engines.build import fitted_to
from vit_perception.engines.select import OpenedEngine, open_engine
from vit_perception.fusion.make import make_fusion
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.image.preprocess import Preprocessor
from vit_perception.model.dense_map import DenseMap
from vit_perception.model.heads import Head, distinct_names, load_head, sigmoid, softmax, top_classes
from vit_perception.model.model_card import ModelCard
from vit_perception.model.zero_shot import ZeroShotHead
from vit_perception.pose.tokenizer import make_tokenizer
from vit_perception.settings import BadSetting, EncoderSettings
from vit_perception.types import (BadInput, CameraResult, ClassScore, EncoderOutput, FrameResult, PoseAtImage,
                                  RgbImage, TokenGroup, TokenSequence)
from vit_perception.wire import Layout, LayoutCamera, LayoutDense, LayoutGroup
from vit_perception.zero_shot import zero_shot_heads


@dataclass
class Prepared:
    """One group of images, decoded and resized into the engine's batch.

    ``images`` holds the cameras that are present; ``refused`` the ones whose message could not be used.
    ``batch`` is (cameras, 3, H, W) uint8; the rows of absent cameras are zero.
    """

    images: dict[str, RgbImage]
    refused: dict[str, BadInput]
    batch: np.ndarray
    stage_ms: dict[str, float] = field(default_factory=dict)

    @property
    def first(self) -> RgbImage:
        """The image of the first camera present: the group carries its stamp and frame."""
        return next(iter(self.images.values()))


def encoder_digest(card: ModelCard, block: int) -> str:
    """A digest of all that features depend on but the engine: weights, block, preprocessing, normalisation."""
    parts = {"weights": card.weights_sha256, "block": block, "rule": asdict(card.rule), "mean": card.mean,
             "std": card.std}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Pipeline:
    """Images and poses in, tokens, embedding and classifications out. Made by :meth:`open`."""

    def __init__(self, settings: EncoderSettings, loaded: LoadedModel, opened: OpenedEngine,
                 zero_shot: Mapping[str, ZeroShotHead] = MappingProxyType({})):
        self.settings = settings
        self.card = loaded.card
        self.opened = opened
        self.engine = opened.engine
        self.model_config = loaded.model.config
        self.width = width = self.model_config.width
        self.patch_size_px = self.model_config.patch_size_px
        self.grid = self.model_config.grid_of(*self.card.rule.network_size_px)
        self.block = range(self.model_config.depth)[settings.model.block]
        self.dense = DenseMap(loaded.dense, self.grid) if settings.dense.enabled else None
        self.encoder_sha256 = encoder_digest(self.card, self.block)
        self.heads: dict[str, Head | ZeroShotHead] = {c.name: load_head(c.head) for c in settings.cameras if c.head}
        for camera in settings.cameras:
            if camera.name in self.heads:
                self._check_head(camera.name, camera.head)
        self.heads.update(zero_shot)
        self.tokenizer = make_tokenizer(settings.fusion.tokenizer, width, settings.fusion.tokenizer_weights)
        self.fusion = make_fusion(settings.fusion, width)
        self._preprocess = Preprocessor(self.card.rule)
        self._decode = {c.name: decode_compressed if c.transport == "compressed" else decode_image
                        for c in settings.cameras}
        self._batch = torch.zeros((len(settings.cameras), 3, *self.card.rule.network_size_px), dtype=torch.uint8)

    @classmethod
    def open(cls, settings: EncoderSettings, log: Callable[[str], None] = lambda text: None) -> "Pipeline":
        """Load the checkpoint, open an engine that passes the parity gate, and load or make heads and fusion weights.

        Takes seconds, minutes where an engine is built. Raises BadSetting, CheckpointError, EngineError or
        ValueError with the parameter or file, its value, and what would be accepted; nothing stays open then.
        """
        log(f"loading checkpoint {settings.model.checkpoint}")
        loaded = load_checkpoint(settings.model.checkpoint, settings.model.family)
        loaded = fitted_to(settings, loaded)
        zero_shot = zero_shot_heads(settings, loaded, log)
        opened = open_engine(settings.engine, loaded, batch=len(settings.cameras), block=settings.model.block, log=log,
                             dense=settings.dense.enabled)
        try:
            return cls(settings, loaded, opened, zero_shot)
        except BaseException:
            opened.engine.close()
            raise

    def _check_head(self, camera: str, path: str) -> None:
        """Features of another encoder would give scores that look right and mean nothing."""
        head = self.heads[camera]
        if head.encoder_sha256 not in ("", self.encoder_sha256):
            raise BadSetting(f"cameras.{camera}.head", path, f"a head fitted on {self.card.name}, block {self.block} "
                             f"(encoder {self.encoder_sha256[:12]}); this one was fitted on {head.encoder_sha256[:12]}")
        head.scores(np.zeros(self.width, np.float32), np.zeros((1, self.width), np.float32))

    def close(self) -> None:
        """Free the engine. The pipeline cannot be used after it."""
        self.engine.close()

    # -- prepare ---------------------------------------------------------------------------------------------

    def prepare(self, messages: Mapping[str, Any]) -> Prepared:
        """Decode and resize one message a camera; cameras that are absent from ``messages`` get zero rows.

        A message that cannot be used lands in ``refused`` and counts as absent. The batch is the pipeline's
        own buffer and holds until the next call.
        """
        prepared = Prepared({}, {}, self._batch.numpy(), {"decode": 0.0, "preprocess": 0.0})
        for row, camera in enumerate(self.settings.cameras):
            if camera.name in messages:
                try:
                    self._prepare_one(camera.name, messages[camera.name], row, prepared)
                    continue
                except BadInput as error:
                    prepared.refused[camera.name] = error
                except Exception as error:  # OpenCV's own errors: one camera's bad picture is not the others' trouble
                    prepared.refused[camera.name] = BadInput("decode", f"{type(error).__name__}: {error}")
            self._batch[row].zero_()
        return prepared

    def _prepare_one(self, camera: str, message: Any, row: int, prepared: Prepared) -> None:
        started = time.perf_counter()
        image = self._decode[camera](message)
        decoded = time.perf_counter()
        self._preprocess(image, out=self._batch[row])
        prepared.images[camera] = image
        prepared.stage_ms["decode"] += 1e3 * (decoded - started)
        prepared.stage_ms["preprocess"] += 1e3 * (time.perf_counter() - decoded)

    # -- encode ----------------------------------------------------------------------------------------------

    def encode(self, prepared: Prepared) -> EncoderOutput:
        """Run the encoder once for all cameras. The output holds until the next call."""
        started = time.perf_counter()
        output = self.engine.infer(prepared.batch)
        prepared.stage_ms["infer"] = 1e3 * (time.perf_counter() - started)
        return output

    # -- assemble --------------------------------------------------------------------------------------------

    def assemble(self, prepared: Prepared, output: EncoderOutput, poses: Mapping[str, PoseAtImage]) -> FrameResult:
        """Heads, pose tokens and fusion. Per-camera arrays are views of ``output``; tokens are a copy.

        Raises BadInput: ``pose_missing`` where ``poses.policy`` is ``require`` and an arm has no pose,
        ``not_finite`` where the engine went wrong.
        """
        started = time.perf_counter()
        self._require(poses, prepared.first.stamp_ns)
        cameras = {camera.name: self._camera_result(camera.name, row, prepared, output)
                   for row, camera in enumerate(self.settings.cameras) if camera.name in prepared.images}
        sequence = TokenSequence.of([*self._image_groups(prepared, output), *self._pose_groups(poses)])
        if not np.isfinite(sequence.tokens).all():
            raise BadInput("not_finite", f"{self.engine.runtime} gave NaN or infinity; accepted: finite features")
        embedding = self.fusion.embedding(sequence)
        prepared.stage_ms["assemble"] = 1e3 * (time.perf_counter() - started)
        return FrameResult(prepared.first.stamp_ns, prepared.first.frame_id, cameras, dict(poses), sequence,
                           embedding, prepared.stage_ms)

    def _require(self, poses: Mapping[str, PoseAtImage], stamp_ns: int) -> None:
        missing = [arm.name for arm in self.settings.poses if poses[arm.name].pose is None]
        if missing and self.settings.pose_policy == "require":
            raise BadInput("pose_missing", f"no pose of {', '.join(missing)} near the image stamp {stamp_ns} ns; "
                           "accepted: a sample within poses.<name>.max_skew_s, or poses.policy: mask")

    def _camera_result(self, name: str, row: int, prepared: Prepared, output: EncoderOutput) -> CameraResult:
        cls_token, patch_tokens = output.cls_token[row], output.patch_tokens[row]
        return CameraResult(prepared.images[name], cls_token, patch_tokens, output.cls_attention[row], self.grid,
                            self._classes(name, cls_token, patch_tokens, output, row),
                            None if output.block_tokens is None else output.block_tokens[row])

    def _classes(self, name: str, cls_token: np.ndarray, patch_tokens: np.ndarray, output: EncoderOutput,
                 row: int) -> tuple[ClassScore, ...]:
        """The camera's own head or zero-shot labels where it has them, else the checkpoint's head, else nothing."""
        if name in self.heads:
            scores = self.heads[name].scores(cls_token, patch_tokens)
        elif output.logits is not None:
            scores = sigmoid(output.logits[row]) if self.card.scores == "sigmoid" else softmax(output.logits[row])
        else:
            return ()
        return top_classes(scores, self.labels_of(name), self.settings.output.top_k)

    def _image_groups(self, prepared: Prepared, output: EncoderOutput) -> list[TokenGroup]:
        groups = []
        for row, camera in enumerate(self.settings.cameras):
            present = camera.name in prepared.images
            groups.append(TokenGroup("cls", camera.name, output.cls_token[row][None], present))
            groups.append(TokenGroup("patch", camera.name, output.patch_tokens[row], present, self.grid))
        return groups

    def _pose_groups(self, poses: Mapping[str, PoseAtImage]) -> list[TokenGroup]:
        groups = []
        for arm in self.settings.poses:
            pose = poses[arm.name].pose
            tokens = np.zeros((1, self.width), np.float32) if pose is None else self.tokenizer.tokens(pose)
            groups.append(TokenGroup("pose", arm.name, tokens, pose is not None))
        return groups

    def dense_values(self, camera: CameraResult) -> np.ndarray:
        """Depth (H, W) float32, or labels (H, W), of ``camera``'s image, pixel for pixel: see :class:`DenseMap`.

        It takes longer than all the rest on a CPU, so it is not part of :meth:`assemble`. Valid until the next
        :meth:`encode`; ``dense.enabled`` has to be true.
        """
        return self.dense(camera.block_tokens, self._preprocess.plan(camera.image.size))

    # -- what the outputs mean -------------------------------------------------------------------------------

    def labels_of(self, camera: str) -> tuple[str, ...]:
        """The class labels of ``camera``, in the order of its scores; empty where it is not classified."""
        return self.heads[camera].labels if camera in self.heads else self.card.labels

    def scores_of(self, camera: str) -> str:
        """What made the scores of ``camera``: ``softmax`` or ``sigmoid``."""
        return self.heads[camera].kind if camera in self.heads else self.card.scores

    def geometry(self, source_size_px: tuple[int, int]) -> PatchGeometry:
        """Patch index <-> source pixel for images of ``source_size_px`` (height, width)."""
        return PatchGeometry(self._preprocess.plan(source_size_px), self.patch_size_px)

    def network_view(self, image: RgbImage) -> np.ndarray:
        """The pixels of ``image`` that the network sees, (H, W, 3) uint8 RGB, for pictures drawn over them."""
        return self._preprocess(image).permute(1, 2, 0).contiguous().numpy()

    def layout(self, sources: Mapping[str, RgbImage] | None = None) -> Layout:
        """How to read the outputs. ``sources`` are images seen so far: their size gives the geometry."""
        groups = tuple(self._layout_groups())
        report = self.opened.report
        return Layout(
            groups=groups, cameras=tuple(self._layout_cameras(sources or {})), width=self.width,
            dtype=self.settings.output.dtype, model=self.card.name, weights_sha256=self.card.weights_sha256,
            encoder_sha256=self.encoder_sha256, block=self.block, runtime=self.engine.runtime,
            precision=self.engine.precision, min_cosine=round(report.min_cosine, 6),
            fusion=self.fusion.kind, fusion_weights_sha256=self.fusion.weights_sha256,
            pose_tokenizer=self.tokenizer.kind, pose_tokenizer_sha256=self.tokenizer.weights_sha256,
            embedding_width=self._embedding_width(groups), dense=self._layout_dense())

    def _embedding_width(self, groups: tuple[LayoutGroup, ...]) -> int:
        """What the fusion makes of a sequence in which everything is missing is as wide as any other."""
        empty = [TokenGroup(g.kind, g.source, np.zeros((g.stop - g.start, self.width), np.float32), valid=False)
                 for g in groups]
        return len(self.fusion.embedding(TokenSequence.of(empty)))

    def _layout_dense(self) -> LayoutDense | None:
        if self.dense is None:
            return None
        spec = self.dense.spec
        return LayoutDense(spec.kind, spec.quantity, spec.unit, spec.blocks, spec.labels, self.dense.no_label)

    def _layout_groups(self):
        start = 0
        for camera in self.settings.cameras:
            yield LayoutGroup(f"{camera.name}/cls", "cls", camera.name, start, start + 1)
            stop = start + 1 + self.grid[0] * self.grid[1]
            yield LayoutGroup(f"{camera.name}/patch", "patch", camera.name, start + 1, stop, self.grid)
            start = stop
        for arm in self.settings.poses:
            yield LayoutGroup(f"{arm.name}/pose", "pose", arm.name, start, start + 1)
            start += 1

    def _layout_cameras(self, sources: Mapping[str, RgbImage]):
        rule = self.card.rule
        for camera in self.settings.cameras:
            seen: dict[str, Any] = {}
            image = sources.get(camera.name)
            if image is not None:
                plan = self._preprocess.plan(image.size)
                seen = {"source_size_px": image.size, "scale": plan.scale, "offset_px": plan.offset_px}
            yield LayoutCamera(camera.name, image.frame_id if image else "", rule.fit, rule.network_size_px,
                               self.patch_size_px, labels=distinct_names(self.labels_of(camera.name)),
                               scores=self.scores_of(camera.name), **seen)
