"""All numbers of a fine-tuning run, checked when they are made."""

import math
from dataclasses import dataclass

from vit_perception.files.errors import InvalidValue

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the same recipe, start and pictures give the same weights on the same
    machine.

    ``learning_rate`` is the peak, after a linear warm-up over the share ``warmup`` of all steps,
    and falls to 0 along a cosine; a layer k below the head has it times ``layer_decay`` ** k.
    ``crop_scale`` is the smallest share of a picture's area that a random crop has; ``colour`` the
    largest relative change of brightness, contrast and saturation; ``held_out`` the share of each
    class that is tested on; ``patience`` the number of epochs without a better one after which the
    run stops. Raises ValueError naming the field.
    """

    epochs: int = 30
    batch: int = 32
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    patience: int = 10
    crop_scale: float = 0.5
    flip: bool = False
    colour: float = 0.0
    held_out: float = 0.25
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "patience"):
            self._require(
                name, isinstance(getattr(self, name), int) and getattr(self, name) >= 1, "1 or more"
            )
        for name, low, high in (
            ("learning_rate", 0.0, 10.0),
            ("layer_decay", 0.0, 1.0),
            ("clip_norm", 0.0, math.inf),
            ("crop_scale", 0.0, 1.0),
        ):
            self._require(
                name, low < getattr(self, name) <= high, f"above {low:g}, at most {high:g}"
            )
        for name, high in (
            ("weight_decay", 10.0),
            ("colour", 1.0),
            ("warmup", 1.0),
            ("label_smoothing", 0.9),
        ):
            self._require(name, 0.0 <= getattr(self, name) <= high, f"0 to {high:g}")
        self._require("held_out", 0.0 < self.held_out < 1.0, "between 0 and 1")
        self._require("precision", self.precision in PRECISIONS, " or ".join(PRECISIONS))
        self._require(
            "seed", isinstance(self.seed, int) and 0 <= self.seed < 1 << 31, "0 to 2147483647"
        )

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise InvalidValue(f" is {getattr(self, name)!r}; accepted: {accepted}", argument=name)
