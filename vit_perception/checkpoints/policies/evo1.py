"""LeRobot's evo1: the InternViT tower, pixel shuffle and projector of InternVL3.

The tokens are what InternVL's ``get_image_features`` gives of one tile, which enters the language
model as it is. The tower's sizes come from the shapes of its tensors.

Source: https://github.com/huggingface/lerobot (policies/evo1/internvl3_embedder.py) and
transformers' models/internvl.
"""

import math

from vit_perception.checkpoints.defaults import IMAGENET_MEAN, IMAGENET_STD
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.checkpoints.language_models import internvl
from vit_perception.checkpoints.policies.policy_files import (
    config_path,
    pair_of,
    policy_type,
    refuse_quantised,
    refuse_unmerged,
    require,
    tower_prefix,
)
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

TYPE = "evo1"
_OF_POLICY = "embedder.model."
_TOWER = "vision_tower."
_PATCHES = "embeddings.patch_embeddings.projection.weight"
_POSITIONS = "embeddings.position_embeddings"
_MLP = "encoder.layer.0.mlp.fc1.weight"
_LAYERS = ("layer_norm", "linear_1", "linear_2")
# Of InternViT 300M, which InternVL3 1B has. The 6B has other norms and heads.
_HEAD_WIDTH = 64
_OTHER_TOWER = "encoder.layer.0.attention.q_norm.weight"


def recognises(files: CheckpointFiles) -> bool:
    """Tell by config.json; without one by the names of the tensors."""
    if files.config is not None:
        return policy_type(files) == TYPE
    return any(
        f"{_OF_POLICY}{_TOWER}" in name and name.endswith(_PATCHES) for name in files.tensors
    )


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the tower, the projector and the policy's own preprocessing.

    Raises:
        CheckpointError: An adapter, quantised weights, a missing part, or another tower.
    """
    refuse_unmerged(files)
    tower = tower_prefix(files, (_OF_POLICY, _TOWER), _PATCHES)
    projector = f"{tower.removesuffix(_TOWER)}{internvl.PROJECTOR}"
    refuse_quantised(files, (tower, projector))
    config = _config_of(files, tower)
    matrices = (f"{projector}{_LAYERS[1]}.weight", f"{projector}{_LAYERS[2]}.weight")
    connector = internvl.connector_of(files, matrices, config.width)
    size_px = config.image_size_px
    connector.grid_of(config.grid_of(*size_px))
    if pair_of(files.config or {}, "image_resolution", size_px) != size_px:
        raise CheckpointError(
            f"{config_path(files)}: image_resolution is "
            f"{(files.config or {})['image_resolution']!r:.80}, and the tower has positions for "
            f"{size_px}; accepted: a policy of one size"
        )
    rule = ResizeRule(size_px, fit="stretch", interpolation="bicubic")
    return LoadPlan(
        config=config,
        key_map={**internvl.key_map(config), **internvl.projector_names("", _LAYERS)},
        preprocessing=Preprocessing(rule, IMAGENET_MEAN, IMAGENET_STD),
        prefixes=(tower, projector),
        unused=("embeddings.mask_token",),
        license=license_of(files.folder),
        connector=connector,
        scope=(tower, projector),
    )


def _config_of(files: CheckpointFiles, tower: str) -> ViTConfig:
    for name in (_POSITIONS, _MLP):
        require(files, f"{tower}{name}", "the vision tower")
    width, _, patch, _ = files.shape(f"{tower}{_PATCHES}")
    positions = files.shape(f"{tower}{_POSITIONS}")[1]
    side = math.isqrt(max(0, positions - 1))
    if side**2 != positions - 1 or width % _HEAD_WIDTH or f"{tower}{_OTHER_TOWER}" in files.tensors:
        raise CheckpointError(
            f"{files.path}: the vision tower is {width} channels wide, with {positions} "
            f"positions; accepted: a multiple of {_HEAD_WIDTH} without norms of queries and keys, "
            "and a square of patches and the CLS token: InternViT 300M, of InternVL3 1B"
        )
    return ViTConfig(
        width=width,
        depth=files.count(f"{tower}encoder.layer."),
        heads=width // _HEAD_WIDTH,
        mlp_width=files.shape(f"{tower}{_MLP}")[0],
        patch_size_px=patch,
        image_size_px=(side * patch, side * patch),
        qkv_bias=f"{tower}encoder.layer.0.attention.q_proj.bias" in files.tensors,
        norm_eps=1e-6,
        layer_scale=True,
        final_norm=False,
    )


FAMILY = Family(
    name=TYPE,
    recognises=recognises,
    read=read,
    signature_keys=(
        f"model.{_OF_POLICY}{_TOWER}{_PATCHES}",
        f"model.{_OF_POLICY}{_TOWER}{_POSITIONS}",
        f"model.{_OF_POLICY}{internvl.PROJECTOR}linear_1.weight",
    ),
)
