"""The data that travels through the pipeline. numpy only; every array names its shape, unit and
frame.

Stamps are integers in nanoseconds since the epoch of the header they came from (``stamp_ns``);
positions are in metres; quaternions are in the order x, y, z, w (REP 103).
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from vit_perception.files.errors import InvalidValue, shown

NANOSECONDS_PER_SECOND = 1_000_000_000
LONGEST_FRAME_ID = 256


class BadInput(InvalidValue):
    """An input message that cannot be used. ``reason`` is the short key under which it is
    counted.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def check_frame_id(frame_id: str) -> None:
    """Raise BadInput('frame') for a ``frame_id`` that is no name: too long, or with NUL or control
    characters.

    It goes out again with every output, and another one makes another layout.
    """
    if len(frame_id) > LONGEST_FRAME_ID or not frame_id.isprintable():
        raise BadInput(
            "frame",
            f"header.frame_id is {shown(frame_id)}; accepted: at most {LONGEST_FRAME_ID} "
            "characters, none of them a control character",
        )


@dataclass(frozen=True, eq=False)
class RgbImage:
    """One decoded camera image.

    ``pixels`` is (H, W, 3) uint8 in the order R, G, B. It may be a read-only view of the message
    and, for bgr8, a view with a negative channel stride: nothing is copied until the image is
    resized.
    """

    pixels: np.ndarray
    stamp_ns: int
    frame_id: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Pose:
    """An end effector's pose: ``position_m`` (3,) float64, ``quaternion_xyzw`` (4,) float64 of unit
    length.

    It is the pose of the end effector in ``frame_id`` (that of the PoseStamped header).
    """

    position_m: np.ndarray
    quaternion_xyzw: np.ndarray
    stamp_ns: int
    frame_id: str


PoseStatus = Literal["interpolated", "held", "missing"]


@dataclass(frozen=True, eq=False)
class PoseAtImage:
    """The pose of one arm at an image's stamp, and how it was had.

    ``interpolated``: between the two samples around the stamp (or a sample exactly at it).
    ``held``: the nearest sample, within ``max_skew_s``; ``pose.stamp_ns`` is still the image's
    stamp. ``missing``: no sample near enough; ``pose`` is None. ``skew_ns`` is the distance from
    the image stamp to the nearest sample used (None when missing). ``nearest_ns``: when missing,
    how far behind the image's stamp the nearest sample is (before it: below zero); None where there
    is no sample at all.
    """

    pose: Pose | None
    status: PoseStatus
    skew_ns: int | None
    nearest_ns: int | None = None


@dataclass(frozen=True, eq=False)
class JointState:
    """Joints at one time: ``numbers`` (F * J,) float64, field after field, each in the order of the
    settings.

    With J joints and the fields position and velocity: J positions (rad, m for sliding joints and
    most grippers), then J velocities (rad/s, m/s), as REP 103 and sensor_msgs/JointState have them.
    """

    numbers: np.ndarray
    stamp_ns: int
    frame_id: str


@dataclass(frozen=True, eq=False)
class StateAtImage:
    """Joints at an image's stamp: ``status`` and ``skew_ns`` as of :class:`PoseAtImage`, the worst
    of all joints.

    ``lacking`` names the joints without a sample near enough, because of which ``state`` is None;
    ``nearest_ns`` is that of the first of them.
    """

    state: JointState | None
    status: PoseStatus
    skew_ns: int | None
    lacking: tuple[str, ...] = ()
    nearest_ns: int | None = None


@dataclass(frozen=True, eq=False)
class EncoderOutput:
    """What one encoder run gives for a batch of B images, all float32 numpy arrays.

    ``cls_token`` (B, D); ``patch_tokens`` (B, P, D) row-major over the grid; ``cls_attention`` (B,
    heads, P), the CLS query's softmax over all tokens, patch columns only; ``logits`` (B, K), or
    None where the model has no classification head; ``block_tokens`` (B, blocks, N, D), all tokens
    of the blocks that a dense head takes, or None where none is switched on. The arrays belong to
    the engine and hold until its next ``infer``: copy what must live longer.
    """

    cls_token: np.ndarray
    patch_tokens: np.ndarray
    cls_attention: np.ndarray
    logits: np.ndarray | None = None
    block_tokens: np.ndarray | None = None


TokenKind = Literal["cls", "patch", "pose", "state"]


@dataclass(frozen=True, eq=False)
class TokenGroup:
    """Tokens of one kind from one source, with their mask: tokens never travel without it.

    ``tokens`` (T, D) float32; ``source`` is the camera's, arm's or state's name; ``valid`` False
    means that the source was missing and the rows are zero; ``grid`` is (rows, columns) for patch
    tokens.
    """

    kind: TokenKind
    source: str
    tokens: np.ndarray
    valid: bool = True
    grid: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The group's name in the layout, ``<source>/<kind>``."""
        return f"{self.source}/{self.kind}"


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """The multimodal input: every group in layout order, its concatenation (N, D) and its mask (N,)
    bool.
    """

    groups: tuple[TokenGroup, ...]
    tokens: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, groups: "list[TokenGroup] | tuple[TokenGroup, ...]") -> "TokenSequence":
        """Join ``groups``; rows of an invalid group are zeroed, so that the mask travels with the
        tokens.
        """
        tokens = np.concatenate([g.tokens if g.valid else np.zeros_like(g.tokens) for g in groups])
        mask = np.concatenate([np.full(len(g.tokens), g.valid) for g in groups])
        return cls(tuple(groups), np.ascontiguousarray(tokens, dtype=np.float32), mask)


@dataclass(frozen=True)
class ClassScore:
    """One class of a classification: the label's name and its score in [0, 1]."""

    class_id: str
    score: float


@dataclass(frozen=True, eq=False)
class CameraResult:
    """What one camera's image gave: ``cls_token`` (D,), ``patch_tokens`` (P, D), ``cls_attention``
    (heads, P).

    ``block_tokens`` (blocks, N, D) is what the dense head takes, None where it is off.
    """

    image: RgbImage
    cls_token: np.ndarray
    patch_tokens: np.ndarray
    cls_attention: np.ndarray
    grid: tuple[int, int]
    classes: tuple[ClassScore, ...] = ()
    block_tokens: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FrameResult:
    """Everything that one group of images gave, with its poses and joint states.

    ``stamp_ns`` is that of the first camera present.
    """

    stamp_ns: int
    frame_id: str
    cameras: dict[str, CameraResult]
    poses: dict[str, PoseAtImage]
    sequence: TokenSequence
    embedding: np.ndarray
    stage_ms: dict[str, float] = field(default_factory=dict)
    states: dict[str, StateAtImage] = field(default_factory=dict)


class Encoder(Protocol):
    """What the pipeline needs of an engine."""

    def infer(self, images: np.ndarray) -> EncoderOutput:
        """Run uint8 images (B, 3, H, W), RGB."""
        ...
