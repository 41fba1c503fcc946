"""Token sources: everything that contributes rows to the sequence, by one interface.

A new kind is one file in this folder (:mod:`vit_perception.tokens.wrench` is an example to copy).
Pipeline, layout, topics, `embed`, live decoder, subscriptions and diagnostics loop over the sources
of :mod:`vit_perception.tokens.kinds`, and know none of them by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.files.errors import InvalidValue
from vit_perception.streams.sample_history import LinearHistory
from vit_perception.streams.source_streams import History
from vit_perception.tokens.components import Component
from vit_perception.tokens.frame import EncoderGrid, FrameInputs
from vit_perception.tokens.tokenizer import Tokenizer, fourier_tokenizer
from vit_perception.wire.layout import LayoutSource
from vit_perception.wire.records import TokenGroup

if TYPE_CHECKING:  # sources need no torch, as long as nobody has a policy
    from vit_perception.heads.policy_state import StateProjection


@dataclass(frozen=True)
class TokenRows:
    """One group of rows that a source contributes.

    Its name is ``<source>/<kind>``, or ``<source>/<encoder>/<kind>``.
    """

    kind: str
    count: int  # number of rows
    grid: tuple[int, int] | None = None  # (rows, columns) of patch tokens
    embedded: bool = True  # part of the concatenated ~/embedding
    encoder: str = ""  # the name of its encoder, of several; else empty
    # The tokens' width where it is not the encoder's: they are sent apart, as ~/<kind>.
    width_apart: int | None = None


@dataclass(frozen=True, eq=False)
class CheckpointTokens:
    """What the checkpoint says of tokens."""

    name: str  # of the checkpoint
    width: int  # of a token in the sequence
    state: "StateProjection | None" = None  # of a policy, where it has one


class TokenSource(ABC):
    """One camera, arm, joint state, or another contributor, as the settings name it."""

    # Its kind's name among parameters, in the plural: cameras.
    group: ClassVar[str]
    # What users call one of it: camera.
    label: ClassVar[str]
    # Kinds stand in the sequence by rank, then by label.
    rank: ClassVar[int] = 100
    # The cameras whose calibration its tokens are made of.
    calibrated: tuple[str, ...] = ()

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.name: str = settings.name

    @property
    def topic(self) -> str | None:
        """The topic that it listens to; None where TF gives its samples."""
        return str(self.settings.topic)

    @property
    @abstractmethod
    def message_type(self) -> str:
        """The type of that topic, such as ``sensor_msgs/msg/Image``."""

    @property
    def wants(self) -> str:
        """Who wants this type, in a message about a topic of another type."""
        return f"{'an' if self.label[0] in 'aeiou' else 'a'} {self.label}"

    @classmethod
    def of(cls, settings: EncoderSettings) -> "list[TokenSource]":
        """Return the sources of this kind that ``settings`` name."""
        return [cls(each) for each in settings.group(cls.group)]

    @classmethod
    def tokenizers(
        cls,
        sources: "Sequence[Any]",
        settings: EncoderSettings,
        checkpoint: CheckpointTokens,
    ) -> dict[str, Tokenizer]:
        """Return the tokenizer of each of ``sources``, all of this kind, by name.

        By default there is none.
        """
        return {}

    @classmethod
    def layout_fields(
        cls,
        sources: "Sequence[Any]",
        settings: EncoderSettings,
        tokenizers: Mapping[str, Tokenizer],
    ) -> dict[str, Any]:
        """Return the fields of ``Layout`` that describe ``sources``, all of this kind."""
        return {}

    @abstractmethod
    def token_rows(
        self, encoders: Sequence[EncoderGrid], tokenizers: Mapping[str, Tokenizer]
    ) -> tuple[TokenRows, ...]:
        """Return the groups that it contributes, where ``encoders`` see the images."""

    @abstractmethod
    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return its tokens for one frame, in the order of :meth:`token_rows`; 0 if missing."""


