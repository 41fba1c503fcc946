"""The policy's state as a token source: one token, made of poses and joint states.

``policy.state`` lists parts of other sources, such as ``arm.position`` or ``gripper``. Their
numbers, in this order, are normalised and projected as the policy in the checkpoint does it. The
token is missing where one of these sources has no sample within its limits of time.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import POLICY, EncoderSettings
from vit_perception.tokens.components import PARAMETER, Part, parts_of
from vit_perception.tokens.frame import EncoderGrid, FrameInputs
from vit_perception.tokens.source import (
    CheckpointTokens,
    DerivedSource,
    SampledSource,
    TokenRows,
    TokenSource,
    register,
    registered,
    sampled,
)
from vit_perception.tokens.tokenizer import Tokenizer
from vit_perception.wire.layout import LayoutPolicyState
from vit_perception.wire.records import BadInput, TokenGroup

if TYPE_CHECKING:
    from vit_perception.heads.policy_state import StateProjection, StateSpec

KIND = "policy_state"
# Statistics are rounded, and quaternions are of unit length within a tolerance.
_ROUNDED = 1.001


class PolicyStateTokenizer:
    """The policy's normalisation and its linear layer, without torch."""

    kind = KIND

    def __init__(self, projection: "StateProjection", in_sequence: bool):
        spec = self.spec = projection.spec
        self.width = spec.width
        # Whether the token is as wide as those of the encoder.
        self.in_sequence = in_sequence
        layer = projection.projection
        weight = layer.weight.detach().float().numpy()
        # The inputs behind the state's numbers are zeros.
        self._weight = np.ascontiguousarray(weight[:, : spec.count])
        self._bias = layer.bias.detach().float().numpy().copy()
        digest = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode())
        digest.update(self._weight.tobytes())
        digest.update(self._bias.tobytes())
        self.weights_sha256 = digest.hexdigest()

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Return the token (1, width) float32 of ``numbers`` (count,), in the policy's order."""
        # einsum runs on this thread; torch and BLAS would wait for others on a busy CPU.
        with np.errstate(over="ignore", invalid="ignore"):  # token_groups looks at the token
            normalised = self.spec.normalised(numbers)
            token: np.ndarray = np.einsum("ij,j->i", self._weight, normalised) + self._bias
        return token[None]


@register
class PolicyStateSource(DerivedSource):
    """The state of the policy whose checkpoint is loaded, made as ``policy.state`` says."""

    group = POLICY
    label = "policy state"
    # Behind everything else, as policies have it behind the images.
    rank = 1000

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(_Named(settings))
        every = [
            each
            for kind in registered()
            if issubclass(kind, SampledSource)
            for each in kind.of(settings)
        ]
        self.parts = parts_of(settings.policy.state, sampled(every))
        self.made_of = tuple(dict.fromkeys(part.source for part in self.parts))

    @classmethod
    def of(cls, settings: EncoderSettings) -> list[TokenSource]:
        """Return one source, or none without ``policy.state``.

        Raises:
            BadSetting: ``policy.state`` names what is not there.
        """
        return [cls(settings)] if settings.policy.state else []

    @classmethod
    def tokenizers(
        cls,
        sources: "Sequence[PolicyStateSource]",
        settings: EncoderSettings,
        checkpoint: CheckpointTokens,
    ) -> dict[str, Tokenizer]:
        """Return the policy's own projection.

        Raises:
            BadSetting: the checkpoint has none, or it was trained with other numbers.
        """
        found: dict[str, Tokenizer] = {}
        for source in sources:
            if checkpoint.state is None:
                raise BadSetting(
                    PARAMETER,
                    list(settings.policy.state),
                    f"none with {checkpoint.name}: only a policy with a projection and statistics "
                    "of its state takes one (docs/policies.md)",
                )
            check_parts(source.parts, checkpoint.state.spec, checkpoint.name)
            found[source.name] = PolicyStateTokenizer(
                checkpoint.state, checkpoint.state.spec.width == checkpoint.width
            )
        return found

    @classmethod
    def layout_fields(
        cls,
        sources: "Sequence[PolicyStateSource]",
        settings: EncoderSettings,
        tokenizers: Mapping[str, Tokenizer],
    ) -> dict[str, Any]:
        """Return what the token is made of; nothing without ``policy.state``."""
        fields: dict[str, Any] = {}
        for source in sources:
            tokenizer: Any = tokenizers[source.name]
            numbered = [(part, name) for part in source.parts for name in part.names]
            fields["policy_state"] = LayoutPolicyState(
                parts=tuple(part.text for part in source.parts),
                numbers=tuple(name for _, name in numbered),
                units=tuple(part.component.unit for part, _ in numbered),
                normalisation=tokenizer.spec.normalisation,
                sha256=tokenizer.weights_sha256,
            )
        return fields

    def token_rows(
        self, encoders: Sequence[EncoderGrid], tokenizers: Mapping[str, Any]
    ) -> tuple[TokenRows, ...]:
        """Return one row, apart from the sequence where its width is another."""
        tokenizer = tokenizers[self.name]
        return (TokenRows(KIND, 1, width_apart=None if tokenizer.in_sequence else tokenizer.width),)

    def token_groups(self, frame: FrameInputs) -> list[TokenGroup]:
        """Return the token; zeros where a sample is missing.

        Raises:
            BadInput: ``not_finite``: the statistics make infinities of the numbers.
        """
        tokenizer: Any = frame.tokenizers[self.name]
        values = {name: frame.samples[name].value for name in self.made_of}
        is_there = all(value is not None for value in values.values())
        token = np.zeros((1, tokenizer.width), np.float32)
        if is_there:
            given = [part.component.of(values[part.source]) for part in self.parts]
            numbers = np.concatenate(given)
            token = tokenizer.encode(numbers)
            if not np.isfinite(token).all():
                raise BadInput(
                    "not_finite",
                    f"the policy's state token of {numbers.tolist()!s:.200} is not finite; "
                    "accepted: numbers that the policy's statistics can normalise",
                )
        return [TokenGroup(KIND, self.name, token, is_there, apart=not tokenizer.in_sequence)]


