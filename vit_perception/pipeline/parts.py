"""What a pipeline is made of besides its engine: heads, tokenizers and fusion, checked against the
checkpoint.

All of it is read before an engine is opened, so that what is wrong is said in seconds, not after
minutes.
"""

from collections.abc import Mapping

import numpy as np

from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.engines.reference import encoder_digest
from vit_perception.heads.classification import Head, load_head
from vit_perception.heads.dense_map import DenseMap
from vit_perception.heads.text_weights import ZeroShotHead
from vit_perception.tokens.fuse import make_fusion
from vit_perception.tokens.kinds import sources_by_kind
from vit_perception.tokens.source import CheckpointTokens
from vit_perception.tokens.tokenizer import Tokenizer


class Parts:
    """The parts of one pipeline. Raises BadSetting or ValueError with the parameter or file and
    what is accepted.
    """

    def __init__(
        self, settings: EncoderSettings, loaded: LoadedModel, zero_shot: Mapping[str, ZeroShotHead]
    ):
        config = loaded.model.config
        self.card = loaded.card
        self.width = config.width
        self.patch_size_px = config.patch_size_px
        self.grid = config.grid_of(*self.card.rule.network_size_px)
        self.connector = loaded.connector.spec if loaded.connector else None
        # Channels of each encoder whose tokens stand side by side; empty for one.
        self.joined = (config.width, loaded.second.model.config.width) if loaded.second else ()
        if self.connector is not None:
            # Tokens are those behind it: fewer, each of a square of patches.
            self.width = self.connector.width
            self.patch_size_px *= self.connector.shuffle
            self.grid = self.connector.grid_of(self.grid)
        if settings.model.block not in range(-config.depth, config.depth):
            raise BadSetting(
                "model.block",
                settings.model.block,
                f"a block from {-config.depth} to {config.depth - 1}",
            )
        self.block = range(config.depth)[settings.model.block]
        self.encoder_sha256 = encoder_digest(loaded, self.block)
        self.dense = (
            DenseMap(loaded.dense, self.grid, settings.engine.device)
            if settings.dense.enabled and loaded.dense is not None
            else None
        )
        self.heads: dict[str, Head | ZeroShotHead] = {}
        for camera in settings.cameras:
            if camera.head:
                self.heads[camera.name] = self._checked_head(camera)
        self.heads.update(zero_shot)
        self.check_labels(settings)
        self.tokenizers: dict[str, Tokenizer] = {}
        checkpoint = CheckpointTokens(self.card.name, self.width, loaded.state)
        for kind, sources in sources_by_kind(settings):
            self.tokenizers |= kind.tokenizers(sources, settings, checkpoint)
        self.fusion = make_fusion(settings.fusion, self.width)

    def _checked_head(self, camera: CameraSettings) -> Head:
        """Features of another encoder would give scores that look right and mean nothing."""
        head = load_head(camera.head)
        if head.encoder_sha256 not in ("", self.encoder_sha256):
            raise BadSetting(
                f"cameras.{camera.name}.head",
                camera.head,
                f"a head fitted on {self.card.name}, block {self.block} "
                f"(encoder {self.encoder_sha256[:12]}); this one was fitted on "
                f"{head.encoder_sha256[:12]}",
            )
        head.scores(np.zeros(self.width, np.float32), np.zeros((1, self.width), np.float32))
        return head

    def _own_labels(self, camera: str) -> tuple[str, ...]:
        head = self.heads.get(camera)
        return head.labels if head else self.card.labels

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
        return self.heads[camera].kind if camera in self.heads else self.card.scores

    def labels_of(self, camera: CameraSettings) -> tuple[str, ...]:
        """The class labels of ``camera``, in the order of its scores; empty where it is not
        classified.
        """
        return camera.labels or self._own_labels(camera.name)
