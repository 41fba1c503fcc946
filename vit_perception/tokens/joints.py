"""Joint states as token sources."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.streams.joint_history import JointSamples, StateHistory, joint_samples_of
from vit_perception.tokens.components import Component
from vit_perception.tokens.source import CheckpointTokens, SampledSource, register
from vit_perception.tokens.tokenizer import Tokenizer, make_state_tokenizer
from vit_perception.wire.layout import STATE_TYPE, LayoutState

# Of sliding joints, and of most grippers, m and m/s.
UNITS = {"position": "rad or m", "velocity": "rad/s or m/s"}
# What LeRobot's data sets call a joint's numbers, behind its name.
ENDINGS = {"position": ("", ".pos", ".position"), "velocity": (".vel", ".velocity")}


def _slice_of(numbers: slice) -> Callable[[Any], np.ndarray]:
    return lambda state: state.numbers[numbers]


@register
class JointSource(SampledSource):
    """The joints of one mechanism, by name; several drivers may share its JointState topic."""

    group = "states"
    label = "state"
    rank = 2
    kind = "state"
    policy = "state_policy"
    sample_label = "joint state"
    type = STATE_TYPE

    def sample_of(self, message: Any) -> JointSamples:
        """Return those of its joints that a JointState names. Raises BadInput."""
        return joint_samples_of(message, self.settings)

    def history(self, keep_s: float) -> StateHistory:
        """Return a history in which each joint has its own samples."""
        return StateHistory(self.settings, keep_s)

    def components(self) -> Mapping[str, Component]:
        """Return one number of each joint: its position, or its velocity."""
        joints = self.settings.joints
        count = len(joints)
        found: dict[str, Component] = {}
        for place, field in enumerate(self.settings.fields):
            of = _slice_of(slice(place * count, (place + 1) * count))
            found[field] = Component(joints, UNITS[field], of, endings=ENDINGS[field])
        if "position" in found:
            found[""] = found["position"]
            position = found["position"].of
            found["position_deg"] = Component(
                joints,
                "deg",
                lambda state: np.degrees(position(state)),
                endings=ENDINGS["position"],
            )
        return found

    @classmethod
    def tokenizers(
        cls,
        sources: Sequence[SampledSource],
        settings: EncoderSettings,
        checkpoint: CheckpointTokens,
    ) -> dict[str, Tokenizer]:
        """Return one per joint state: they differ in their count of numbers."""
        kind = settings.fusion.state_tokenizer
        return {s.name: make_state_tokenizer(kind, checkpoint.width, s.settings) for s in sources}

    @classmethod
    def layout_fields(
        cls,
        sources: Sequence[SampledSource],
        settings: EncoderSettings,
        tokenizers: Mapping[str, Tokenizer],
    ) -> dict[str, Any]:
        """Return the fields of schema version 1 that only joint states have."""
        states = tuple(
            LayoutState(
                name=source.name,
                joints=source.settings.joints,
                fields=source.settings.fields,
                tokenizer_sha256=tokenizers[source.name].weights_sha256,
                continuous=source.settings.continuous,
            )
            for source in sources
        )
        return {"states": states, "state_tokenizer": settings.fusion.state_tokenizer}
