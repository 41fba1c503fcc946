"""How far a camera's static background has moved: a robust fit of patch tokens to a reference.

Tokens are compared in the directions that tell places of the background apart (LDA: much variance
between patches, little over time). First each whole-patch displacement of the background gets the
mean similarity of the patches that it matches; then Gauss-Newton steps refine the best one to
translation and rotation, with tokens interpolated between patches and with little weight for
patches that do not fit (the inverse compositional form: the derivatives are those of the reference,
computed once).
"""

import math

import numpy as np

from vit_perception.pipeline.monitor.reference import CameraReference
from vit_perception.wire.monitored import CameraShift

FARTHEST_PATCHES = 4  # of the search
STEPS = 8
CLOSE_ENOUGH_PX = 0.05  # of the source; a smaller step is the last
LONGEST_STEP_PATCHES = 0.7
# Mean similarity of the background to the reference at which it has moved by no whole patch.
IN_PLACE = 0.8
# A displacement that is nearer wins where two match alike; similarity a patch.
PER_PATCH = 0.003
# Of the static patches, what must still be in view.
SMALLEST_VIEW = 0.4
# Mean similarity below which the background is not found again.
LEAST_AGREEMENT = 0.33
# A shift looks like a little rotation, too, which the gain of rotations must not enlarge: it holds
# where the centre has moved by less than this.
GAIN_WITHIN_PATCHES = 0.125
_RIDGE = 1e-4


