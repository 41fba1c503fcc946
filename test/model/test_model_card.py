"""The model card refuses what would make a normalisation silently wrong."""

import pytest

from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.model_card import ModelCard

FIELDS = {
    "name": "m",
    "family": "vit",
    "license": "apache-2.0",
    "source": "here",
    "rule": ResizeRule((224, 224)),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


def test_defaults():
    card = ModelCard(**FIELDS)
    assert (card.labels, card.scores, card.weights_sha256) == ((), "softmax", "")


@pytest.mark.parametrize(
    "field, value, accepted",
    [
        ("mean", (0.5, 0.5), "3 finite numbers"),
        ("std", (0.5, 0.0, 0.5), "3 numbers above 0"),
        ("mean", (0.5, float("nan"), 0.5), "3 finite numbers"),
        ("scores", "logits", "softmax, sigmoid"),
    ],
)
def test_a_bad_field_is_named(field, value, accepted):
    with pytest.raises(ValueError) as error:
        ModelCard(**{**FIELDS, field: value})
    assert str(error.value).startswith(f"{field} of model 'm' is {value!r}; accepted: {accepted}")
