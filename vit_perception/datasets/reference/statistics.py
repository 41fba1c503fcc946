"""What a reference is computed from: sums over frames, and the directions that follow from them."""

from collections.abc import Iterable

import numpy as np

from vit_perception.pipeline.monitor.shift import unit

# A patch is background if its unit tokens are this near their mean: 1 - the mean's length.
MOST_SPREAD = 0.1
# And never more than this share of the picture: the rest is where things move.
LARGEST_SHARE = 0.6
MOST_DIMS = 64
PROTOTYPES = 512
# Tokens that components and prototypes are made of.
MOST_SAMPLED = 20_000
# Added to the variance over time, as a share of its mean: few frames show too little of it.
SMOOTHING = 0.05


def mean_tokens(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the mean unit token (P, D) of each patch of ``frames`` (P, D), and their number."""
    total: np.ndarray | None = None
    count = 0
    for tokens in frames:
        wide = unit(tokens).astype(np.float64)
        total = wide if total is None else total + wide
        count += 1
    if total is None:
        return np.zeros((0, 0)), 0
    return total / count, count


def static_patches(means: np.ndarray) -> np.ndarray:
    """Return which patches (P,) are background: those whose tokens hardly change over time."""
    spread = 1 - np.linalg.norm(means, axis=1)
    limit = min(MOST_SPREAD, float(np.quantile(spread, LARGEST_SHARE)))
    return spread <= limit


def telling_directions(
    means: np.ndarray, moments: np.ndarray, static: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """Return (D, K) directions with much variance between static patches and little over time.

    ``moments`` (D, D) is the covariance over time of static patches' tokens around their means.
    What changes smoothly over the whole picture counts as noise, too: tokens know where in the
    picture they are, and that part stays when the camera moves.
    """
    channels = means.shape[1]
    background = means[static]
    background = background - background.mean(axis=0)
    between = background.T @ background / len(background)
    moments = moments + _smooth_part(means, grid)
    noise = np.trace(moments) / channels
    # Frames that are all alike have no noise at all: then the background's own scale counts.
    floor = SMOOTHING * noise + 1e-6 * np.trace(between) / channels + 1e-12
    lower = np.linalg.cholesky(moments + floor * np.eye(channels))
    inverse = np.linalg.inv(lower)
    vectors = np.linalg.eigh(inverse @ between @ inverse.T)[1][:, ::-1]
    dims = max(1, min(MOST_DIMS, channels, len(background) - 1))
    return _signed(inverse.T @ vectors[:, :dims])


def _smooth_part(means: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the covariance (D, D) over patches of what a quadratic function of the place says."""
    rows, columns = grid
    y, x = (np.mgrid[0:rows, 0:columns].reshape(2, -1).T / np.maximum(1, (rows - 1, columns - 1))).T
    terms = np.stack([x, y, x * y, x**2, y**2], axis=1)
    terms = terms - terms.mean(axis=0)
    smooth = terms @ np.linalg.lstsq(terms, means - means.mean(axis=0), rcond=None)[0]
    return np.asarray(smooth.T @ smooth / len(smooth))


def components_of(tokens: np.ndarray) -> np.ndarray:
    """Return (D, J) directions in which centred ``tokens`` (n, D) vary most, orthonormal."""
    vectors = np.linalg.eigh(tokens.T @ tokens)[1][:, ::-1]
    # Half of all channels at most: without a rest there is no distance to the space.
    return _signed(vectors[:, : max(1, min(MOST_DIMS, tokens.shape[1] // 2))])


def prototypes_of(points: np.ndarray, count: int = PROTOTYPES) -> np.ndarray:
    """Return up to ``count`` of ``points`` (n, J) such that each point has one near (k-centre).

    Each is the point that is farthest from those before it.
    """
    chosen = [0]
    nearest = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(points)):
        farthest = int(nearest.argmax())
        if nearest[farthest] <= 0:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, ((points - points[farthest]) ** 2).sum(axis=1))
    return points[chosen]


def _signed(directions: np.ndarray) -> np.ndarray:
    """Return ``directions`` (D, K) with the largest entry of each positive."""
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(directions.shape[1])])
    return directions * np.where(signs == 0, 1, signs)
