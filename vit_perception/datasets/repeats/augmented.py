"""A source whose pictures are changed at random: a repeat of a recording.

``augment`` of a row is the number of its repeat, 0 for the recording as it is. ``<camera>.augment``
has the numbers of :mod:`vit_perception.image.augment` that its picture was changed with.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.datasets.embed_sources import PictureChange, Source, SourceResult
from vit_perception.files.errors import InvalidValue
from vit_perception.image.augment import VERSION, Strengths, applied, drawn, unchanged
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import REPEAT
from vit_perception.wire.records import RgbImage

MOST_REPEATS = 1000
MOST_SEED = (1 << 63) - 1


def numbers_column(camera: str) -> str:
    """Return the column of the numbers that pictures of ``camera`` were changed with."""
    return f"{camera}.{REPEAT}"


@dataclass(frozen=True)
class Augmented:
    """One repeat of ``source``: the same frames in the same order, of changed pictures.

    What a picture is changed with depends on the seed, the source, the number of the repeat, the
    number of the frame in its source, and the camera; not on other sources or on what ran before.
    """

    source: Source
    # 0 for the recording as it is.
    repeat: int
    seed: int
    strengths: Strengths

    def identity(self) -> dict[str, Any]:
        return {
            **self.source.identity(),
            REPEAT: {
                "version": VERSION,
                "repeat": self.repeat,
                "seed": self.seed,
                **asdict(self.strengths),
            },
        }

    def total(self) -> int:
        return self.source.total()

    def results(
        self, pipeline: Pipeline, first: int, change: PictureChange | None = None
    ) -> Iterator[SourceResult]:
        if change is not None:
            raise TypeError("a repeat changes pictures itself")
        key = self._key()

        def numbers(index: int, camera: str) -> np.ndarray:
            if not self.repeat:
                return unchanged()
            name = int.from_bytes(hashlib.sha256(camera.encode()).digest()[:8], "little")
            seeds = [self.seed, key, self.repeat, index, name]
            return drawn(self.strengths, np.random.default_rng(seeds))

        def changed(index: int, camera: str, image: RgbImage) -> RgbImage:
            return replace(image, pixels=applied(image.pixels, numbers(index, camera)))

        cameras = [camera.name for camera in pipeline.settings.cameras]
        for produced in self.source.results(pipeline, first, changed if self.repeat else None):
            columns = {numbers_column(name): numbers(produced.index, name) for name in cameras}
            columns = {REPEAT: np.int64(self.repeat), **columns}
            if both := sorted(set(columns) & set(produced.extras)):
                raise InvalidValue(
                    f": the source has a column {both[0]} of its own; accepted: a source without",
                    argument=REPEAT,
                )
            yield replace(produced, extras={**produced.extras, **columns}, repeat=self.repeat)

    def _key(self) -> int:
        """Return a number that tells the source from others by its content."""
        identity = json.dumps(self.source.identity(), sort_keys=True)
        return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "little")


@dataclass(frozen=True)
class Repeats:
    """How often recordings are repeated with changed pictures.

    Raises:
        InvalidValue: A number is not accepted.
    """

    # Besides the recording as it is; with 0 there is no augmentation.
    count: int
    seed: int
    strengths: Strengths

    def __post_init__(self) -> None:
        for argument, value, most in (
            (REPEAT, self.count, MOST_REPEATS),
            (f"{REPEAT}_seed", self.seed, MOST_SEED),
        ):
            if not 0 <= value <= most:
                raise InvalidValue(f" is {value}; accepted: 0 to {most}", argument=argument)
        if not self.count and (self.seed or self.strengths != Strengths()):
            raise InvalidValue(
                " is 0, and a seed or a strength is given; accepted: 1 or more with them",
                argument=REPEAT,
            )

    def of(self, sources: Sequence[Source], settings: EncoderSettings) -> list[Source]:
        """Return ``sources`` as they are, then each augmented repeat of all of them.

        All of them have the columns of the augmentation; without any, ``sources`` are returned.

        Raises:
            InvalidValue: Pictures are cropped where rays or points say where each patch looks.
        """
        if not self.count:
            return list(sources)
        looking = [f"ray_names ({each.name})" for each in settings.group("rays")]
        looking += [f"cameras.{c.name}.depth_topic" for c in settings.cameras if c.depth_topic]
        if self.strengths.crop and looking:
            raise InvalidValue(
                f" has crop={self.strengths.crop}, and the settings have {', '.join(looking)}, "
                "whose tokens say where each patch of the whole picture looks; accepted: crop=0",
                argument=f"{REPEAT}_strength",
            )
        return [
            Augmented(source, repeat, self.seed, self.strengths)
            for repeat in range(self.count + 1)
            for source in sources
        ]

    def names(self, names: Sequence[str]) -> list[str]:
        """Return names for what :meth:`of` makes of sources of these ``names``."""
        return [
            f"{name} (repeat {repeat})" if repeat else name
            for repeat in range(self.count + 1)
            for name in names
        ]
