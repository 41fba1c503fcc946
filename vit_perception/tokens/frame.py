"""What token sources are given of one frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vit_perception.image.camera_info import Calibration
from vit_perception.image.patches.rays import PatchView
from vit_perception.tokens.tokenizer import Tokenizer
from vit_perception.wire.records import BadInput, EncoderOutput, SampleAtImage


@dataclass(frozen=True)
class EncoderGrid:
    """What a source has to know of an encoder."""

    grid: tuple[int, int]  # (rows, columns) of the patches
    name: str = ""  # in the names of groups; empty if there is only one encoder


@dataclass(frozen=True, eq=False)
class CameraView:
    """What is known of one camera's image besides its tokens, for sources that ask for it."""

    # How the patches of each encoder lie in the image.
    views: tuple[PatchView, ...]
    # Of the image's stamp, or why there is none.
    calibration: Calibration | BadInput
    # The depth message of its stamp, a sensor_msgs/Image, or why there is none.
    depth: Any


@dataclass(frozen=True, eq=False)
class FrameInputs:
    """What the tokens of one frame are made of."""

    output: EncoderOutput  # ``each`` has that of every encoder
    rows: Mapping[str, int]  # batch row of each camera
    present: frozenset[str]  # cameras with an image
    samples: Mapping[str, SampleAtImage[Any]]  # of every other source
    encoders: Sequence[EncoderGrid]  # in the order of ``output.each``
    tokenizers: Mapping[str, Tokenizer]  # of every other source
    # Of the cameras with an image that a source names in ``calibrated``.
    views: Mapping[str, CameraView] = field(default_factory=dict)