class SampledSource(TokenSource):
    """A source whose messages are kept and looked up at the image's stamp. It gives one token."""

    # Of its token group, its topic <name>/<kind>_at_image and its column <name>.<kind>: pose.
    kind: ClassVar[str]
    # What users call one sample: joint state.
    sample_label: ClassVar[str]
    # Type and fields of the topics that it reads and that it sends.
    type: ClassVar[str]
    fields: ClassVar[tuple[str, ...]] = ()
    # The field of the settings that says mask or require; empty: a missing sample is masked.
    policy: ClassVar[str] = ""
    # Whether a frame without its sample is dropped.
    required: bool = False

    @classmethod
    def of(cls, settings: EncoderSettings) -> list[TokenSource]:
        """Return the sources of this kind that ``settings`` name."""
        sources = super().of(settings)
        for source in sampled(sources):
            source.required = getattr(settings, cls.policy, "mask") == "require"
        return sources

    @property
    def message_type(self) -> str:
        """The type of its topic."""
        return self.type

    @property
    def wait_s(self) -> float:
        """The longest wait for a sample at or after an image's stamp."""
        return float(self.settings.wait_s)

    @property
    def max_skew_s(self) -> float:
        """The largest time difference at which a sample is held."""
        return float(self.settings.max_skew_s)

    @abstractmethod
    def sample_of(self, message: Any) -> Any:
        """Return what the history takes of a message. Raises BadInput."""

    def history(self, keep_s: float) -> History:
        """Return a new, empty history. By default numbers are interpolated linearly."""
        return LinearHistory(keep_s)

    def token_numbers(self, value: Any) -> np.ndarray:
        """Return the numbers that its token is made of, (n,) float64."""
        numbers: np.ndarray = value.numbers
        return numbers

    def components(self) -> Mapping[str, Component]:
        """Return the parts of its value that ``policy.state`` may name, by name.

        The one called ``""`` is meant where the source alone is named.
        """
        return {}

    @classmethod
    def tokenizers(
        cls,
        sources: "Sequence[SampledSource]",
        settings: EncoderSettings,
        checkpoint: CheckpointTokens,
    ) -> dict[str, Tokenizer]:
        """Return the tokenizer of each of ``sources``: by default one without weights."""
        count = len(cls.fields)
        return {
            source.name: fourier_tokenizer(checkpoint.width, count, f"{cls.group}.{source.name}")
            for source in sources
        }

    @classmethod
    def layout_fields(
        cls,
        sources: "Sequence[SampledSource]",
        settings: EncoderSettings,
        tokenizers: Mapping[str, Tokenizer],
    ) -> dict[str, Any]:
        """Return the fields of ``Layout`` that describe ``sources``, all of this kind."""
        return {
            "sources": tuple(
                LayoutSource(
                    name=source.name,
                    kind=cls.kind,
                    group=cls.group,
                    type=cls.type,
                    fields=cls.fields,
                    tokenizer=tokenizers[source.name].kind,
                    tokenizer_sha256=tokenizers[source.name].weights_sha256,
                )
                for source in sources
            )
        }

    def token_rows(
        self, encoders: Sequence[EncoderGrid], tokenizers: Mapping[str, Tokenizer]
    ) -> tuple[TokenRows, ...]:
        """Return one row."""
        return (TokenRows(self.kind, 1),)

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return one token; zeros if the sample is missing."""
        tokenizer = frame.tokenizers[self.name]
        value = frame.samples[self.name].value
        rows = np.zeros((1, tokenizer.width), np.float32)
        if value is not None:
            rows = tokenizer.encode(self.token_numbers(value))
        return [TokenGroup(self.kind, self.name, rows, value is not None)]


class DerivedSource(TokenSource):
    """A source that listens to nothing: its tokens are made of the samples of other sources."""

    # The names of these.
    made_of: tuple[str, ...] = ()

    @property
    def topic(self) -> None:
        """None: no message is its own."""
        return None

    @property
    def message_type(self) -> str:
        """Empty: no message is its own."""
        return ""


_KINDS: list[type[TokenSource]] = []
Kind = TypeVar("Kind", bound=type[TokenSource])


def register(kind: Kind) -> Kind:
    """Class decorator: make ``kind`` one of the sources.

    Raises:
        InvalidValue: another kind has its group.
    """
    if any(known.group == kind.group for known in _KINDS):
        raise InvalidValue(f"the token sources {kind.group!r} are registered already")
    _KINDS.append(kind)
    return kind


def unregister(kind: type[TokenSource]) -> None:
    """Undo :func:`register`."""
    _KINDS.remove(kind)


def registered() -> tuple[type[TokenSource], ...]:
    """Return every registered kind, in the order of the sequence."""
    return tuple(sorted(_KINDS, key=lambda kind: (kind.rank, kind.label)))


def sampled(sources: Sequence[TokenSource]) -> tuple[SampledSource, ...]:
    """Return those of ``sources`` that are not cameras."""
    return tuple(source for source in sources if isinstance(source, SampledSource))


def derived(sources: Sequence[TokenSource]) -> tuple[DerivedSource, ...]:
    """Return those of ``sources`` that are made of others."""
    return tuple(source for source in sources if isinstance(source, DerivedSource))


def calibrated(sources: Sequence[TokenSource]) -> frozenset[str]:
    """Return the cameras whose calibration the tokens of ``sources`` are made of."""
    return frozenset(camera for source in sources for camera in source.calibrated)


def listening(sources: Sequence[TokenSource]) -> tuple[TokenSource, ...]:
    """Return those of ``sources`` that have messages of their own."""
    return tuple(source for source in sources if not isinstance(source, DerivedSource))
