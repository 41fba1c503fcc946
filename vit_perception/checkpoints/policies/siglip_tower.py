"""The SigLIP tower inside a policy: its sizes come from the shapes of its tensors.

A policy's config.json does not hold them. The number of heads is in no shape; SigLIP's published
towers have heads of 64 channels, but for the two in ``_HEADS``.
"""

from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import KeyMap
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface import siglip
from vit_perception.checkpoints.policies.policy_files import require, square_grid
from vit_perception.model.vit_config import ViTConfig

PATCHES = "embeddings.patch_embedding.weight"
POSITIONS = "embeddings.position_embedding.weight"
# By the width: so400m, and the giant of SigLIP 2.
_HEADS = {1152: 16, 1536: 16}
_HEAD_WIDTH = 64
# The pooling of the stock model, which no policy uses, and a table in older files.
UNUSED = ("head.*", "embeddings.position_ids")


def config_of(files: CheckpointFiles, prefix: str, position_interpolation: str) -> ViTConfig:
    """Read the tower's shape; its tensors begin with ``prefix``.

    Raises:
        CheckpointError: A tensor is missing, or the width is none of SigLIP's.
    """
    for name in (PATCHES, POSITIONS, "encoder.layers.0.mlp.fc1.weight", "post_layernorm.weight"):
        require(files, f"{prefix}{name}", "the vision tower")
    width, _, patch, _ = files.shape(f"{prefix}{PATCHES}")
    side = square_grid(files, f"{prefix}{POSITIONS}") * patch
    if width not in _HEADS and width % _HEAD_WIDTH:
        raise CheckpointError(
            f"{files.path}: the vision tower is {width} channels wide, and the file does not say "
            f"how many heads share them; accepted: multiples of {_HEAD_WIDTH}, "
            f"{', '.join(map(str, _HEADS))}: SigLIP's sizes"
        )
    sizes: dict[str, Any] = {
        "width": width,
        "depth": files.count(f"{prefix}encoder.layers."),
        "heads": _HEADS.get(width, width // _HEAD_WIDTH),
        "mlp_width": files.shape(f"{prefix}encoder.layers.0.mlp.fc1.weight")[0],
        "patch_size_px": patch,
        "image_size_px": (side, side),
    }
    return ViTConfig(
        **sizes,
        activation="gelu_tanh",
        norm_eps=1e-6,
        cls_token=False,
        pooling="mean",
        position_interpolation=position_interpolation,
    )


def key_map(config: ViTConfig) -> KeyMap:
    """Map the tower's names, without their prefix, to the model's."""
    return siglip.key_map(config)
