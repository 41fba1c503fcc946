"""How novel an image is, in three numbers that a reference has limits for.

Patches anywhere are compared with what was seen anywhere: that finds a thing that was never there.
Patches of the static background are compared with what was seen at their place: that finds what
changes the whole picture a little, such as blur, less light, or a moved camera.
"""

import numpy as np

from vit_perception.pipeline.monitor.reference import CameraReference

# The most novel patches are this share of all, and so many at least: a small object covers few.
MOST_NOVEL = 0.03
FEWEST = 4
# Of the background's distances, also the value that a tenth of its patches exceed.
HIGH = 0.9


class Novelty:
    """Scores images of one camera."""

    def __init__(self, reference: CameraReference):
        self._mean = reference.mean
        self._components = reference.components
        self._prototypes = reference.prototypes.T.copy()
        self._lengths = squared(reference.prototypes)
        self._static = np.flatnonzero(reference.static) if reference.has_background else None
        self._background = reference.background[reference.static]
        self._typical = reference.typical[reference.static]
        self._limits = reference.limits

    def parts(self, tokens: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Return the three numbers: distance of the most novel patches, and the median and the 90 %
        quantile of the background's distances; without a background these are 0.

        ``tokens`` (P, D) are of length 1; ``moved`` (P, K) are they in the background's directions.
        """
        most = most_novel(self.distances(tokens))
        if self._static is None:
            return np.array([most, 0.0, 0.0])
        changes = squared(moved[self._static] - self._background)
        return np.array([most, *of_background(changes / self._typical)])

    def score(self, parts: np.ndarray) -> float:
        """Return how far the largest of the three is, in units of its limit."""
        return float((parts / self._limits).max())

    def distances(self, tokens: np.ndarray) -> np.ndarray:
        """Return the squared distance (P,) of unit ``tokens`` (P, D) to what was seen anywhere.

        It is that to the nearest prototype, and to the space of the components: a thing that was
        never seen lies outside of it.
        """
        centred = tokens - self._mean
        inside = centred @ self._components
        own = squared(inside)
        nearest = (self._lengths - 2 * (inside @ self._prototypes)).min(axis=1)
        distances: np.ndarray = np.maximum(nearest + own, 0)
        distances += np.maximum(squared(centred) - own, 0)
        return distances


def squared(rows: np.ndarray) -> np.ndarray:
    """Return the squared length of each of ``rows``."""
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def most_novel(distances: np.ndarray) -> float:
    """Return the mean of the largest ``distances`` (P,)."""
    count = min(len(distances), max(FEWEST, round(MOST_NOVEL * len(distances))))
    return float(np.partition(distances, -count)[-count:].mean(dtype=np.float64))


def of_background(distances: np.ndarray) -> tuple[float, float]:
    """Return the median and the 90 % quantile of ``distances`` (S,)."""
    ordered = np.sort(distances)
    last = len(ordered) - 1
    return float(ordered[last // 2]), float(ordered[round(HIGH * last)])


def rank(score: float, held_out: np.ndarray) -> float:
    """Return the share of ``held_out``, sorted scores, that is below ``score``."""
    return float(np.searchsorted(held_out, score)) / len(held_out)
