"""What `embed` writes, and how large its files are."""

import importlib.util
from dataclasses import dataclass

from vit_perception.config.parameter_files import DEFAULT_NODE
from vit_perception.datasets.recorded_columns import RecordedColumn
from vit_perception.datasets.shards import FORMATS
from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.pipeline.frames_together import MOST_FRAMES


@dataclass(frozen=True)
class EmbedOptions:
    """What to write, and how large a shard is.

    A killed run loses at most one shard's work; memory is about three shards.

    Raises:
        InvalidValue: A field is not accepted; ``argument`` names it.
    """

    # One of ``FORMATS``.
    file_format: str
    # Empty for the format's default.
    features: tuple[str, ...] = ()
    # A shard is finished when it reaches either.
    shard_bytes: int = 64 << 20
    shard_frames: int = 1000
    # The node's full name, below which the topics of a bag are.
    node: str = DEFAULT_NODE
    # What bags have beside images and tokens; their sources read the same ones.
    columns: tuple[RecordedColumn, ...] = ()
    # Frames of one recording that are encoded together: see pipeline/frames_together.py.
    batch: int = 1

    def __post_init__(self):
        if self.file_format not in FORMATS:
            raise InvalidValue(
                f" is {self.file_format!r}; accepted: {', '.join(FORMATS)}", argument="format"
            )
        needs = FORMATS[self.file_format].needs
        if needs and importlib.util.find_spec(needs) is None:
            others = [name for name, made in FORMATS.items() if made.needs != needs]
            raise InvalidValue(
                f" is {self.file_format!r}, which needs the Python package {needs}, and that is "
                f"not installed; accepted without it: {', '.join(others)}",
                argument="format",
                hint=f"pip install {needs}",
            )
        accepted = FORMATS[self.file_format].features
        unknown = sorted(set(self.features) - set(accepted))
        if unknown:
            raise InvalidValue(
                f" has {', '.join(unknown)}; accepted: {', '.join(accepted)}",
                argument="features",
                hint=nearest(unknown[0], accepted),
            )
        if self.shard_bytes <= 0 or self.shard_frames <= 0:
            frames = self.shard_frames <= 0
            raise InvalidValue(
                f" is {self.shard_frames if frames else self.shard_bytes}; accepted: 1 or more",
                argument="shard_frames" if frames else "shard_mb",
            )

        if not 1 <= self.batch <= MOST_FRAMES:
            raise InvalidValue(f" is {self.batch}; accepted: 1 to {MOST_FRAMES}", argument="batch")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The features that are written: those given, or the default of the format."""
        return self.features or FORMATS[self.file_format].default_features
