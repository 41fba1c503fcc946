"""Shards of a robot policy that hold nothing but its language model and its action side.

They are most of a policy's bytes, and no encoder is in them: they are not downloaded, and need not
be there. What a name stands for is only judged for the policies that are read here; of all other
checkpoints every shard is needed.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError

# Parts of the names of tensors that belong to no tower, no connector and no state projection.
_OF_LEROBOT = (
    ".language_model.",
    ".text_model.",
    ".gemma_expert.",
    ".lm_expert.",
    ".lm_head.",
)
_LEROBOT_TYPES = ("pi0", "pi05", "pi0_fast", "smolvla")
_OPENVLA = "language_model."
_OPENVLA_TYPES = ("openvla", "prismatic")


def shards_left_out(
    config: Mapping[str, Any] | None, shard_of: Mapping[str, str]
) -> frozenset[str]:
    """Name the shards of which no tensor is needed; none if it is no policy that is read here.

    ``config`` is the policy's config.json, ``shard_of`` its index: tensor -> file.
    """
    fields = config or {}
    if fields.get("type") in _LEROBOT_TYPES:
        needed = {
            shard
            for name, shard in shard_of.items()
            if not any(part in name for part in _OF_LEROBOT)
        }
    elif fields.get("model_type") in _OPENVLA_TYPES:
        needed = {shard for name, shard in shard_of.items() if not name.startswith(_OPENVLA)}
    else:
        return frozenset()
    # An index without any tower is damaged: all is fetched, and the family says what is missing.
    return frozenset(shard_of.values()) - needed if needed else frozenset()


def no_tensor(shard: str) -> Any:
    """Stand in for the reader of a tensor in a shard that was left out.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f"it is in {shard}, which was left out: no encoder's")
