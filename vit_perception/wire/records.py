"""The data that travels through the pipeline, in numpy.

Stamps are integers in nanoseconds since the epoch of the header they came from (``stamp_ns``);
positions are in metres; quaternions are in the order x, y, z, w (REP 103).
"""

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from vit_perception.files.errors import InvalidValue, shown
from vit_perception.wire.monitored import CameraChange

NANOSECONDS_PER_SECOND = 1_000_000_000
LONGEST_FRAME_ID = 256


class BadInput(InvalidValue):
    """An input message cannot be used. ``reason`` is the short key under which it is counted."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def check_frame_id(frame_id: str) -> None:
    """Check the ``frame_id`` of a header: it is sent with every output, and is in the layout.

    Raises:
        BadInput: ``frame``: it is too long, or has control characters.
    """
    if len(frame_id) > LONGEST_FRAME_ID or not frame_id.isprintable():
        raise BadInput(
            "frame",
            f"header.frame_id is {shown(frame_id)}; accepted: at most {LONGEST_FRAME_ID} "
            "characters, none of them a control character",
        )


def expected_frame(header: Any, expected: str, accept_empty: bool = False) -> str:
    """Return the frame_id of a header, which must be ``expected``; if that is empty, any.

    With ``accept_empty`` a header without a frame counts as ``expected``, which may then be empty.

    Raises:
        BadInput: ``frame``: it is another frame, or not a name.
    """
    frame_id: str = header.frame_id
    check_frame_id(frame_id)
    if accept_empty and not frame_id:
        return expected
    if (expected or accept_empty) and frame_id != expected:
        or_none = " or none" if accept_empty and expected else ""
        raise BadInput(
            "frame",
            f"header.frame_id is {shown(frame_id)}; accepted: {expected!r}{or_none}",
        )
    return frame_id


class Roi(NamedTuple):
    """A region of interest: the part of an image that the network sees, in px of that image."""

    x: int  # columns left of it
    y: int  # rows above it
    width: int
    height: int

    def check_inside(self, size_px: tuple[int, int]) -> None:
        """Check that the region is inside an image of ``size_px`` (height, width).

        Raises:
            BadInput: ``roi``.
        """
        height, width = size_px
        if self.x + self.width > width or self.y + self.height > height:
            raise BadInput(
                "roi",
                f"the image is {height} x {width} px, and roi [x, y, width, height] is "
                f"{list(self)}; accepted: a region inside the image, x + width up to {width} and "
                f"y + height up to {height}",
            )


@dataclass(frozen=True, eq=False)
class RgbImage:
    """One decoded camera image."""

    # (H, W, 3) uint8, R, G, B. It may be a read-only view of the message, for bgr8 with a negative
    # channel stride: nothing is copied until the image is resized.
    pixels: np.ndarray
    stamp_ns: int  # of the header
    frame_id: str  # of the header

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Pose:
    """An end effector's pose in ``frame_id``."""

    position_m: np.ndarray  # (3,) float64
    quaternion_xyzw: np.ndarray  # (4,) float64 of unit length
    stamp_ns: int
    frame_id: str  # of the PoseStamped's header

    @property
    def numbers(self) -> np.ndarray:
        """Position, then quaternion, (7,) float64."""
        return np.concatenate([self.position_m, self.quaternion_xyzw])


@dataclass(frozen=True, eq=False)
class Sample:
    """What one source measured at one time."""

    # (n,) float64. Of joint states: field after field, each in the order of the settings' joints;
    # positions in rad (m for sliding joints and most grippers), velocities in rad/s or m/s.
    numbers: np.ndarray
    stamp_ns: int
    frame_id: str  # of the message's header


SampleStatus = Literal["interpolated", "held", "missing"]
Value = TypeVar("Value", bound=Pose | Sample)


@dataclass(frozen=True, eq=False)
class SampleAtImage(Generic[Value]):
    """What one source measured at an image's stamp, and how it was obtained."""

    # Its stamp is the image's, also if it is held. None if it is missing.
    value: Value | None
    # interpolated: between the two samples around the stamp (or a sample exactly at it).
    # held: the nearest sample, within max_skew_s. missing: there is none that near.
    status: SampleStatus
    # From the image's stamp to the nearest sample used; of several joints, the largest.
    skew_ns: int | None
    # If missing: how much later than the image the nearest sample is (earlier: below zero).
    # None if there is no sample at all.
    nearest_ns: int | None = None
    # Joints without a sample that near.
    lacking: tuple[str, ...] = ()


MISSING: SampleAtImage[Any] = SampleAtImage(None, "missing", None)


