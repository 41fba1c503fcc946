"""A policy's projection of the robot's state: normalised numbers, one linear layer, one token."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from vit_perception.files.errors import InvalidValue

# What the two statistics of a number are: LeRobot's kinds of normalisation.
NORMALISATIONS = {
    "identity": (),
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantiles": ("q01", "q99"),
    "quantile10": ("q10", "q90"),
}
# LeRobot's: added to a deviation, and in the place of a range of zero.
_EPS = 1e-8
_MOST_NUMBERS = 4096
_MOST_WIDTH = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """The shape of a policy's state projection.

    Raises:
        ValueError: A field is wrong; the error names it.
    """

    # Numbers of the robot's state that the policy was trained with.
    count: int
    # Inputs of the projection; those after the first ``count`` are zeros.
    inputs: int
    # Channels of the token that comes out.
    width: int
    # How the numbers are normalised: one of NORMALISATIONS.
    normalisation: str = "identity"
    # Its two statistics, one number each; empty for ``identity``.
    first: tuple[float, ...] = ()
    second: tuple[float, ...] = ()
    # What the policy calls its numbers; empty where its files do not say.
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", tuple(map(float, self.first)))
        object.__setattr__(self, "second", tuple(map(float, self.second)))
        statistics = 0 if self.normalisation == "identity" else self.count
        for name, holds, accepted in (
            ("inputs", _is_count(self.inputs, _MOST_NUMBERS), f"1 to {_MOST_NUMBERS}"),
            ("count", _is_count(self.count, self.inputs), f"1 to {self.inputs}, the inputs"),
            ("width", _is_count(self.width, _MOST_WIDTH), f"1 to {_MOST_WIDTH}"),
            ("normalisation", self.normalisation in NORMALISATIONS, ", ".join(NORMALISATIONS)),
            ("first", _are_numbers(self.first, statistics), f"{statistics} finite numbers"),
            ("second", _are_numbers(self.second, statistics), f"{statistics} finite numbers"),
            ("names", _are_names(self.names, self.count), f"{self.count} names, or none"),
        ):
            if not holds:
                raise InvalidValue(
                    f"{name} of the policy's state is {getattr(self, name)!r:.80}; accepted: "
                    f"{accepted}"
                )

    def as_json(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        # Without names that are not there: earlier versions of the package do not know the field.
        return {name: value for name, value in asdict(self).items() if name != "names" or value}

    def normalised(self, numbers: np.ndarray) -> np.ndarray:
        """Normalise the numbers of one state, (count,), as the policy was trained; float32.

        Raises:
            ValueError: They are not ``count``.
        """
        if numbers.shape != (self.count,):
            raise InvalidValue(
                f"the state has the shape {numbers.shape}; accepted: ({self.count},), the numbers "
                "that the policy was trained with"
            )
        state = numbers.astype(np.float32)
        if self.normalisation == "identity":
            return state
        first = np.array(self.first, np.float32)
        second = np.array(self.second, np.float32)
        if self.normalisation == "mean_std":
            return (state - first) / (second + np.float32(_EPS))
        spread = second - first
        spread = np.where(spread == 0, np.float32(_EPS), spread)
        return 2 * (state - first) / spread - 1


class StateProjection(nn.Module):
    """The numbers of a state to one token."""

    def __init__(self, spec: StateSpec):
        super().__init__()
        self.spec = spec
        self.projection = nn.Linear(spec.inputs, spec.width)

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Make the token (1, width) float32 of ``numbers`` (count,), in the policy's order and
        units.

        Raises:
            ValueError: As :meth:`StateSpec.normalised`.
        """
        padded = np.zeros((1, self.spec.inputs), np.float32)
        padded[0, : self.spec.count] = self.spec.normalised(numbers)
        with torch.inference_mode():
            token: np.ndarray = self.projection(torch.from_numpy(padded)).numpy()
        return token


def make_state_projection(spec: StateSpec) -> StateProjection:
    """Make a state projection on the meta device, to be given weights."""
    with torch.device("meta"):
        return StateProjection(spec)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _are_names(values: object, count: int) -> bool:
    return isinstance(values, tuple) and (
        not values
        or (len(values) == count and all(isinstance(value, str) and value for value in values))
    )


def _are_numbers(values: tuple[float, ...], count: int) -> bool:
    return len(values) == count and bool(np.isfinite(values).all())