class _Named:
    """Settings as a source has them: with a name."""

    name = POLICY

    def __init__(self, settings: EncoderSettings) -> None:
        self.state = settings.policy.state


def check_parts(parts: Sequence[Part], spec: "StateSpec", checkpoint: str) -> None:
    """Check count, units and order of the numbers of ``parts`` against what a policy declares.

    Raises:
        BadSetting: they cannot be those that it was trained with.
    """
    texts = [part.text for part in parts]
    counts = [len(part.component.numbers) for part in parts]
    if sum(counts) != spec.count:
        each = ", ".join(f"{text} {count}" for text, count in zip(texts, counts))
        raise BadSetting(
            PARAMETER,
            texts,
            f"{spec.count} numbers, with which the policy {checkpoint} was trained; these are "
            f"{sum(counts)}: {each}",
        )
    for problem in (*_wrong_units(parts, spec), *_wrong_order(parts, spec)):
        raise BadSetting(PARAMETER, texts, problem)


def _wrong_units(parts: Sequence[Part], spec: "StateSpec") -> Iterator[str]:
    """Yield what is accepted instead of a number that the policy's statistics rule out.

    A mean, a deviation and a quantile of numbers up to L are themselves at most L.
    """
    numbered = [(part, name) for part in parts for name in part.names]
    for (part, name), first, second in zip(numbered, spec.first, spec.second):
        largest = part.component.largest
        if max(abs(first), abs(second)) > _ROUNDED * largest:
            unit = "" if part.component.unit == "1" else f" {part.component.unit}"
            yield (
                f"parts in the units of the policy's statistics: {name} is at most {largest:.4g}"
                f"{unit}, and the {spec.normalisation} of that number are {first:.4g} and "
                f"{second:.4g}"
            )


def _wrong_order(parts: Sequence[Part], spec: "StateSpec") -> Iterator[str]:
    """Yield what is accepted instead of a number that the policy declares at another place.

    Names that only one side has say nothing: robots and data sets name joints differently.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(spec.names):
        places.setdefault(name.lower(), []).append(place)
    numbered = [(part, number) for part in parts for number in part.component.numbers]
    owners: dict[str, list[int]] = {}
    for index, (part, number) in enumerate(numbered):
        for alias in part.also_called(number):
            owners.setdefault(alias, []).append(index)
    for alias, indices in owners.items():
        declared = places.get(alias, [])
        if len(indices) == len(declared) == 1 and indices != declared:
            part, number = numbered[indices[0]]
            yield (
                f"the policy's order {', '.join(spec.names)}: {part.text}.{number} is number "
                f"{indices[0] + 1} here and number {declared[0] + 1} there"
            )
