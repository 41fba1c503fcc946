"""The exact search: every stored vector is read and compared, in blocks."""

from collections.abc import Callable, Iterator

import numpy as np

from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.hits import Hit
from vit_perception.datasets.search.stored_vectors import unit_rows

# Of a vector that is missing: farther than any other, which has at most 2.
NOWHERE = np.float32(3.0)


def exact_hits(
    features: FeatureSet,
    queries: np.ndarray,
    projection: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> Iterator[Hit]:
    """Yield every frame, nearest first, by its camera that is nearest to one of ``queries``.

    ``queries`` are unit vectors (Q, D), with ``projection`` (E, D) unit vectors (Q, E) of the space
    that it leads to. Frames of equal distance come in their order. Memory: 8 bytes a frame, and one
    block.
    """
    distances = np.full(len(features), NOWHERE, np.float32)
    places = np.zeros(len(features), np.int32)
    for first, vectors in features.blocks():
        each = compared(vectors, queries, projection)
        nearest = each.reshape(len(each), -1)
        best = nearest.argmin(axis=1)
        rows = slice(first, first + len(each))
        distances[rows] = nearest[np.arange(len(each)), best]
        places[rows] = best
        advance(len(each))
    for frame in np.argsort(distances, kind="stable"):
        if distances[frame] >= NOWHERE:
            return
        camera, query = divmod(int(places[frame]), len(queries))
        yield Hit(int(frame), features.cameras[camera], float(distances[frame]), query)


def compared(
    vectors: np.ndarray, queries: np.ndarray, projection: np.ndarray | None = None
) -> np.ndarray:
    """Return the distances (..., Q) of unit ``vectors`` (..., D) to ``queries``.

    That of a missing vector, which is zeros, is ``NOWHERE``.
    """
    there = vectors.any(axis=-1)
    if projection is not None:
        vectors = unit_rows(vectors @ projection.T)
    distances: np.ndarray = np.maximum(1 - vectors @ queries.T, 0).astype(np.float32)
    distances[~there] = NOWHERE
    return distances


def region_hits(
    features: FeatureSet,
    queries: np.ndarray,
    advance: Callable[[int], None] = lambda frames: None,
) -> Iterator[Hit]:
    """Yield as :func:`exact_hits` by the nearest patch token of each frame.

    Raises:
        InvalidValue: There are no patch tokens.
    """
    distances = np.full(len(features), NOWHERE, np.float32)
    places = np.zeros((len(features), 3), np.int32)
    for first, tokens in features.patch_blocks():
        each = compared(tokens, queries)  # (n, cameras, P, Q)
        nearest = each.reshape(len(each), -1)
        best = nearest.argmin(axis=1)
        rows = slice(first, first + len(each))
        distances[rows] = nearest[np.arange(len(each)), best]
        places[rows] = np.stack(np.unravel_index(best, each.shape[1:]), axis=1)
        advance(len(each))
    for frame in np.argsort(distances, kind="stable"):
        if distances[frame] >= NOWHERE:
            return
        camera, patch, query = map(int, places[frame])
        yield Hit(int(frame), features.cameras[camera], float(distances[frame]), query, patch)
