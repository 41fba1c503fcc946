"""Fit a classification head on encoder features: nearest class mean, or logistic regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue, printable
from vit_perception.heads.classification import Head

METHODS = ("logistic", "nearest_mean")
_MOST_IN_A_TABLE = 40


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a head is on features that it has not seen."""

    # The K class names.
    labels: tuple[str, ...]
    # (K, K) counts: rows are the truth, columns the prediction.
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    def table(self) -> str:
        """Return the confusion matrix as text: truth down, prediction across."""
        names = [printable(label, _MOST_IN_A_TABLE, keep="") for label in self.labels]
        width = max(map(len, names)) + 2
        rows = [" " * width + "".join(name.rjust(width) for name in names)]
        rows += [
            name.ljust(width) + "".join(str(n).rjust(width) for n in counts)
            for name, counts in zip(names, self.confusion)
        ]
        return "\n".join(rows)


def fit_head(
    features: np.ndarray,
    labels: Sequence[str],
    feature: str,
    method: str = "logistic",
    regularisation: float = 1e-2,
    seed: int = 0,
) -> Head:
    """Fit a head on ``features`` (n, F) float32 with one of ``labels`` each.

    Classes are in the order of their names. Features are standardised; mean and scale are saved
    with the head. ``logistic`` is scikit-learn's, with C = ``regularisation``. ``nearest_mean``
    scores by the squared distance to each class's mean, in units of the variance within the
    classes.

    Raises:
        InvalidValue: There are fewer than two classes, or ``method`` is unknown.
    """
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise InvalidValue(
            f"the labels are {', '.join(names) or 'none'}; accepted: at least two classes"
        )
    if method not in METHODS:
        raise InvalidValue(f"method is {method!r}; accepted: {', '.join(METHODS)}")
    classes = np.array([names.index(label) for label in labels])
    mean = features.mean(axis=0)
    scale = features.std(axis=0) + 1e-6  # a constant feature must not become infinite
    unit = (features - mean) / scale
    if method == "nearest_mean":
        weight, bias = _nearest_mean(unit, classes, len(names))
    else:
        weight, bias = _logistic(
            unit=unit, classes=classes, regularisation=regularisation, seed=seed
        )
    return Head(labels=names, weight=weight, bias=bias, feature=feature, mean=mean, scale=scale)


def _nearest_mean(
    unit: np.ndarray, classes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return −|x − μ|² / 2σ² without the part that all classes share; it is linear in x."""
    means = np.stack([unit[classes == k].mean(axis=0) for k in range(count)])  # (K, F)
    variance = float(np.square(unit - means[classes]).sum() / len(unit)) or 1.0
    return means / variance, -np.square(means).sum(axis=1) / (2 * variance)


def _logistic(
    unit: np.ndarray, classes: np.ndarray, regularisation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=regularisation, max_iter=2000, random_state=seed).fit(
        unit, classes
    )
    # Of two classes scikit-learn keeps one row; half of it for each class is the same.
    if len(model.coef_) == 1:
        signs = np.array([-0.5, 0.5])
        return signs[:, None] * model.coef_, signs * model.intercept_
    return model.coef_, model.intercept_


def evaluate(head: Head, features: np.ndarray, labels: Sequence[str]) -> Evaluation:
    """Return the confusion of ``head`` on ``features`` (n, F).

    Raises:
        InvalidValue: The head does not have one of the labels.
    """
    unknown = sorted(set(labels) - set(head.labels))
    if unknown:
        raise InvalidValue(
            f"label {', '.join(unknown)} is unknown to the head; accepted: {', '.join(head.labels)}"
        )
    predicted = np.argmax(((features - head.mean) / head.scale) @ head.weight.T + head.bias, axis=1)
    confusion = np.zeros((len(head.labels),) * 2, int)
    np.add.at(confusion, ([head.labels.index(label) for label in labels], predicted), 1)
    return Evaluation(head.labels, confusion)


def held_out(labels: Sequence[str], stretches: Sequence[int], share: float = 0.25) -> np.ndarray:
    """Return a mask (n,) bool of the samples to hold out, about ``share`` of each class.

    None is held out of a class with a single sample. ``stretches`` numbers the run of frames that
    each sample belongs to. Frames of a video are alike, so random ones would be near copies of
    training samples. Complete stretches are held out instead: the last ones of a class, or the end
    of its only one.
    """
    classes = np.asarray(labels)
    numbers = np.asarray(stretches)
    mask = np.zeros(len(numbers), bool)
    for name in np.unique(classes):
        runs = np.unique(numbers[classes == name])
        if len(runs) > 1:
            mask |= np.isin(numbers, runs[-max(1, round(share * len(runs))) :]) & (classes == name)
        else:
            members = np.flatnonzero(classes == name)
            count = min(max(1, round(share * len(members))), len(members) - 1)
            mask[members[len(members) - count :]] = count > 0
    return mask
