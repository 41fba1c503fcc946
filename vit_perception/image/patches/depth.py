"""The depth of each patch, from a depth image that is aligned with the camera's image."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from vit_perception.files.errors import shown
from vit_perception.image.decode import rows_of_data
from vit_perception.image.patches.rays import PatchView
from vit_perception.wire.records import BadInput


class DepthEncoding(NamedTuple):
    """One of the two encodings of REP 118."""

    type: str  # of a pixel, as numpy names it, without the byte order
    metres: float  # that one unit is


# Further away it is no measurement.
FARTHEST_M = 1000.0
ENCODINGS = {"16UC1": DepthEncoding("u2", 0.001), "32FC1": DepthEncoding("f4", 1.0)}


def depth_of(message: Any, size_px: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a depth image, (H, W), in the units of its encoding; a view.

    ``size_px`` (height, width) is that of the camera's image, which it must have.

    Raises:
        BadInput: ``depth``: another encoding or size, or too little data.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise BadInput(
            "depth",
            f"the depth image's encoding is {shown(message.encoding)}; accepted: 16UC1 (mm) or "
            "32FC1 (m)",
        )
    height, width = int(message.height), int(message.width)
    if (height, width) != size_px:
        raise BadInput(
            "depth",
            f"the depth image is {height} x {width} px; accepted: {size_px[0]} x {size_px[1]} px, "
            "as the camera's image, with which it must be aligned",
        )
    kind = np.dtype(encoding.type).newbyteorder(">" if message.is_bigendian else "<")
    row_bytes = width * kind.itemsize
    try:
        rows = rows_of_data(message, height, row_bytes)
    except BadInput as error:
        raise BadInput("depth", f"the depth image: {error}") from error
    return rows[:, :row_bytes].view(kind)


def patch_depths_m(message: Any, view: PatchView) -> np.ndarray:
    """Return the median of the valid depth in each patch, (P,) float64 in m, row by row.

    Valid is what is above zero and below 1 km. A patch without any is NaN. A pixel belongs to the
    patch that its centre is in; a patch smaller than a pixel has the pixel that its own centre is
    in. Takes some milliseconds for 640 x 480 px.

    Raises:
        BadInput: ``depth``, as :func:`depth_of`.
    """
    pixels = depth_of(message, view.source_size_px)
    metres = ENCODINGS[message.encoding].metres
    valid = pixels.astype(np.float32)  # holds all 16-bit integers
    with np.errstate(invalid="ignore"):
        is_valid = (valid > 0) & (valid < FARTHEST_M / metres)
    valid[~is_valid] = np.inf  # which is last when sorted
    region = view.region
    edges_y, edges_x = view.edges_px()
    rows, is_row = _indices(_pixels_between(edges_y, region.y, region.y + region.height))
    columns, is_column = _indices(_pixels_between(edges_x, region.x, region.x + region.width))
    there = is_row[:, None, :, None] & is_column[None, :, None, :]
    patches = valid[rows[:, None, :, None], columns[None, :, None, :]]
    patches[~there] = np.inf
    # One sort of all is several times faster than a selection in each.
    patches = np.sort(patches.reshape(len(rows) * len(columns), -1), axis=1)
    counts = np.isfinite(patches).sum(axis=1)
    each = np.arange(len(patches))
    low = patches[each, np.maximum(counts - 1, 0) // 2]
    high = patches[each, counts // 2]
    medians = 0.5 * (low.astype(np.float64) + high)
    medians[counts == 0] = np.nan
    return medians * metres


def _indices(slices: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices in each of ``slices``, (n, longest), and which of them are in it."""
    starts, stops = np.array([(each.start, each.stop) for each in slices]).T
    steps = np.arange(max(1, (stops - starts).max()))
    indices = starts[:, None] + steps
    is_in = indices < stops[:, None]
    return np.where(is_in, indices, 0), is_in


def _pixels_between(edges: np.ndarray, first: int, end: int) -> list[slice]:
    """Return the pixels, from ``first`` to ``end``, whose centres are between successive edges."""
    slices = []
    for low, high in pairwise(edges):
        start, stop = (int(np.ceil(edge - 0.5)) for edge in (low, high))
        if start == stop:
            start = int(np.floor(0.5 * (low + high)))
            stop = start + 1
        slices.append(slice(max(start, first), max(min(stop, end), first)))
    return slices
