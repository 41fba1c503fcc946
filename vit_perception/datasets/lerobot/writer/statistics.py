"""Statistics of features as LeRobot has them: of each episode, and of all of them together."""

from collections.abc import Sequence

import numpy as np

from vit_perception.datasets.lerobot.layout import QUANTILES

Statistics = dict[str, np.ndarray]
# Rows and columns of a picture that its statistics skip, as LeRobot's own do.
STEP_PX = 4


def of_values(values: np.ndarray) -> Statistics:
    """Return the statistics of ``values`` (frames, ...) over their first axis."""
    values = np.asarray(values, np.float64)
    if values.ndim == 1:
        values = values[:, None]
    return _named(values, count=len(values))


def of_pictures(pictures: Sequence[np.ndarray], count: int) -> Statistics:
    """Return the statistics of each colour channel, (3, 1, 1), of pixels from 0 to 1.

    ``pictures`` are some of ``count`` pictures, each (h, w, 3) uint8, of some rows and columns.
    """
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255.0
    found = _named(pixels, count)
    return {n: v if n == "count" else v.reshape(3, 1, 1) for n, v in found.items()}


def _named(values: np.ndarray, count: int) -> Statistics:
    # A value that occurs, as LeRobot has it: nothing is interpolated between two.
    quantiles = np.quantile(values, QUANTILES, axis=0, method="inverted_cdf")
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([count]),
        **{f"q{round(100 * q):02d}": row for q, row in zip(QUANTILES, quantiles, strict=True)},
    }


def together(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of all frames of ``parts``.

    Quantiles are the mean of those of the parts, weighted by their frames, as LeRobot has them.
    """
    counts = np.array([part["count"][0] for part in parts], np.float64)
    weights = counts / counts.sum()

    def weighted(values: list[np.ndarray]) -> np.ndarray:
        return np.tensordot(weights, np.stack(values), axes=1)

    mean = weighted([part["mean"] for part in parts])
    variance = weighted([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    names = [f"q{round(100 * q):02d}" for q in QUANTILES]
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
        **{name: weighted([part[name] for part in parts]) for name in names},
    }
