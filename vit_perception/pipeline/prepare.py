"""The first step of the flow: one message a camera becomes the engine's uint8 batch."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vit_perception.config.settings import CameraSettings
from vit_perception.files.errors import told
from vit_perception.image.camera_info import Calibration
from vit_perception.image.decode import (
    DECODER_ERRORS,
    check_decoded,
    decode_compressed,
    decode_image,
)
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.image.rectify import Rectifier
from vit_perception.pipeline.timing import trace
from vit_perception.wire.records import BadInput, RgbImage

_DECODERS = {"raw": decode_image, "compressed": decode_compressed}
# One is filled while the engine reads the other.
BATCHES = 2
# From a camera and its image: the image that is encoded instead.
ImageChange = Callable[[str, RgbImage], RgbImage]


@dataclass
class Prepared:
    """One group of images, decoded and resized into a batch."""

    # The cameras that are present, in the order of the settings.
    images: dict[str, RgbImage]
    # The cameras whose message could not be used, and why.
    refused: dict[str, BadInput]
    # (cameras, 3, H, W) uint8 RGB; the rows of absent cameras are zero.
    batch: np.ndarray
    # Milliseconds by stage, of all cameras together.
    stage_ms: dict[str, float] = field(default_factory=dict)
    # Milliseconds of "decode" and "preprocess", by camera.
    camera_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    # Of the image of each camera that has one, or why there is none.
    calibrations: Mapping[str, Calibration | BadInput] = field(default_factory=dict)
    # The depth message of each camera that has some, or why there is none.
    depths: Mapping[str, Any] = field(default_factory=dict)
    # The batch of each further encoder. Encoders with one rule have the same array.
    more: tuple[np.ndarray, ...] = ()

    @property
    def each(self) -> tuple[np.ndarray, ...]:
        """The batch of every encoder, the first one's first."""
        return (self.batch, *self.more)

    @property
    def first(self) -> RgbImage:
        """The image of the first camera present: the group carries its stamp and frame."""
        return next(iter(self.images.values()))


def _not_alone(message: Any) -> RgbImage:
    """Refuse a packet of a video, which the packets before it decide on."""
    raise BadInput(
        "encoding",
        f"it is a {type(message).__name__}; accepted: the pictures of a "
        "vit_perception.image.video.decoder.VideoDecoder, which takes all packets in order",
    )


class Preparation:
    """Decodes and resizes, each camera into its own rows of one of BATCHES batches.

    ``preprocess`` is that of each encoder. An image is decoded once, and resized once for each rule
    among them.

    One thread at a time may call it. ``camera_in_hand`` may be read from any: the name of the
    camera that it is at.
    """

    def __init__(self, cameras: tuple[CameraSettings, ...], preprocess: Sequence[Preprocessor]):
        self.camera_in_hand = ""
        self.decoders = {c.name: _DECODERS.get(c.transport, _not_alone) for c in cameras}
        self._rectifiers = {c.name: Rectifier() for c in cameras if c.rectify}
        self._rois = {c.name: c.region for c in cameras}
        self._rules = [each.rule for each in preprocess]
        self._preprocess = {each.rule: each for each in preprocess}
        self._batches = [
            {
                rule: torch.zeros((len(cameras), 3, *rule.network_size_px), dtype=torch.uint8)
                for rule in self._preprocess
            }
            for _ in range(BATCHES)
        ]

    def __call__(
        self,
        messages: Mapping[str, Any],
        batch: int,
        calibrations: Mapping[str, Calibration | BadInput],
        depths: Mapping[str, Any],
        change: ImageChange | None = None,
    ) -> Prepared:
        """See :meth:`vit_perception.pipeline.pipeline.Pipeline.prepare`."""
        tensors = self._batches[batch]
        batches = tuple(tensors[rule].numpy() for rule in self._rules)
        prepared = Prepared(
            images={},
            refused={},
            batch=batches[0],
            stage_ms={"decode": 0.0, "preprocess": 0.0},
            calibrations=calibrations,
            depths=depths,
            more=batches[1:],
        )
        for index, camera in enumerate(self.decoders):
            rows = {rule: tensor[index] for rule, tensor in tensors.items()}
            if camera in messages:
                self.camera_in_hand = camera
                try:
                    calibration = calibrations.get(camera)
                    self._prepare_one(camera, messages[camera], calibration, rows, prepared, change)
                    continue
                except BadInput as error:
                    prepared.refused[camera] = error
                except Exception as error:
                    # A defect at one camera's picture must not cost the others theirs.
                    prepared.refused[camera] = BadInput("error", told(error))
            for row in rows.values():
                row.zero_()
        return prepared

    def _prepare_one(
        self,
        camera: str,
        message: Any,
        calibration: Calibration | BadInput | None,
        rows: Mapping[ResizeRule, torch.Tensor],
        prepared: Prepared,
        change: ImageChange | None,
    ) -> None:
        started = time.perf_counter()
        try:
            if isinstance(message, RgbImage):
                image = check_decoded(message)
            else:
                image = message() if callable(message) else self.decoders[camera](message)
        except BadInput:
            raise
        except DECODER_ERRORS as error:
            raise BadInput("decode", f"{type(error).__name__}: {error}") from error
        decoded = time.perf_counter()
        trace.point("decode", image.stamp_ns, 1e3 * (decoded - started), camera)
        if camera in self._rectifiers:
            image = self._rectified(camera, image, calibration)
        if change is not None:
            image = change(camera, image)
        for rule, row in rows.items():
            self._preprocess[rule](image, out=row, roi=self._rois[camera])
        prepared.images[camera] = image
        spent = {
            "decode": 1e3 * (decoded - started),
            "preprocess": 1e3 * (time.perf_counter() - decoded),
        }
        trace.point("preprocess", image.stamp_ns, spent["preprocess"], camera)
        prepared.camera_ms[camera] = spent
        for stage, value in spent.items():
            prepared.stage_ms[stage] += value

    def _rectified(
        self, camera: str, image: RgbImage, calibration: Calibration | BadInput | None
    ) -> RgbImage:
        if calibration is None:
            raise BadInput(
                "no_camera_info",
                f"the image has no CameraInfo; accepted: one, or cameras.{camera}.rectify: false",
            )
        if isinstance(calibration, BadInput):
            raise calibration
        return self._rectifiers[camera](image, calibration)
