import numpy as np
import pytest
import torch

from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer
from vit_perception.training.optimiser import (
    decays,
    layers_below_the_head,
    learning_rate_at,
    make_optimiser,
    set_learning_rate,
)
from vit_perception.training.recipe import Recipe
from vit_perception.training.start import classifier_config


def model():
    return VisionTransformer(classifier_config(VARIANTS["test"], 3, None))


def test_weight_decay_is_on_matrices_alone():
    named = dict(model().named_parameters())
    kept = {name for name, parameter in named.items() if not decays(name, parameter)}
    assert {
        "cls_token",
        "position_embedding",
        "register_tokens",
        "norm.weight",
        "head.bias",
        "blocks.0.norm_mlp.weight",
        "blocks.0.scale_mlp.factor",
        "blocks.0.attention.query.bias",
    } <= kept
    assert set(named) - kept == {name for name, p in named.items() if p.ndim > 1 and "." in name}
    assert (
        "patch_embedding.projection.weight" in set(named) - kept
        and "head.weight" in set(named) - kept
    )


def test_every_parameter_is_in_one_group_with_its_layers_rate():
    made, recipe = model(), Recipe(layer_decay=0.5, weight_decay=0.1)
    optimiser = make_optimiser(made, recipe)
    set_learning_rate(optimiser, 1.0)
    rates = {
        id(p): (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]
    }
    named = dict(made.named_parameters())
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(named) == len(rates)
    for name, expected in {
        "head.weight": (1.0, 0.1),
        "norm.bias": (1.0, 0.0),
        "blocks.2.mlp.up.weight": (0.5, 0.1),
        "blocks.0.mlp.up.weight": (0.125, 0.1),
        "cls_token": (0.0625, 0.0),
        "patch_embedding.projection.weight": (0.0625, 0.1),
    }.items():
        assert rates[id(named[name])] == expected, name
    assert layers_below_the_head("blocks.11.norm_mlp.bias", 12) == 1


def test_the_rate_rises_to_its_peak_and_falls_along_a_cosine():
    recipe = Recipe(learning_rate=0.5, warmup=0.1)
    rates = np.array([learning_rate_at(step, 100, recipe) for step in range(100)])
    assert rates[:10] == pytest.approx(0.05 * np.arange(1, 11))
    assert rates[10] == 0.5 and rates[55] == pytest.approx(0.25) and 0 < rates[99] < 0.001
    assert np.all(np.diff(rates[10:]) < 0)
    assert learning_rate_at(0, 1, recipe) == 0.5


def test_decay_pulls_the_matrices_and_nothing_else():
    made = model()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    optimiser = make_optimiser(made, Recipe(weight_decay=0.1, layer_decay=1.0))
    set_learning_rate(optimiser, 0.5)
    for p in made.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    assert torch.allclose(made.head.weight, before["head.weight"] * 0.95)
    assert torch.equal(made.position_embedding, before["position_embedding"])


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0),
        ("batch", -1),
        ("learning_rate", 0.0),
        ("warmup", 1.5),
        ("held_out", 1.0),
        ("crop_scale", 0.0),
        ("precision", "float16"),
        ("seed", -1),
        ("learning_rate", float("nan")),
        ("layer_decay", 1.1),
    ],
)
def test_a_number_out_of_bounds_is_named(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}; accepted:"):
        Recipe(**{field: value})
