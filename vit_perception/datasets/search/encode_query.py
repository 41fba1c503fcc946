"""Queries that are not in the features: pictures and texts, encoded as `embed` encoded the frames.

The checkpoint and its preprocessing have to be those of the features, by their digest. The engine
may be another one: the accuracy check holds every engine close to the same reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from vit_perception.checkpoints.clip.text_tower import TOKENIZER_FILES, encode_texts
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.patch_places import PatchPlaces, places_of_picture
from vit_perception.datasets.search.stored_vectors import encoders_of, unit_rows
from vit_perception.files.errors import InvalidValue
from vit_perception.files.log import SILENT, Log
from vit_perception.pipeline.encoders import EncoderParts, load_encoders
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import RgbImage


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A picture as vectors."""

    # (D,) of length 1.
    cls: np.ndarray
    # (P, D) of length 1.
    patches: np.ndarray
    # Where these lie in the picture.
    places: PatchPlaces


@dataclass(frozen=True, eq=False)
class TextQueries:
    """Texts as vectors of the space that they share with pictures."""

    # (Q, E) of length 1.
    vectors: np.ndarray
    # (E, D), takes CLS vectors to that space; None if they are there already.
    projection: np.ndarray | None


class QueryEncoder:
    """The encoder of ``features``, loaded and opened when it is first needed. Close it.

    ``checkpoint``, ``backend`` and ``precision`` take the place of what the manifest says.
    """

    def __init__(
        self,
        features: FeatureSet,
        log: Log = SILENT,
        *,
        checkpoint: str = "",
        backend: str = "",
        precision: str = "",
    ):
        self._features = features
        self._log = log
        self._settings = _settings_of(features, checkpoint, backend, precision)
        self._loaded: LoadedModel | None = None
        self._pipeline: Pipeline | None = None

    def close(self) -> None:
        """Free the engine."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def picture(self, image: RgbImage) -> EncodedQuery:
        """Encode a picture as an image of the first camera that is searched.

        Raises:
            InvalidValue, CheckpointError, EngineError: The checkpoint is not that of the features,
                or no engine opens.
            BadInput: The picture cannot be used, or does not hold the camera's region of interest.
        """
        if self._pipeline is None:
            self._pipeline = Pipeline.open(self._settings, self._log, self._checked())
        pipeline = self._pipeline
        camera = self._settings.cameras[0]
        prepared = pipeline.prepare({camera.name: image})
        for error in prepared.refused.values():
            raise error
        output = pipeline.encode(prepared)
        region = camera.region
        return EncodedQuery(
            cls=unit_rows(output.cls_token[0]),
            patches=unit_rows(output.patch_tokens[0]),
            places=places_of_picture(pipeline.geometry(image.size, region)),
        )

    def texts(self, texts: Sequence[str]) -> TextQueries:
        """Encode ``texts`` by the checkpoint's text tower.

        Raises:
            InvalidValue: A text is empty, or the encoder knows no texts.
            CheckpointError: The tower, the tokenizer or the package transformers is missing.
        """
        for text in texts:
            if not text.strip():
                raise InvalidValue(f" is {text!r}; accepted: words", argument="text")
        loaded = self._checked()
        card = loaded.card
        if card.family not in TOKENIZER_FILES or loaded.model.config.head != "none":
            raise InvalidValue(
                f" is given, and {card.name} ({card.family}) has no text tower that is read; "
                f"accepted: features of a checkpoint of {', '.join(TOKENIZER_FILES)} without "
                "classifier, with image and text",
                argument="text",
            )
        depth = loaded.model.config.depth
        if range(depth)[self._settings.model.block] != depth - 1:
            raise InvalidValue(
                f" is given, and the features are of block {self._settings.model.block}; accepted: "
                "features of the last block, with which texts are aligned",
                argument="text",
            )
        assert loaded.files is not None
        made = encode_texts(loaded.files, card.family, list(texts), needed_by="texts as queries")
        return TextQueries(unit_rows(made.vectors), loaded.projection)

    def _checked(self) -> LoadedModel:
        """Load the checkpoint, and check that it is that of the features."""
        if self._loaded is None:
            model = self._settings.model
            self._log.info(f"loading checkpoint {model.checkpoint}")
            try:
                loaded = load_checkpoint(model.checkpoint, model.family, model.by_hand)
            except CheckpointError as error:
                raise InvalidValue(
                    str(error),
                    hint_argument="checkpoint",
                    hint=f" says where {self._features.model} lies on this machine",
                ) from error
            (fitted,) = load_encoders(self._settings, SILENT, loaded)
            found = EncoderParts(self._settings, fitted).encoder_sha256
            if found != self._features.encoder_sha256:
                raise InvalidValue(
                    f"{model.checkpoint} is encoder {found[:16]}, and the features are of "
                    f"{self._features.encoder_sha256[:16]} ({self._features.model}); accepted: the "
                    "checkpoint that the features were made with",
                    hint_argument="checkpoint",
                    hint=" says where that checkpoint lies",
                )
            self._loaded = loaded
        return self._loaded


def _settings_of(
    features: FeatureSet, checkpoint: str, backend: str, precision: str
) -> EncoderSettings:
    """Return settings of one camera and one encoder, as those of the features' run."""
    files = features.folders[0]
    try:
        run = files.manifest["run"]["settings"]
        model = _section(ModelSettings, run["model"])
        engine = replace(_section(EngineSettings, run["engine"]), file="")
        recorded = next(c for c in run["cameras"] if c["name"] == features.cameras[0])
        region: Any = tuple(recorded.get("roi", ()))
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise InvalidValue(
            f"{files.folder / 'manifest.json'} does not say the settings of its model "
            f"({error!r:.80}); accepted: the manifest as `vit-perception embed` wrote it"
        ) from error
    number = encoders_of(features.layout).index(features.encoder)
    if number:
        named = model.more_checkpoints[number - 1]
        model = replace(model, checkpoint=named, family="auto", mean=(), std=(), size=())
    model = replace(model, more_checkpoints=())
    if checkpoint:
        model = replace(model, checkpoint=checkpoint)
    given = {"backend": backend, "precision": precision}
    return EncoderSettings(
        cameras=(CameraSettings(features.cameras[0], "query", "raw", roi=region),),
        model=model,
        engine=replace(engine, **{name: value for name, value in given.items() if value}),
    )


def _section(kind: Any, recorded: dict[str, Any]) -> Any:
    """Return settings of a manifest, whose lists are tuples."""
    names = {each.name for each in fields(kind)}
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in recorded.items()
            if name in names
        }
    )
