"""What travels with a checkpoint's weights: its preprocessing, labels, licence and origin."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

SCORES = ("softmax", "sigmoid")
LONGEST_LABEL = 1000


def check_labels(labels: Sequence[str], whose: str) -> None:
    """Raise ValueError for class names that no message can carry: no texts, very long, or with
    halves of characters.
    """
    for label in labels:
        if (
            not isinstance(label, str)
            or len(label) > LONGEST_LABEL
            or "\0" in label
            or any("\ud800" <= letter <= "\udfff" for letter in label)
        ):
            raise InvalidValue(
                f"a label of {whose} is {label!r:.80}; accepted: a text of up to {LONGEST_LABEL} "
                "characters without NUL"
            )


class _Awaited:
    """A dataclass's field of text that may be given as a function, which is called when the field
    is first read.
    """

    def __set_name__(self, owner: type, name: str):
        self._name = f"_{name}"

    def __get__(self, card: object, owner: type) -> str:
        if card is None:
            return ""  # the default
        value = card.__dict__[self._name]
        if callable(value):
            value = card.__dict__[self._name] = value()
        return value

    def __set__(self, card: object, value: str | Callable[[], str]) -> None:
        card.__dict__[self._name] = value


@dataclass(frozen=True)
class ModelCard:
    """Everything about a checkpoint that a node parameter must not contradict.

    ``mean`` and ``std`` are per channel R, G, B, for pixels scaled to [0, 1]: input = (pixel / 255
    − mean) / std. ``labels`` is empty without a classification head. ``license`` is empty where the
    checkpoint does not say. ``weights_sha256`` is the digest of the weights file; a loader gives a
    function that waits for it, since a large file takes longer to digest than to load, and reading
    the field calls it. Raises ValueError naming the field and its value.
    """

    name: str
    family: str
    license: str
    source: str
    rule: ResizeRule
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: tuple[str, ...] = ()
    scores: str = "softmax"
    weights_sha256: str = _Awaited()

    def __post_init__(self):
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise InvalidValue(
                    f"{name} of model {self.name!r} is {values!r}; accepted: 3 finite numbers, R, "
                    "G, B"
                )
        if min(self.std) <= 0:
            raise InvalidValue(
                f"std of model {self.name!r} is {self.std!r}; accepted: 3 numbers above 0"
            )
        check_labels(self.labels, f"model {self.name!r}")
        if self.scores not in SCORES:
            raise InvalidValue(
                f"scores of model {self.name!r} is {self.scores!r}; accepted: {', '.join(SCORES)}"
            )