@dataclass(frozen=True, eq=False)
class EncoderOutput:
    """What one encoder run gives for a batch of B images, all float32.

    The arrays belong to the engine and hold until its next ``infer``: copy what must live longer.
    """

    cls_token: np.ndarray  # (B, D)
    patch_tokens: np.ndarray  # (B, P, D), row-major over the grid
    # (B, heads, P): the CLS query's softmax over all tokens, only the columns of the patches.
    cls_attention: np.ndarray
    logits: np.ndarray | None = None  # (B, K); None if the model has no classification head
    # (B, blocks, N, D): all tokens of the blocks that a dense head takes; None if none is on.
    block_tokens: np.ndarray | None = None
    # Of the further encoders of ``model.more_checkpoints``, in their order.
    more: "tuple[EncoderOutput, ...]" = ()

    @property
    def each(self) -> "tuple[EncoderOutput, ...]":
        """The output of every encoder, this one first."""
        return (self, *self.more)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of this encoder by name, not copied, without those that it does not have."""
        named = {name: getattr(self, name) for name in ENCODER_ARRAYS}
        return {name: array for name, array in named.items() if array is not None}


# What an engine may give: the fields of EncoderOutput that are arrays.
ENCODER_ARRAYS = ("cls_token", "patch_tokens", "cls_attention", "logits", "block_tokens")


@dataclass(frozen=True, eq=False)
class TokenGroup:
    """Tokens of one kind from one source, with their mask: tokens never travel without it."""

    kind: str  # cls, patch, pose, state, or what another source calls its own
    source: str  # the source's name
    tokens: np.ndarray  # (T, D) float32
    # False: the source was missing, and the rows count as zero. Or (T,) bool, one for each row.
    valid: bool | np.ndarray = True
    grid: tuple[int, int] | None = None  # (rows, columns) of patch tokens
    embedded: bool = True  # False: the concatenated embedding leaves them out
    apart: bool = False  # True: of another width than the encoder's, and not in the sequence
    encoder: str = ""  # the name of its encoder, of several; else empty
    step: int = 0  # of the history: how many strides older than the frame it is
    # Of a source that is made of others, why no row is there: a short key to count, and a text.
    why: "BadInput | None" = None

    @property
    def masked(self) -> np.ndarray:
        """The tokens (T, D); rows that are missing are zeros."""
        if isinstance(self.valid, np.ndarray):
            return np.where(self.valid[:, None], self.tokens, np.zeros((), self.tokens.dtype))
        return self.tokens if self.valid else np.zeros_like(self.tokens)

    @property
    def name(self) -> str:
        """The group's name in the layout, without ``@<step>`` of the history."""
        return group_name(self.source, self.kind, self.encoder)


def group_name(source: str, kind: str, encoder: str = "") -> str:
    """Return the name of a group in the layout; ``encoder`` is empty if there is only one."""
    return "/".join(filter(None, (source, encoder, kind)))


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """The multimodal input of a policy."""

    groups: tuple[TokenGroup, ...]  # in the order of the layout
    tokens: np.ndarray  # (N, D) float32: the groups' tokens one after another
    mask: np.ndarray  # (N,) bool: False for rows of a missing source

    @classmethod
    def of(cls, groups: "list[TokenGroup] | tuple[TokenGroup, ...]") -> "TokenSequence":
        """Join ``groups``. Rows that are not valid become zero: that is the mask on the wire."""
        tokens = np.concatenate([group.masked for group in groups])
        mask = np.concatenate([np.full(len(g.tokens), g.valid) for g in groups])
        return cls(tuple(groups), np.ascontiguousarray(tokens, dtype=np.float32), mask)


@dataclass(frozen=True)
class ClassScore:
    """One class of a classification."""

    class_id: str  # the label's name
    score: float  # 0 to 1


@dataclass(frozen=True, eq=False)
class CameraResult:
    """What one camera's image gave, all arrays float32."""

    image: RgbImage
    cls_token: np.ndarray  # (D,)
    patch_tokens: np.ndarray  # (P, D), row-major over the grid
    cls_attention: np.ndarray  # (heads, P)
    grid: tuple[int, int]  # (rows, columns) of the patches
    classes: tuple[ClassScore, ...] = ()  # best first; empty without a head
    block_tokens: np.ndarray | None = None  # (blocks, N, D), for the dense head; None if it is off
    roi: Roi | None = None  # the part of ``image`` that the network saw; None: all of it


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Everything that one group of images gave, with the samples of the other sources."""

    stamp_ns: int  # of the first camera present
    frame_id: str  # of the first camera present
    cameras: dict[str, CameraResult]  # those present, by name
    samples: dict[str, SampleAtImage[Any]]  # of every other source, by name
    sequence: TokenSequence
    embedding: np.ndarray  # (L,) float32
    stage_ms: dict[str, float] = field(default_factory=dict)  # time of each stage
    apart: tuple[TokenGroup, ...] = ()  # those that are not in the sequence; zeros if missing
    # Of the frame of each step of the history, oldest first; 0 where there is none. Empty without.
    history_stamps_ns: tuple[int, ...] = ()
    # With ``monitor.reference``: of each camera present whose image has the reference's size.
    changes: dict[str, CameraChange] = field(default_factory=dict)

    @property
    def poses(self) -> dict[str, SampleAtImage[Pose]]:
        """The samples of the arms."""
        return self._of_kind("pose")

    @property
    def states(self) -> dict[str, SampleAtImage[Sample]]:
        """The samples of the joint states."""
        return self._of_kind("state")

    def _of_kind(self, kind: str) -> dict[str, SampleAtImage[Any]]:
        return {g.source: self.samples[g.source] for g in self.sequence.groups if g.kind == kind}


class Encoder(Protocol):
    """What the pipeline needs of an engine."""

    def infer(self, images: np.ndarray) -> EncoderOutput:
        """Run the encoder on uint8 images (B, 3, H, W), RGB."""
        ...
