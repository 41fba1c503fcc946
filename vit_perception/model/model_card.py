"""What travels with a checkpoint's weights: its preprocessing, labels, licence and origin."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule

SCORES = ("softmax", "sigmoid")
LONGEST_LABEL = 1000


def check_labels(labels: Sequence[str], whose: str) -> None:
    """Check class names.

    Raises:
        ValueError: No message can carry one: it is no text, very long, or holds half a character.
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


class _LazyText:
    """A dataclass's text field. A function given in its place is called when it is first read."""

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

    Raises:
        ValueError: A field is wrong.
    """

    name: str
    family: str
    # Empty if the checkpoint does not say.
    license: str
    # What ``model.checkpoint`` was; of a hub repository with its commit.
    source: str
    rule: ResizeRule
    # Of R, G, B, for pixels scaled to [0, 1]: input = (pixel / 255 − mean) / std.
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    # Empty without a classification head.
    labels: tuple[str, ...] = ()
    # Makes scores of logits: one of SCORES.
    scores: str = "softmax"
    # Whether rule, mean and std are given by hand, by a file that says so or by parameters. The
    # name says it, too.
    by_hand: bool = False
    # Digest of the weights file; of a policy, of the tensors that are read. A large file takes
    # longer to digest than to load, so a loader gives a function that waits for it.
    weights_sha256: str = _LazyText()

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