class ShiftFit:
    """Fits images of one camera. The reference must have a background."""

    def __init__(self, reference: CameraReference):
        view = reference.view
        self._grid = rows, columns = view.grid
        self._rotation_gain = reference.rotation_gain
        self._static = static = np.flatnonzero(reference.static)
        row, column = np.divmod(static, columns)
        self._background = reference.background[static]
        self._unit_background = unit(self._background)
        # Places in source px from the image's centre, and back: patch = px * scale + offset.
        self._scale = np.array(view.scale[::-1]) / view.patch_size_px
        centre_px = np.array(view.source_size_px[::-1]) / 2
        offset = np.array(view.offset_px[::-1]) / view.patch_size_px - 0.5
        self._offset = offset + centre_px * self._scale
        place_px = (np.stack([column, row], axis=1) - self._offset) / self._scale
        self._place_px = place_px
        self._reach_px = float(np.abs(place_px).max())
        field = reference.background.reshape(rows, columns, -1)
        by_row, by_column = (_slope(field, axis).reshape(rows * columns, -1) for axis in (0, 1))
        slopes = np.stack([by_column[static], by_row[static]], axis=1)  # (S, 2, K) a patch
        # Derivatives of the place, in patches, by x (px), y (px) and rotation (rad).
        x, y = place_px.T
        one, none = np.ones_like(x), np.zeros_like(x)
        moves = np.array([[one, none, -y], [none, one, x]]).transpose(2, 0, 1)
        moves = moves * self._scale[:, None]
        self._slopes = np.einsum("sak,sap->spk", slopes, moves).astype(np.float32)
        self._normal = np.einsum("spk,sqk->spq", self._slopes, self._slopes)
        self._offsets, self._index, self._inside = self._search_table(row, column)

    def _search_table(
        self, row: np.ndarray, column: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns = self._grid
        reach = range(-FARTHEST_PATCHES, FARTHEST_PATCHES + 1)
        offsets = np.array([(dx, dy) for dy in reach for dx in reach])
        to_row, to_column = row + offsets[:, 1:], column + offsets[:, :1]
        inside = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
        return offsets, np.where(inside, to_row * columns + to_column, 0), inside

    def __call__(self, tokens: np.ndarray) -> tuple[CameraShift | None, float]:
        """Return the shift of ``tokens`` (P, K) in the reference's directions, and the agreement.

        The shift is None where the background is not found again.
        """
        move = self._whole_patches(tokens)
        for _ in range(STEPS):
            moved = self._place_px @ move[:2, :2].T + move[:2, 2]
            found, inside = self._interpolated(tokens, moved * self._scale + self._offset)
            if inside.sum() < SMALLEST_VIEW * len(inside):
                return None, 0.0
            difference = found - self._background
            distance = np.sqrt(np.einsum("sk,sk->s", difference, difference))
            typical = float(np.median(distance[inside])) or 1.0
            weight = inside / (1 + (distance / typical) ** 2)
            gradient = np.einsum("spk,sk->sp", self._slopes, difference).T @ weight
            normal = np.tensordot(weight, self._normal, 1)
            step = self._step(normal.astype(np.float64), gradient.astype(np.float64))
            move = move @ np.linalg.inv(_move(step))
            if np.abs(step * (1, 1, self._reach_px)).max() < CLOSE_ENOUGH_PX:
                break
        similarity = np.einsum("sk,sk->s", unit(found), self._unit_background)
        agreement = float(similarity[inside].mean())
        if agreement < LEAST_AGREEMENT:
            return None, agreement
        x_px, y_px = float(move[0, 2]), float(move[1, 2])
        turned_deg = math.degrees(math.atan2(move[1, 0], move[0, 0]))
        is_in_place = math.hypot(x_px, y_px) * self._scale.max() < GAIN_WITHIN_PATCHES
        shift = CameraShift(
            x_px=x_px,
            y_px=y_px,
            rotation_deg=turned_deg * (self._rotation_gain if is_in_place else 1.0),
            agreement=agreement,
        )
        return shift, agreement

    def _whole_patches(self, tokens: np.ndarray) -> np.ndarray:
        """Return the best displacement by whole patches, as a move (3, 3) of source px.

        Where the background is in its place there is no search: it takes a third of all the time.
        """
        tokens = unit(tokens)
        in_place = np.einsum("sk,sk->s", tokens[self._static], self._unit_background)
        if in_place.mean() > IN_PLACE:
            return np.eye(3)
        similar = self._unit_background @ tokens.T
        matched = similar[np.arange(len(similar)), self._index]
        seen = self._inside.sum(axis=1)
        mean = np.where(self._inside, matched, 0).sum(axis=1) / np.maximum(seen, 1)
        mean -= PER_PATCH * np.abs(self._offsets).sum(axis=1)
        mean[seen < SMALLEST_VIEW * len(similar)] = -np.inf
        move = np.eye(3)
        move[:2, 2] = self._offsets[int(mean.argmax())] / self._scale
        return move

    def _interpolated(
        self, tokens: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``tokens`` between patches at ``places`` (S, 2), columns and rows, and which of
        these are in the picture.
        """
        rows, columns = self._grid
        most = np.array([columns - 1, rows - 1])
        inside = np.all((places >= -0.05) & (places <= most + 0.05), axis=1)
        places = np.clip(places, 0, most)
        first = np.minimum(places.astype(np.int64), np.maximum(most - 1, 0))
        right, down = (places - first).astype(np.float32).T[:, :, None]
        at = first[:, 1] * columns + first[:, 0]
        below = columns if rows > 1 else 0
        beside = 1 if columns > 1 else 0
        upper = tokens[at] * (1 - right) + tokens[at + beside] * right
        lower = tokens[at + below] * (1 - right) + tokens[at + below + beside] * right
        return np.asarray(upper * (1 - down) + lower * down), inside

    def _step(self, normal: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        # In units in which all three numbers move the farthest patch alike.
        units = np.array([1.0, 1.0, self._reach_px])
        normal = normal / np.outer(units, units)
        normal[np.diag_indices(3)] += _RIDGE * np.trace(normal) / 3 + 1e-12
        step: np.ndarray = np.linalg.solve(normal, gradient / units)
        longest_px = LONGEST_STEP_PATCHES / float(self._scale.max())
        return np.asarray(np.clip(step, -longest_px, longest_px) / units)


def unit(tokens: np.ndarray) -> np.ndarray:
    """Return ``tokens`` (..., D) with length 1, in float32; zeros stay zeros."""
    tokens = np.asarray(tokens, np.float32)
    length = np.sqrt(np.einsum("...d,...d->...", tokens, tokens))[..., None]
    return np.asarray(tokens / np.maximum(length, np.float32(1e-6)))


def _slope(field: np.ndarray, axis: int) -> np.ndarray:
    if field.shape[axis] < 2:
        return np.zeros_like(field)
    slope: np.ndarray = np.gradient(field, axis=axis)
    return slope


def _move(step: np.ndarray) -> np.ndarray:
    x_px, y_px, rotation = step
    cosine, sine = math.cos(rotation), math.sin(rotation)
    return np.array([[cosine, -sine, x_px], [sine, cosine, y_px], [0, 0, 1]])
