"""End effectors' poses as token sources."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.streams.pose_history import PoseHistory, pose_of
from vit_perception.streams.rotation import (
    ROLL_PITCH_YAW,
    roll_pitch_yaw,
    rotation_6d,
    rotation_vector,
)
from vit_perception.tokens.components import Component
from vit_perception.tokens.source import CheckpointTokens, SampledSource, register
from vit_perception.tokens.tokenizer import Tokenizer, make_tokenizer, pose_numbers
from vit_perception.wire.layout import POSE_FIELDS, POSE_TYPE
from vit_perception.wire.records import Pose

# The tokenizer that all arms share; the layout names it even without arms.
SHARED = ""
# What policy.state may name of a pose.
POSE_COMPONENTS = {
    "position": Component(("x", "y", "z"), "m", lambda pose: pose.position_m),
    "quaternion": Component(
        ("qx", "qy", "qz", "qw"), "1", lambda pose: pose.quaternion_xyzw, largest=1.0
    ),
    "rotation6d": Component(
        tuple(f"r{row}{column}" for column in "12" for row in "123"),
        "1",
        lambda pose: rotation_6d(pose.quaternion_xyzw),
        largest=1.0,
    ),
    "rotation_vector": Component(
        ("rx", "ry", "rz"),
        "rad",
        lambda pose: rotation_vector(pose.quaternion_xyzw),
        largest=math.pi,
    ),
    "rpy": Component(
        ROLL_PITCH_YAW, "rad", lambda pose: roll_pitch_yaw(pose.quaternion_xyzw), largest=math.pi
    ),
    "rpy_deg": Component(
        ROLL_PITCH_YAW,
        "deg",
        lambda pose: np.degrees(roll_pitch_yaw(pose.quaternion_xyzw)),
        largest=180.0,
    ),
}


@register
class PoseSource(SampledSource):
    """One arm, with poses from a PoseStamped topic or from TF."""

    group = "poses"
    label = "arm"
    rank = 1
    kind = "pose"
    policy = "pose_policy"
    sample_label = "pose"
    type = POSE_TYPE
    fields = POSE_FIELDS

    @property
    def topic(self) -> str | None:
        """Its PoseStamped topic; None if its poses come from TF."""
        return None if self.settings.source == "tf" else str(self.settings.topic)

    def sample_of(self, message: Any) -> Pose:
        """Return the pose of a PoseStamped. Raises BadInput."""
        return pose_of(message, self.settings.expected_frame_id, self.settings.accept_empty_frame)

    def history(self, keep_s: float) -> PoseHistory:
        """Return a history that interpolates rotations along the shortest arc."""
        return PoseHistory(keep_s)

    def token_numbers(self, value: Pose) -> np.ndarray:
        """Return position, and the rotation's first two columns, (9,)."""
        return pose_numbers(value)

    def components(self) -> Mapping[str, Component]:
        """Return the position, and the rotation in several forms."""
        return POSE_COMPONENTS

    @classmethod
    def tokenizers(
        cls,
        sources: Sequence[SampledSource],
        settings: EncoderSettings,
        checkpoint: CheckpointTokens,
    ) -> dict[str, Tokenizer]:
        """Return one tokenizer for all arms."""
        fusion = settings.fusion
        shared = make_tokenizer(fusion.tokenizer, checkpoint.width, fusion.tokenizer_weights)
        return dict.fromkeys([SHARED, *(source.name for source in sources)], shared)

    @classmethod
    def layout_fields(
        cls,
        sources: Sequence[SampledSource],
        settings: EncoderSettings,
        tokenizers: Mapping[str, Tokenizer],
    ) -> dict[str, Any]:
        """Return the fields of schema version 1 that only poses have."""
        shared = tokenizers[SHARED]
        return {
            "pose_tokenizer": shared.kind,
            "pose_tokenizer_sha256": shared.weights_sha256,
        }
