"""What is normal for a camera, in numbers, as ``vit-perception reference`` has learnt it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.layout import LayoutCamera

# Bounds of what a file may hold: a hostile one takes no more memory and time than these.
MOST_CAMERAS = 32
MOST_PATCHES = 1 << 14
MOST_CHANNELS = 1 << 14
MOST_DIMS = 256
MOST_PROTOTYPES = 4096
MOST_HELD_OUT = 1 << 20
# Fewer static patches than this share of all show no move of the camera reliably.
FEWEST_STATIC = 0.1


class View(NamedTuple):
    """The geometry of a camera's patches: ``network_px = source_px * scale + offset_px``."""

    grid: tuple[int, int]  # (rows, columns)
    patch_size_px: int  # of the network's input
    source_size_px: tuple[int, int]  # (height, width) of the camera's image
    scale: tuple[float, float]  # (y, x)
    offset_px: tuple[float, float]  # (y, x)
    rectified: bool = False

    @classmethod
    def of(cls, camera: LayoutCamera, grid: tuple[int, int]) -> "View":
        """Return that of a camera of a layout that has seen an image.

        Raises:
            InvalidValue: it has not seen one.
        """
        if camera.source_size_px is None or camera.scale is None or camera.offset_px is None:
            raise InvalidValue(
                f"the layout has no image size of camera {camera.name}; accepted: features with at "
                "least one image of it"
            )
        return cls(
            grid=grid,
            patch_size_px=camera.patch_size_px,
            source_size_px=camera.source_size_px,
            scale=camera.scale,
            offset_px=camera.offset_px,
            rectified=camera.rectified,
        )

    def __str__(self) -> str:
        height, width = self.source_size_px
        rows, columns = self.grid
        scale_y, scale_x = self.scale
        top, left = self.offset_px
        return (
            f"{width} x {height} px{' rectified' if self.rectified else ''} on {columns} x {rows} "
            f"patches (scale {scale_x:.4g} {scale_y:.4g}, offset {left:.4g} {top:.4g})"
        )

    def fits(self, other: "View") -> bool:
        """Whether patches of both see the same pixels."""
        same = self._replace(scale=other.scale, offset_px=other.offset_px) == other
        numbers = np.array([self.scale, self.offset_px])
        return same and bool(np.allclose(numbers, [other.scale, other.offset_px], atol=1e-6))


@dataclass(frozen=True, eq=False)
class CameraReference:
    """What is normal for one camera. P patches, D channels, K and J dimensions.

    Raises:
        InvalidValue: The arrays do not fit each other, are too large, or hold NaN.
    """

    view: View
    # (P,) bool: patches of the background, whose tokens hardly change.
    static: np.ndarray
    # (D,), (D, K): the mean unit token, and the directions that tell places of the background apart
    # while time leaves them as they are.
    centre: np.ndarray
    directions: np.ndarray
    # (P, K): the mean token of each patch in these directions.
    background: np.ndarray
    # (P,): the mean squared distance of each patch to its background over time; above 0.
    typical: np.ndarray
    # (D,), (D, J): the mean unit token, and the directions in which tokens vary most.
    mean: np.ndarray
    components: np.ndarray
    # (M, J): tokens that stand for all that was seen.
    prototypes: np.ndarray
    # (3,): what 99 % of held-out frames stay below: distance of the most novel patches, and the
    # median and the 90 % quantile of the background's distances.
    limits: np.ndarray
    # (n,): scores of the held-out frames, smallest first.
    held_out: np.ndarray
    # (3,): x and y (px) and the rotation (degrees) that 99 % of held-out frames stay below, either
    # way; the background's own noise.
    shift_noise: np.ndarray
    # What a rotation is multiplied with where the centre stays in its place: 1 if not measured.
    rotation_gain: float = 1.0

    def __post_init__(self) -> None:
        patches = self.view.grid[0] * self.view.grid[1]
        channels, dims = self.directions.shape if self.directions.ndim == 2 else (0, 0)
        _, others = self.components.shape if self.components.ndim == 2 else (0, 0)
        count = len(self.prototypes)
        expected = {
            "static": (patches,),
            "centre": (channels,),
            "directions": (channels, dims),
            "background": (patches, dims),
            "typical": (patches,),
            "mean": (channels,),
            "components": (channels, others),
            "prototypes": (count, others),
            "limits": (3,),
            "held_out": (len(self.held_out),),
            "shift_noise": (3,),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape or 0 in shape:
                raise InvalidValue(f"{name} has shape {array.shape}; accepted: {shape}, none empty")
            if not np.isfinite(array).all():
                raise InvalidValue(f"{name} holds NaN or infinity; accepted: finite numbers")
        for name, found, most in (
            ("patches", patches, MOST_PATCHES),
            ("channels", channels, MOST_CHANNELS),
            ("dimensions", max(dims, others), MOST_DIMS),
            ("prototypes", count, MOST_PROTOTYPES),
            ("held-out frames", len(self.held_out), MOST_HELD_OUT),
        ):
            if found > most:
                raise InvalidValue(f"it has {found} {name}; accepted: up to {most}")
        if (self.typical <= 0).any() or (self.limits <= 0).any():
            raise InvalidValue("typical or limits is not above 0; accepted: numbers above 0")
        if not 0.1 <= self.rotation_gain <= 10:
            raise InvalidValue(f"rotation_gain is {self.rotation_gain}; accepted: 0.1 to 10")
        if (np.diff(self.held_out) < 0).any():
            raise InvalidValue("held_out is not sorted; accepted: the smallest score first")

    @property
    def channels(self) -> int:
        """D, the width of the tokens."""
        return len(self.directions)

    @property
    def has_background(self) -> bool:
        """Whether enough of the picture stays as it is to show a move of the camera."""
        return bool(self.static.sum() >= FEWEST_STATIC * len(self.static))


@dataclass(frozen=True, eq=False)
class Reference:
    """The cameras of one reference, and which encoder's tokens it was learnt from."""

    cameras: Mapping[str, CameraReference]
    # The layout's ``encoder_sha256`` and ``model``; the latter is for people.
    encoder_sha256: str
    model: str
    # Of the file's bytes; empty if it comes from none.
    sha256: str = ""
