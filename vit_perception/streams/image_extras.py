"""What comes beside a camera's images: their calibration, and their depth images."""

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from vit_perception.config.settings import CameraSettings
from vit_perception.image.camera_info import Calibration
from vit_perception.streams.calibrations import CalibrationInputs
from vit_perception.streams.depths import DepthInputs
from vit_perception.wire.records import BadInput


class ImageExtras(NamedTuple):
    """What one group of images has, by camera: or why there is none."""

    # Of cameras with a calibration.
    calibrations: Mapping[str, Calibration | BadInput]
    # Of cameras with a depth topic, sensor_msgs/Image.
    depths: Mapping[str, Any]


class ExtraInputs:
    """Both under the node's condition. ``calibrated`` names cameras that need a calibration."""

    def __init__(
        self,
        cameras: Sequence[CameraSettings],
        changed: threading.Condition,
        calibrated: Collection[str] = (),
    ):
        self.calibrations = CalibrationInputs(cameras, changed, calibrated)
        self.depths = DepthInputs(cameras, changed)

    def at(self, stamps_ns: Mapping[str, int]) -> ImageExtras:
        """Return what the images of ``stamps_ns``, by camera, have; it may wait a little."""
        return ImageExtras(self.calibrations.at(stamps_ns), self.depths.at(stamps_ns))

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``."""
        self.calibrations.forget_after(stamp_ns)
        self.depths.forget_after(stamp_ns)

    def counts(self, camera: str) -> dict[str, int]:
        """Return what /diagnostics says of ``camera``. Call with the lock held."""
        values: dict[str, int] = {}
        accounts = {
            "camera_info": self.calibrations.accounts.get(camera),
            "depth": self.depths.accounts.get(camera),
        }
        for name, account in accounts.items():
            if account is not None:
                values |= {
                    f"{name}.{key}": getattr(account, key)
                    for key in ("received", "used", "waited", "missing")
                }
                values |= {
                    f"{name}.refused.{reason}": count
                    for reason, count in sorted(account.refused.items())
                }
        return values
