"""Features of labelled images, from the same pipeline that the node runs."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np

from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.config.by_hand import NOTHING_GIVEN, ByHand
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.labelled import LabelledPicture
from vit_perception.engines.building.build import fitted_to
from vit_perception.engines.reference import encoder_digest
from vit_perception.files.errors import InvalidValue, OperationFailed
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import SILENT, Log
from vit_perception.heads.classification import features_of
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.training.feature_cache import FeatureCache
from vit_perception.training.pictures import Unreadable, content_sha256, decode
from vit_perception.wire.records import BadInput


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the images that can be read."""

    # (n, F) float32.
    values: np.ndarray
    # The label and the stretch of each of the n images.
    labels: list[str]
    stretches: list[int]
    # Those that could not be read.
    unreadable: tuple[Unreadable, ...]
    # How many of the n were in the cache.
    from_cache: int


class FeatureSource:
    """Encodes images: ``with FeatureSource("demo", "auto", log) as source:``.

    The engine opens when the first image is not in the cache; with every image there it never does.

    Raises:
        CheckpointError, EngineError, BadSetting: As ``load_checkpoint`` and ``Pipeline.open`` do.
    """

    def __init__(
        self,
        checkpoint: str,
        backend: str = "auto",
        log: Log = SILENT,
        cached: bool = True,
        family: str = "auto",
        network_size: str = "",
        by_hand: ByHand = NOTHING_GIVEN,
    ):
        model = ModelSettings(
            checkpoint,
            family=family,
            network_size=network_size,
            mean=by_hand.mean,
            std=by_hand.std,
            size=by_hand.size_px,
        )
        self._settings = EncoderSettings(
            (CameraSettings("camera", "files", "compressed"),),
            model=model,
            engine=EngineSettings(backend),
        )
        self._log = log
        # On the size that a node would have: it is a part of the digest that a head is bound to.
        loaded = fitted_to(self._settings, load_checkpoint(checkpoint, family, by_hand))
        self._loaded: LoadedModel | None = loaded
        self._pipeline: Pipeline | None = None
        self.card = loaded.card
        config = loaded.model.config
        self.encoder_sha256 = encoder_digest(loaded, self._settings.model.block)
        self._cache = (
            FeatureCache(_cache_name(self.encoder_sha256, self._settings), config.width, log)
            if cached
            else None
        )

    def __enter__(self) -> "FeatureSource":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cache:
            self._cache.close()
        if self._pipeline:
            self._pipeline.close()

    def features(
        self,
        pictures: Iterable[LabelledPicture],
        feature: str,
        advance: Callable[[], None] = lambda: None,
    ) -> Features:
        """Compute the features of each image that can be read; the others are named.

        Raises:
            InvalidValue: No image can be read.
        """
        rows = []
        labels = []
        stretches = []
        unreadable = []
        hits = 0
        for picture in pictures:
            try:
                tokens, hit = self._tokens(picture)
                rows.append(features_of(tokens[0], tokens[1:], feature))
                labels.append(picture.label)
                stretches.append(picture.stretch)
                hits += hit
            except (BadInput, OSError) as error:
                unreadable.append(Unreadable(picture.name, str(error)))
            advance()
        if not rows:
            why = f"; the first: {unreadable[0].name}: {unreadable[0].why}" if unreadable else ""
            raise InvalidValue(f"none of {len(unreadable)} pictures can be read{why}")
        return Features(
            values=np.array(rows, np.float32),
            labels=labels,
            stretches=stretches,
            unreadable=tuple(unreadable),
            from_cache=hits,
        )

    def _tokens(self, picture: LabelledPicture) -> tuple[np.ndarray, bool]:
        """Return (2, D), CLS token and mean patch token, and whether they were in the cache."""
        encoded = picture.load()
        content = content_sha256(encoded)
        known = self._cache.get(content) if self._cache else None
        if known is not None:
            return known, True
        pipeline = self._opened()
        prepared = pipeline.prepare({"camera": partial(decode, encoded)})
        for error in prepared.refused.values():
            raise error
        output = pipeline.encode(prepared)
        tokens = np.stack([output.cls_token[0], output.patch_tokens[0].mean(axis=0)]).astype(
            np.float32
        )
        if not np.isfinite(tokens).all():
            raise OperationFailed(
                f"{pipeline.engine.runtime} gave NaN or infinity for {picture.name}; accepted: "
                "finite features",
                hint=" torch computes them in float32",
                hint_argument="backend",
            )
        if self._cache:
            self._cache.put(content, tokens)
        return tokens, False

    def _opened(self) -> Pipeline:
        if self._pipeline is None:
            with Heartbeat(self._log) as log:
                self._pipeline = Pipeline.open(self._settings, log, self._loaded)
            self._loaded = None
        return self._pipeline


def _cache_name(encoder_sha256: str, settings: EncoderSettings) -> str:
    """Engines differ in the last digits, so each engine setting has features of its own."""
    engine = f"{settings.engine.backend}-{settings.engine.precision}"
    return f"{encoder_sha256[:32]}-{hashlib.sha256(engine.encode()).hexdigest()[:8]}"
