"""All numbers of a fine-tuning run: each declared once, with its default, bounds and help."""

from dataclasses import Field, dataclass, field, fields
from math import inf
from typing import Any

from vit_perception.files.errors import InvalidValue

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a field of :class:`Recipe` says about itself, next to its type and default."""

    # One line for the help of the command line.
    description: str
    # The smallest and the largest value; each is excluded if it is named ``open``.
    low: float = -inf
    high: float = inf
    open_low: bool = False
    open_high: bool = False
    # The accepted texts; empty for a number.
    choices: tuple[str, ...] = ()
    # The default of a model that starts from random weights; None: the same.
    from_random: float | None = None

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is accepted; NaN is not."""
        if self.choices:
            return value in self.choices
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def accepted(self) -> str:
        """Return what is accepted, for an error message."""
        if self.choices:
            return " or ".join(self.choices)
        if self.open_low and self.open_high:
            return f"between {self.low:g} and {self.high:g}"
        if self.open_low:
            return f"above {self.low:g}" + ("" if self.high == inf else f", at most {self.high:g}")
        return f"{self.low:g} or more" if self.high == inf else f"{self.low:g} to {self.high:.10g}"


def number(default: Any, description: str, **bounds: Any) -> Any:
    """Declare a field of :class:`Recipe`; ``bounds`` are further fields of :class:`Declared`."""
    declared = Declared(description=description, **bounds)
    return field(default=default, metadata={"declared": declared})


def declared_of(each: Field) -> Declared:
    """Return the declaration of a field of :class:`Recipe`."""
    return each.metadata["declared"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    The same recipe, start and pictures give the same weights on the same machine.

    Raises:
        InvalidValue: A value is not accepted; ``argument`` names the field.
    """

    epochs: int = number(30, "largest number of epochs", low=1)
    batch: int = number(32, "pictures per step", low=1)
    learning_rate: float = number(
        1e-4, "learning rate after the warm-up", low=0, open_low=True, high=10, from_random=1e-3
    )
    weight_decay: float = number(
        0.05, "weight decay of matrices; biases, norms and embeddings have none", low=0, high=10
    )
    layer_decay: float = number(
        0.75,
        "learning rate of a layer as a share of that of the layer above",
        low=0,
        open_low=True,
        high=1,
        from_random=1.0,
    )
    warmup: float = number(0.1, "share of the steps in which the rate rises", low=0, high=1)
    label_smoothing: float = number(
        0.1, "share of each label that is spread over all classes", low=0, high=0.9
    )
    clip_norm: float = number(1.0, "largest norm of the gradient", low=0, open_low=True)
    patience: int = number(10, "epochs without a better one after which the run stops", low=1)
    crop_scale: float = number(
        0.5, "smallest share of the area in a random crop", low=0, open_low=True, high=1
    )
    flip: bool = number(False, "mirror half of the pictures", low=0, high=1)
    colour: float = number(
        0.0, "largest relative change of brightness, contrast and saturation", low=0, high=1
    )
    held_out: float = number(
        0.25,
        "share held out of each class",
        low=0,
        open_low=True,
        high=1,
        open_high=True,
    )
    precision: str = number("float32", "precision of the products", choices=PRECISIONS)
    seed: int = number(0, "seed of order, crops and colours", low=0, high=(1 << 31) - 1)

    def __post_init__(self):
        for each in fields(self):
            check_value(each.name, getattr(self, each.name))


def check_value(name: str, value: Any) -> None:
    """Check one value of a recipe.

    Raises:
        InvalidValue: ``value`` is not accepted for the field ``name``.
    """
    each = Recipe.__dataclass_fields__[name]
    declared = declared_of(each)
    whole = each.type is not int or isinstance(value, int)
    if not (whole and declared.holds(value)):
        raise InvalidValue(f" is {value!r}; accepted: {declared.accepted()}", argument=name)


def defaults_from_random() -> dict[str, float]:
    """Return the defaults that differ for a model that starts from random weights, by field."""
    declared = {each.name: declared_of(each).from_random for each in fields(Recipe)}
    return {name: value for name, value in declared.items() if value is not None}
