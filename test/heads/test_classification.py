"""Classification heads: scores by hand, the folder on disk, names of classes, and what is
refused.
"""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from vit_perception.heads.classification import (
    Head,
    features_of,
    load_head,
    save_head,
    softmax,
    top_classes,
)
from vit_perception.wire.records import ClassScore

CLS, PATCHES = np.array([1.0, 2.0], np.float32), np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)


def small_head(**changes) -> Head:
    fields = {
        "labels": ("cup", "can"),
        "weight": np.array([[1.0, 0.0], [0.0, 1.0]]),
        "bias": np.array([0.0, 0.5]),
        "mean": np.array([1.0, 0.0]),
        "scale": np.array([1.0, 2.0]),
    }
    return Head(**{**fields, **changes})


def test_features():
    assert features_of(CLS, PATCHES, "cls").tolist() == [1, 2]
    assert features_of(CLS, PATCHES, "mean").tolist() == [2, 4]
    assert features_of(CLS, PATCHES, "cls_mean").tolist() == [1, 2, 2, 4]
    with pytest.raises(ValueError, match="feature is 'max'; accepted: cls, mean, cls_mean"):
        features_of(CLS, PATCHES, "max")


def test_softmax_of_large_logits_stays_finite():
    assert softmax(np.array([1000.0, 1000.0])).tolist() == [0.5, 0.5]
    assert softmax(np.zeros((2, 4))).dtype == np.float32


def test_scores_by_hand():
    # Standardised features (0, 1), logits (0, 1.5): scores 1 / (1 + e^1.5) and its complement.
    scores = small_head().scores(CLS, PATCHES)
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([0.182426, 0.817574], abs=1e-6)


def test_mean_and_scale_default_to_nothing():
    plain = small_head(mean=None, scale=None)
    assert plain.scores(CLS, PATCHES).tolist() == pytest.approx(
        softmax(np.array([1.0, 2.5])).tolist()
    )


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="cls features are of width 3; accepted by this head: 2"):
        small_head().scores(np.zeros(3), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="cls_mean features are of width 4"):
        small_head(feature="cls_mean").scores(CLS, PATCHES)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": ()}, "no labels"),
        ({"feature": "max"}, "feature of a head is 'max'"),
        ({"bias": np.zeros(3)}, r"bias of a head has shape \(3,\); accepted: \(2,\) for 2 labels"),
        ({"weight": np.zeros(2)}, "weight of a head has shape"),
        (
            {"scale": np.array([1.0, 0.0])},
            "scale of a head holds 0.0 to 1.0; accepted: finite numbers above 0",
        ),
        ({"weight": np.full((2, 2), np.nan)}, "weight of a head holds nan"),
    ],
)
def test_a_bad_head_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_head(**changes)


def test_a_head_survives_its_folder(tmp_path):
    head = small_head(labels=("Tasse", "boîte"), feature="mean")
    save_head(tmp_path / "head", head)
    loaded = load_head(tmp_path / "head")
    assert (loaded.labels, loaded.feature) == (head.labels, "mean")
    for name in ("weight", "bias", "mean", "scale"):
        assert np.array_equal(getattr(loaded, name), getattr(head, name))


def test_a_bad_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="no file head.safetensors; accepted: a folder with"):
        load_head(tmp_path)
    save_head(tmp_path, small_head())
    (tmp_path / "labels.json").write_text(json.dumps({"labels": ["cup"], "feature": "cls"}))
    with pytest.raises(ValueError, match="weight of a head has shape"):
        load_head(tmp_path)
    (tmp_path / "labels.json").write_text('["cup", "can"]')
    with pytest.raises(ValueError, match='labels.json: .*accepted: {"labels"'):
        load_head(tmp_path)
    save_head(tmp_path, small_head())
    save_file({"weight": np.zeros((2, 2))}, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="holds weight; accepted: weight, bias, mean, scale"):
        load_head(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(ValueError, match="head.safetensors: .*accepted: a whole safetensors file"):
        load_head(tmp_path)


def test_top_classes_best_first_and_repeated_names_told_apart():
    scores = np.array([0.1, 0.5, 0.3, 0.1], np.float32)
    best = top_classes(scores, ("crane", "cup", "crane", "can"), 3)
    assert [c.class_id for c in best] == ["cup", "crane#2", "crane#0"]
    assert best[0] == ClassScore("cup", 0.5)
    assert len(top_classes(scores, ("a", "b", "c", "d"), 9)) == 4
    with pytest.raises(ValueError, match="4 scores and 2 labels"):
        top_classes(scores, ("a", "b"), 1)
