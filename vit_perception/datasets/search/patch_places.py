"""Where the patches of a stored frame lie in its picture, from the layout alone."""

from dataclasses import dataclass

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet, encoder_fields
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.wire.layout import Layout
from vit_perception.wire.layout_encoders import LayoutEncoder


@dataclass(frozen=True)
class Box:
    """A rectangle in px of the picture, from the left and from the top."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class PatchPlaces:
    """The patches of one camera's picture, row by row."""

    # (rows, columns).
    grid: tuple[int, int]
    # Side of a patch in px of the network's picture.
    patch_px: int
    # network_px = source_px * scale + offset_px, (y, x).
    scale: tuple[float, float]
    offset_px: tuple[float, float]

    def box(self, patch: int) -> Box:
        """Return the rectangle that ``patch`` saw."""
        row, column = divmod(patch, self.grid[1])
        top, bottom = (self._source(edge, 0) for edge in (row, row + 1))
        left, right = (self._source(edge, 1) for edge in (column, column + 1))
        return Box(left, top, right, bottom)

    def inside(self, box: Box) -> np.ndarray:
        """Return the patches whose centres are in ``box``; of a smaller box the one at its centre.

        Raises:
            InvalidValue: The box is outside of what the network sees.
        """
        rows, columns = self.grid
        y = np.array([self._source(row + 0.5, 0) for row in range(rows)])
        x = np.array([self._source(column + 0.5, 1) for column in range(columns)])
        seen = (y >= box.top) & (y < box.bottom)
        there = (x >= box.left) & (x < box.right)
        if not (seen.any() and there.any()):
            middle_y = (box.top + box.bottom) / 2
            middle_x = (box.left + box.right) / 2
            last = self.box(rows * columns - 1)
            first = self.box(0)
            if not (first.top <= middle_y < last.bottom and first.left <= middle_x < last.right):
                raise InvalidValue(
                    f" is {box.left:g} {box.top:g} {box.right - box.left:g} "
                    f"{box.bottom - box.top:g}, and no patch of the network is in it; accepted: a "
                    f"part of x {first.left:g} to {last.right:g}, y {first.top:g} to "
                    f"{last.bottom:g} px",
                    argument="box",
                )
            seen = np.arange(rows) == np.abs(y - middle_y).argmin()
            there = np.arange(columns) == np.abs(x - middle_x).argmin()
        return np.flatnonzero(np.outer(seen, there))

    def _source(self, edge: float, axis: int) -> float:
        return (edge * self.patch_px - self.offset_px[axis]) / self.scale[axis]


def places_of_frame(features: FeatureSet, frame: int, camera: str) -> PatchPlaces | None:
    """Return the patches of a stored frame; None if the layout does not know the picture's size."""
    layout = features.layout_of(frame)
    grid = grid_of(layout, features.encoder)
    if grid is None:
        return None
    encoder = encoder_fields(layout, features.encoder)
    if isinstance(encoder, LayoutEncoder):
        for view in encoder.views:
            if view.camera == camera:
                return PatchPlaces(grid, encoder.patch_size_px, view.scale, view.offset_px)
        return None
    seen = features.camera_of(frame, camera)
    if seen.scale is None or seen.offset_px is None:
        return None
    return PatchPlaces(grid, seen.patch_size_px, seen.scale, seen.offset_px)


def places_of_picture(geometry: PatchGeometry) -> PatchPlaces:
    """Return the patches of a picture that has just been encoded."""
    plan = geometry.plan
    return PatchPlaces(geometry.grid, geometry.patch_size_px, plan.scale, plan.offset_px)


def grid_of(layout: Layout, encoder: str) -> tuple[int, int] | None:
    """Return (rows, columns) of the patch tokens of ``encoder``; None without patch tokens."""
    found = (g.grid for g in layout.groups if g.kind == "patch" and g.encoder == encoder)
    return next(found, None)
