"""``observation.state`` of a data set and of a running policy: the same numbers in the same order.

A pose is its position and the first two columns of its rotation matrix, which have no jumps.
Numbers of other sources are as they are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vit_perception.streams.rotation import rotation_6d
from vit_perception.wire.layout import LayoutSource

_POSES = "poses"


def names_of(source: LayoutSource) -> list[str]:
    """Return a name for each number of ``source``."""
    if source.group == _POSES:
        return [f"{source.name}.{k}" for k in ("x", "y", "z", *(f"rotation_{k}" for k in range(6)))]
    places = source.names or ("",)
    return [
        ".".join(filter(None, (source.name, place, path)))
        for path in source.fields
        for place in places
    ]


def numbers_of(source: LayoutSource, values: np.ndarray) -> np.ndarray:
    """Return the numbers of ``source`` in the state, (rows, n); NaN where it is missing.

    ``values`` are (rows, source.count), as columns and observations have them.
    """
    if source.group != _POSES:
        return values
    turned = np.full((len(values), 6), np.nan)
    for row in np.flatnonzero(np.isfinite(values).all(axis=1)):
        turned[row] = rotation_6d(values[row, 3:])
    return np.concatenate([values[:, :3], turned], axis=1)


def state_of(
    sources: Sequence[LayoutSource], samples: Mapping[str, Mapping[str, np.ndarray]]
) -> np.ndarray:
    """Return the state of one observation, (n,) float32; NaN where a source is missing.

    ``sources`` are the layout's ``samples``, and ``samples`` those of the observation.
    """
    parts = [numbers_of(each, samples[each.group][each.name][None])[0] for each in sources]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)
