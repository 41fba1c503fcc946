"""Prompts, the mean of their vectors, and logits, by hand."""

import numpy as np
import pytest

from vit_perception.heads.text_weights import ZeroShotHead, class_embeddings, prompts_of


def test_prompts_stand_label_by_label():
    assert prompts_of(("cup", "a {b}"), ("a {}.", "{} on a table")) == [
        "a cup.",
        "cup on a table",
        "a a {b}.",
        "a {b} on a table",
    ]


def test_templates_are_averaged_as_unit_vectors():
    # (3, 4) is 5 long, (0, 2) is 2 long: (0.6, 0.8) and (0, 1), mean (0.3, 0.9), length sqrt(0.9).
    vectors = class_embeddings(np.array([[3.0, 4.0], [0.0, 2.0]]), 2)
    np.testing.assert_allclose(vectors, [[0.3 / 0.9**0.5, 0.9 / 0.9**0.5]], rtol=1e-6)
    assert vectors.dtype == np.float32


def test_logits_by_hand():
    texts = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    projection = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    head = ZeroShotHead(
        labels=("cup", "can"), texts=texts, scale=10.0, bias=-2.0, projection=projection
    )
    # (4, 3, 9) is projected to (3, 4), of length 5: cosines 0.6 and 0.8.
    np.testing.assert_allclose(head.logits(np.array([4.0, 3.0, 9.0])), [4.0, 6.0], rtol=1e-6)
    np.testing.assert_allclose(
        head.scores(np.array([4.0, 3.0, 9.0])), [1 / (1 + np.e**2), 1 / (1 + np.e**-2)], rtol=1e-5
    )
    each = ZeroShotHead(labels=("cup", "can"), texts=texts, scale=10.0, bias=-2.0, kind="sigmoid")
    np.testing.assert_allclose(
        each.scores(np.array([3.0, 4.0])), 1 / (1 + np.exp([-4.0, -6.0])), rtol=1e-5
    )


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"texts of a zero-shot head have the shape \(2, 3\), .*accepted: \(1, E\)"
    ):
        ZeroShotHead(("cup",), np.zeros((2, 3), np.float32), 1.0)
    with pytest.raises(ValueError, match=r"its projection \(4, 8\)"):
        ZeroShotHead(
            labels=("cup", "can"),
            texts=np.zeros((2, 3), np.float32),
            scale=1.0,
            projection=np.zeros((4, 8), np.float32),
        )
