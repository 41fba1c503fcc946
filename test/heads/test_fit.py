import numpy as np
import pytest

from vit_perception.heads.classification import load_head, save_head
from vit_perception.heads.fit import evaluate, fit_head, held_out


def clusters(classes: int, count: int = 40, seed: int = 0):
    """Well separated Gaussian clusters (n, 8) and their labels."""
    rng = np.random.default_rng(seed)
    centres = 4 * np.eye(8)[:classes]
    labels = [f"class{k % classes}" for k in range(count)]
    features = np.stack(
        [centres[k % classes] + rng.normal(0, 0.5, 8) for k in range(count)]
    ).astype(np.float32)
    return features, labels


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("method", ["logistic", "nearest_mean"])
def test_clusters_are_told_apart_also_after_saving(tmp_path, method, classes):
    features, labels = clusters(classes)
    head = fit_head(features, labels, "cls", method)
    save_head(tmp_path, head)
    unseen, truth = clusters(classes, seed=1)
    loaded = load_head(tmp_path)
    assert evaluate(loaded, unseen, truth).accuracy == 1.0
    scores = loaded.scores(unseen[0], np.zeros((1, 8), np.float32))
    assert scores.sum() == pytest.approx(1) and loaded.labels[scores.argmax()] == truth[0]


def test_logistic_is_scikit_learns(tmp_path):
    from sklearn.linear_model import LogisticRegression

    features, labels = clusters(3)
    features += np.random.default_rng(2).normal(0, 2, features.shape).astype(np.float32)
    head = fit_head(features, labels, "cls")
    unit = (features - features.mean(0)) / (features.std(0) + 1e-6)
    theirs = LogisticRegression(C=1e-2, max_iter=2000).fit(unit, labels).predict_proba(unit)
    ours = np.stack([head.scores(f, np.zeros((1, 8), np.float32)) for f in features])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_nearest_mean_is_the_nearest_mean():
    features, labels = clusters(4)
    features += np.random.default_rng(3).normal(0, 2, features.shape).astype(np.float32)
    head = fit_head(features, labels, "cls", "nearest_mean")
    unit = (features - features.mean(0)) / (features.std(0) + 1e-6)
    means = np.stack([unit[np.array(labels) == name].mean(0) for name in head.labels])
    nearest = [head.labels[k] for k in ((unit[:, None] - means) ** 2).sum(-1).argmin(1)]
    predicted = [
        head.labels[head.scores(f, np.zeros((1, 8), np.float32)).argmax()] for f in features
    ]
    assert predicted == nearest


def test_the_confusion_counts_truth_by_row():
    features, labels = clusters(2, count=10)
    head = fit_head(features, labels, "cls")
    swapped = ["class1" if la == "class0" else la for la in labels]
    evaluation = evaluate(head, features, swapped)
    assert evaluation.confusion.tolist() == [[0, 0], [5, 5]] and evaluation.accuracy == 0.5
    assert "class1" in evaluation.table()


def test_whole_stretches_are_held_out_where_a_class_has_several():
    labels = ["reach"] * 4 + ["grasp"] * 4 + ["reach"] * 4 + ["place"] * 8
    stretches = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 8
    mask = held_out(labels, stretches)
    assert np.flatnonzero(mask).tolist() == [7, 8, 9, 10, 11, 18, 19]


def test_what_cannot_be_fitted_is_named():
    features, labels = clusters(2)
    with pytest.raises(ValueError, match="at least two"):
        fit_head(features, ["one"] * len(labels), "cls")
    with pytest.raises(ValueError, match="'svm'"):
        fit_head(features, labels, "cls", "svm")
    with pytest.raises(ValueError, match="class9.*unknown"):
        evaluate(fit_head(features, labels, "cls"), features[:1], ["class9"])
