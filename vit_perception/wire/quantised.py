"""Rows of tokens in eight bits: one byte a channel and one float32 scale a token.

A row is D bytes, each the value divided by the row's scale, rounded, and moved up by ZERO_BYTE;
then come the four bytes of the scale. Bytes have no sign, as viewers of images expect. The error of
a channel is at most half a scale: a 254th of the largest channel of the token.
"""

from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.records import BadInput

SCALE = np.dtype("<f4")
LARGEST_STEP = 127
ZERO_BYTE = 128  # what stands for 0: steps from -127 to 127 are bytes from 1 to 255


def quantise(tokens: np.ndarray) -> np.ndarray:
    """Return ``tokens`` (T, D) float32 as rows (T, D + 4) uint8.

    A token of zeros, which is a missing one, has the scale 0.

    Raises:
        InvalidValue: A number is NaN or infinite.
    """
    largest = np.abs(tokens).max(axis=1, initial=0.0)
    if not np.isfinite(largest).all():
        raise InvalidValue(f"the tensor holds {largest.max():g}; accepted: finite numbers in int8")
    scales = (largest / np.float32(LARGEST_STEP)).astype(SCALE)
    rows = np.empty((len(tokens), tokens.shape[1] + SCALE.itemsize), np.uint8)
    # Where the scale is 0, so is the token: any divisor will do.
    steps = np.rint(tokens / np.where(scales > 0, scales, np.float32(1))[:, None])
    rows[:, : tokens.shape[1]] = steps.astype(np.int16) + ZERO_BYTE
    rows[:, tokens.shape[1] :] = scales.view(np.uint8).reshape(len(tokens), SCALE.itemsize)
    return rows


def restore(rows: np.ndarray, is_bigendian: bool = False) -> np.ndarray:
    """Return the tokens (..., D) float32 of ``rows`` (..., D + 4) uint8.

    Raises:
        BadInput: ``scale``: a scale is negative, NaN or infinite. ``size``: a row is too short.
    """
    if rows.shape[-1] < SCALE.itemsize:
        raise BadInput("size", f"a row has {rows.shape[-1]} bytes; accepted: at least 4")
    kind: np.dtype[Any] = SCALE.newbyteorder(">") if is_bigendian else SCALE
    scales = np.ascontiguousarray(rows[..., -SCALE.itemsize :]).view(kind)
    bad = ~(np.isfinite(scales) & (scales >= 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BadInput(
            "scale", f"the scale of row {row} is {scales[bad][0]:g}; accepted: a number from 0"
        )
    steps = rows[..., : -SCALE.itemsize].astype(np.float32) - ZERO_BYTE
    tokens: np.ndarray = steps * scales.astype(np.float32)
    return tokens
