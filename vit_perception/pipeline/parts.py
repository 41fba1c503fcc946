"""What a pipeline is made of besides its engines: heads, tokenizers and fusion, checked against the
checkpoints.

All of it is read before an engine is opened, so that what is wrong is said in seconds, not after
minutes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import CameraSettings, EncoderSettings, OutputSettings
from vit_perception.files.log import SILENT, Log
from vit_perception.heads.classification import Head, load_head, scores_of, top_classes
from vit_perception.heads.dense_map import DenseMap
from vit_perception.heads.text_weights import ZeroShotHead
from vit_perception.image.video.library import check_video_library
from vit_perception.pipeline.encoders import EncoderParts, encoder_parts
from vit_perception.pipeline.history import TokenHistory
from vit_perception.pipeline.monitor.load import monitor_of
from vit_perception.pipeline.zero_shot_heads import encoder_of_texts, zero_shot_heads
from vit_perception.policy.basis_file import load_basis
from vit_perception.tokens.fuse import make_fusion
from vit_perception.tokens.kinds import sources_by_kind
from vit_perception.tokens.source import CheckpointTokens
from vit_perception.tokens.tokenizer import Tokenizer
from vit_perception.wire.basis import Basis
from vit_perception.wire.monitored import CameraChange
from vit_perception.wire.records import CameraResult, ClassScore, EncoderOutput


class Parts:
    """The parts of one pipeline. Raises BadSetting or ValueError with the parameter or file and
    what is accepted.

    ``loaded`` are the checkpoints, in the order of the engines. ``card``, ``width``, ``grid`` and
    so on are those of the first.
    """

    def __init__(self, settings: EncoderSettings, loaded: Sequence[LoadedModel], log: Log = SILENT):
        check_video_library(settings.cameras)
        self.encoders = encoder_parts(settings, loaded)
        first = self.encoders[0]
        self.card = first.card
        self.width = first.width
        self.patch_size_px = first.patch_size_px
        self.grid = first.grid
        self.connector = first.connector
        self.joined = first.joined
        self.block = first.block
        self.encoder_sha256 = first.encoder_sha256
        self.grids = tuple(encoder.for_sources for encoder in self.encoders)
        dense = loaded[0].dense
        self.dense = (
            DenseMap(dense, self.grid, settings.engine.device)
            if settings.dense.enabled and dense is not None
            else None
        )
        # The encoder with the classifier that is used, and of a camera's own head the encoder.
        self._classifier = next((k for k, each in enumerate(self.encoders) if each.classifies), 0)
        self._encoder_of: dict[str, int] = {}
        self.heads: dict[str, Head | ZeroShotHead] = {}
        for camera in settings.cameras:
            if camera.head:
                self.heads[camera.name] = self._checked_head(camera)
        of_texts = encoder_of_texts(settings, loaded)
        zero_shot = zero_shot_heads(settings, loaded[of_texts], log)
        self.heads.update(zero_shot)
        self._encoder_of.update(dict.fromkeys(zero_shot, of_texts))
        self.check_labels(settings)
        self.tokenizers: dict[str, Tokenizer] = {}
        with_state = next((each for each in loaded if each.state is not None), loaded[0])
        checkpoint = CheckpointTokens(with_state.card.name, self.width, with_state.state)
        for kind, sources in sources_by_kind(settings):
            self.tokenizers |= kind.tokenizers(sources, settings, checkpoint)
        self.fusion = make_fusion(settings.fusion, self.width)
        rows = [
            rows.count
            for _, sources in sources_by_kind(settings)
            for source in sources
            for rows in source.token_rows(self.grids, self.tokenizers)
            if rows.width_apart is None
        ]
        float32_bytes = 4
        self.basis = self._checked_basis(settings.output.basis)
        self.monitor = monitor_of(settings, self.encoders)
        self.history = TokenHistory(settings.history.rule, float32_bytes * sum(rows) * self.width)

    def _checked_basis(self, path: str) -> Basis | None:
        """The basis of the patch tokens; None without one."""
        if not path:
            return None
        if len(self.encoders) > 1:
            raise BadSetting("tokens.basis", path, "'' with model.more_checkpoints")
        file = load_basis(path)
        if (file.basis.encoder_sha256, file.basis.width) != (self.encoder_sha256, self.width):
            raise BadSetting(
                "tokens.basis",
                path,
                f"a basis of {self.card.name}, block {self.block}, {self.width} channels (encoder "
                f"{self.encoder_sha256[:12]}); this one is of {file.model}, {file.basis.width} "
                f"channels (encoder {file.basis.encoder_sha256[:12]})",
            )
        return file.basis

    def apply(self, settings: EncoderSettings) -> None:
        """Go on with other labels and limits of the monitor. Raises BadSetting for wrong labels."""
        self.check_labels(settings)
        if self.monitor:
            self.monitor.settings = settings.monitor

    def forget(self) -> None:
        """Forget earlier frames: those of the history, and the monitor's last seconds."""
        self.history.clear()
        if self.monitor:
            self.monitor.clear()

    def changes(
        self, cameras: Mapping[str, CameraResult], stage_ms: dict[str, float]
    ) -> dict[str, CameraChange]:
        """What the monitor finds in the images of a frame; {} without ``monitor.reference``."""
        return self.monitor(cameras, stage_ms) if self.monitor else {}

    @property
    def monitored(self) -> tuple[str, ...]:
        """The cameras of the reference."""
        return tuple(self.monitor.cameras) if self.monitor else ()

    def _checked_head(self, camera: CameraSettings) -> Head:
        """Features of another encoder would give scores that look right and mean nothing."""
        head = load_head(camera.head)
        fitting = [
            index
            for index, encoder in enumerate(self.encoders)
            if head.encoder_sha256 in ("", encoder.encoder_sha256)
        ]
        if not fitting:
            listed = " or ".join(
                f"{encoder.card.name}, block {encoder.block} "
                f"(encoder {encoder.encoder_sha256[:12]})"
                for encoder in self.encoders
            )
            raise BadSetting(
                f"cameras.{camera.name}.head",
                camera.head,
                f"a head fitted on {listed}; this one was fitted on {head.encoder_sha256[:12]}",
            )
        self._encoder_of[camera.name] = fitting[0]
        head.scores(np.zeros(self.width, np.float32), np.zeros((1, self.width), np.float32))
        return head

    def _classifying(self, camera: str) -> EncoderParts:
        """The encoder whose features the classes of ``camera`` come from."""
        return self.encoders[self._encoder_of.get(camera, self._classifier)]

    def _own_labels(self, camera: str) -> tuple[str, ...]:
        head = self.heads.get(camera)
        return head.labels if head else self._classifying(camera).card.labels

    def check_labels(self, settings: EncoderSettings) -> None:
        """Raise BadSetting where a camera's ``labels`` are not one a class."""
        for camera in settings.cameras:
            count = len(self._own_labels(camera.name))
            if camera.labels and len(camera.labels) != count:
                accepted = (
                    f"{count} names, one a class, or none"
                    if count
                    else "none: this camera has no head"
                )
                raise BadSetting(f"cameras.{camera.name}.labels", list(camera.labels), accepted)

    def scores_of(self, camera: str) -> str:
        """What made the scores of ``camera``: ``softmax`` or ``sigmoid``."""
        if camera in self.heads:
            return self.heads[camera].kind
        return self._classifying(camera).card.scores

    def labels_of(self, camera: CameraSettings) -> tuple[str, ...]:
        """The class labels of ``camera``, in the order of its scores; empty where it is not
        classified.
        """
        return camera.labels or self._own_labels(camera.name)

    def classes(
        self, camera: CameraSettings, row: int, output: EncoderOutput, settings: OutputSettings
    ) -> tuple[ClassScore, ...]:
        """The classes of ``camera``, whose image is ``row`` of ``output``.

        They come from its own head or zero-shot labels where it has them, else from the first
        checkpoint with a head, else there are none.
        """
        taken = output.each[self._encoder_of.get(camera.name, self._classifier)]
        if camera.name in self.heads:
            scores = self.heads[camera.name].scores(taken.cls_token[row], taken.patch_tokens[row])
        elif taken.logits is not None:
            scores = scores_of(taken.logits[row], self.scores_of(camera.name))
        else:
            return ()
        best = top_classes(scores, self.labels_of(camera), settings.top_k)
        return tuple(c for c in best if c.score >= settings.min_score)
