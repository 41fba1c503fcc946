"""The numbers of a training run: declared once, read by the check and by the command line."""

from argparse import ArgumentParser
from dataclasses import fields

import pytest

from vit_perception.cli import fit
from vit_perception.cli.fit_finetune import recipe_of
from vit_perception.training.recipe import Recipe, declared_of, defaults_from_random

FIELDS = fields(Recipe)


def parsed(*options):
    parser = ArgumentParser()
    fit.add_arguments(parser)
    return parser, parser.parse_args(["--images", "folder", "--out", "out", *options])


@pytest.mark.parametrize("each", FIELDS, ids=lambda each: each.name)
def test_every_field_is_an_option_with_its_own_help_and_type(each):
    declared = declared_of(each)
    parser, _ = parsed()
    option = f"--{each.name.replace('_', '-')}"
    action = next(a for a in parser._actions if option in a.option_strings)
    assert declared.description in action.help
    if each.type is not bool:
        assert action.type is each.type
        assert f"(default: {each.default}" in action.help


def test_without_options_the_recipe_has_its_defaults():
    assert recipe_of(parsed()[1]) == Recipe()
    assert recipe_of(parsed("--variant", "test")[1]) == Recipe(**defaults_from_random())


def test_an_option_stands_above_the_default_of_random_weights():
    given = recipe_of(parsed("--variant", "test", "--layer-decay", "0.5", "--flip")[1])
    assert (given.layer_decay, given.learning_rate, given.flip) == (0.5, 1e-3, True)


@pytest.mark.parametrize("each", FIELDS, ids=lambda each: each.name)
def test_the_bounds_are_those_that_the_error_says(each):
    declared = declared_of(each)
    assert declared.holds(each.default)
    if declared.choices:
        return
    assert not declared.holds(float("nan"))
    assert declared.holds(declared.low) is not declared.open_low
    assert declared.holds(declared.high) is not declared.open_high


@pytest.mark.parametrize(
    "field, value, accepted",
    [
        ("epochs", 0, "1 or more"),
        ("epochs", 1.5, "1 or more"),
        ("learning_rate", 0.0, "above 0, at most 10"),
        ("clip_norm", -1.0, "above 0"),
        ("warmup", 1.5, "0 to 1"),
        ("held_out", 1.0, "between 0 and 1"),
        ("precision", "float16", "float32 or bfloat16"),
        ("seed", 1 << 31, "0 to 2147483647"),
    ],
)
def test_the_error_names_the_argument_the_value_and_what_is_accepted(field, value, accepted):
    with pytest.raises(ValueError) as caught:
        Recipe(**{field: value})
    assert caught.value.argument == field
    assert str(caught.value) == f"{field} is {value!r}; accepted: {accepted}"
