"""A reference with known numbers: tokens are a smooth function of the place that a patch sees."""

from dataclasses import replace

import numpy as np

from vit_perception.pipeline.monitor.reference import CameraReference, View

ROWS, COLUMNS, DIMS, CHANNELS = 8, 10, 6, 8
PATCH_PX = 14
# Network px per source px differ, and the network sees a cut: nothing is only right by symmetry.
VIEW = View(
    grid=(ROWS, COLUMNS),
    patch_size_px=PATCH_PX,
    source_size_px=(240, 320),
    scale=(0.5, 0.45),
    offset_px=(-4.0, -2.0),
)


def background(x_px=0.0, y_px=0.0, rotation_deg=0.0, view=VIEW) -> np.ndarray:
    """The tokens (P, K) of the background after it has moved so, about the image's centre."""
    rows, columns = view.grid
    row, column = np.divmod(np.arange(rows * columns), columns)
    place = np.stack([(column + 0.5) * PATCH_PX, (row + 0.5) * PATCH_PX], axis=1)
    place = (place - view.offset_px[::-1]) / view.scale[::-1] - np.array([160.0, 120.0])
    angle = np.radians(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y = ((place - (x_px, y_px)) @ turn).T  # the place before the move
    waves = [(1, 0, 0), (0, 1, 1), (1, 1, 2), (1, -1, 0.5), (0.5, 1.5, 1.5), (1.6, 0.4, 0.3)]
    return np.stack([np.cos((a * x + b * y) / 45 + c) for a, b, c in waves], axis=1).astype(
        np.float32
    )


def camera_reference(**other) -> CameraReference:
    """One whose background is :func:`background`, and whose two prototypes are (0, 0), (1, 0)."""
    patches = ROWS * COLUMNS
    directions = np.zeros((CHANNELS, DIMS), np.float32)
    directions[:DIMS] = np.eye(DIMS)
    components = np.zeros((CHANNELS, 2), np.float32)
    components[:2] = np.eye(2)
    made = CameraReference(
        view=VIEW,
        static=np.ones(patches, bool),
        centre=np.zeros(CHANNELS, np.float32),
        directions=directions,
        background=background(),
        typical=np.full(patches, 0.5, np.float32),
        mean=np.zeros(CHANNELS, np.float32),
        components=components,
        prototypes=np.array([[0, 0], [1, 0]], np.float32),
        limits=np.array([2.0, 4.0, 5.0], np.float32),
        held_out=np.array([0.25, 0.5, 0.5, 1.0], np.float32),
        shift_noise=np.array([3.0, 4.0, 0.5], np.float32),
    )
    return replace(made, **other)
