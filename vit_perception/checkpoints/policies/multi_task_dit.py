"""LeRobot's multi_task_dit: OpenAI's CLIP tower, shared by all cameras.

The policy takes the CLS token of the last block, before CLIP's final norm; so CLS and patch tokens
are those. Images are normalised by the statistics of the policy's data set, and the centre is cut
out, of the image as the data set has it or after a resize.

Source: https://github.com/huggingface/lerobot (policies/multi_task_dit) and transformers'
models/clip.
"""

import math
from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface import clip
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.checkpoints.policies.lerobot_images import cameras_of, mean_and_std_of
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

TYPE = "multi_task_dit"
_OF_POLICY = "observation_encoder.vision_encoder."
_PATCHES = "embeddings.patch_embedding.weight"
_POSITIONS = "embeddings.position_embedding.weight"
_MLP = "encoder.layers.0.mlp.fc1.weight"
# The only ones whose activation is known by their name. Their heads have 64 channels.
_CLIP = "openai/clip-vit-"
_HEAD_WIDTH = 64
_CROP_PX = (224, 224)
_UNUSED = ("post_layernorm.*", "embeddings.position_ids")


def recognises(files: CheckpointFiles) -> bool:
    """Tell by config.json; without one by the names of the tensors."""
    if files.config is not None:
        return policy_type(files) == TYPE
    return any(_OF_POLICY in name and name.endswith(_PATCHES) for name in files.tensors)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the tower and the policy's own preprocessing.

    Raises:
        CheckpointError: An adapter, quantised weights, a missing part, a tower for each camera, or
            a tower or images of another kind.
    """
    refuse_unmerged(files)
    fields = files.config
    if fields is None:
        raise CheckpointError(
            f"{files.folder}: no file config.json; accepted: the policy's folder, whose "
            "config.json says how images are cut"
        )
    if fields.get("use_separate_rgb_encoder_per_camera"):
        raise CheckpointError(
            f"{config_path(files)}: use_separate_rgb_encoder_per_camera is true, so that each "
            "camera has an encoder of its own; accepted: false, or the tower of one camera alone "
            "(policy.observation_encoder.vision_encoders[0].model.save_pretrained(folder)) with a "
            "preprocessor_config.json, in a node for that camera"
        )
    named = fields.get("vision_encoder_name", f"{_CLIP}base-patch16")
    if not isinstance(named, str) or not named.startswith(_CLIP):
        raise CheckpointError(
            f"{config_path(files)}: vision_encoder_name is {named!r:.80}, whose activation is not "
            f"known here; accepted: {_CLIP}base-patch16 and OpenAI's others"
        )
    tower = tower_prefix(files, (_OF_POLICY,), _PATCHES)
    refuse_quantised(files, (tower,))
    config = _config_of(files, tower)
    mean, std = mean_and_std_of(files)
    return LoadPlan(
        config=config,
        key_map=clip.key_map(config),
        preprocessing=Preprocessing(_rule_of(files, fields, config.image_size_px), mean, std),
        prefixes=(tower,),
        unused=_UNUSED,
        converters=clip.converters(config),
        zeros={"patch_embedding.projection.bias": (config.width,)},
        license=license_of(files.folder),
        scope=(tower,),
    )


def _config_of(files: CheckpointFiles, tower: str) -> ViTConfig:
    for name in (_POSITIONS, _MLP, "pre_layrnorm.weight"):
        require(files, f"{tower}{name}", "the vision tower")
    width, _, patch, _ = files.shape(f"{tower}{_PATCHES}")
    positions = files.shape(f"{tower}{_POSITIONS}")[0]
    side = math.isqrt(max(0, positions - 1))
    if side**2 != positions - 1 or width % _HEAD_WIDTH:
        raise CheckpointError(
            f"{files.path}: the vision tower has {positions} positions and is {width} channels "
            f"wide; accepted: a square of patches and the CLS token, and a multiple of "
            f"{_HEAD_WIDTH}: CLIP's sizes"
        )
    return ViTConfig(
        width=width,
        depth=files.count(f"{tower}encoder.layers."),
        heads=width // _HEAD_WIDTH,
        mlp_width=files.shape(f"{tower}{_MLP}")[0],
        patch_size_px=patch,
        image_size_px=(side * patch, side * patch),
        activation="quick_gelu",
        norm_eps=1e-5,
        norm_before_blocks=True,
        final_norm=False,
    )


def _rule_of(
    files: CheckpointFiles, fields: Mapping[str, Any], size_px: tuple[int, int]
) -> ResizeRule:
    """Read the resize and the cut; ``size_px`` is what the tower has positions for."""
    resize = _optional_pair(fields, "image_resize_shape", None)
    crop = _optional_pair(fields, "image_crop_shape", _CROP_PX)
    given = _size_of_images(files)
    before = resize or given
    # The policy's own code leaves out a cut that does not fit.
    if crop is not None and (crop[0] > before[0] or crop[1] > before[1]):
        crop = None
    if (crop or before) != size_px:
        raise CheckpointError(
            f"{config_path(files)}: image_resize_shape {resize} and image_crop_shape {crop} make "
            f"{crop or before} of the cameras' {given}, and the tower takes {size_px}; accepted: "
            "what makes the tower's size"
        )
    if crop is None or crop == before:
        return ResizeRule(size_px, fit="stretch", interpolation="bilinear")
    if resize is not None and resize[0] != resize[1]:
        raise CheckpointError(
            f"{config_path(files)}: image_resize_shape is {resize} with a cut of {crop}; accepted: "
            "a square, none, or no image_crop_shape"
        )
    return ResizeRule(
        network_size_px=size_px,
        fit="crop" if resize is None else "stretch_crop",
        # Of a camera of the data set's size this is no resize.
        resize_shortest_edge_px=min(before),
        interpolation="bilinear",
        crop_rounding="half_even",
    )


def _optional_pair(
    fields: Mapping[str, Any], name: str, default: tuple[int, int] | None
) -> tuple[int, int] | None:
    if fields.get(name, default) is None:
        return None
    return pair_of(fields, name, default or (0, 0))


def _size_of_images(files: CheckpointFiles) -> tuple[int, int]:
    shapes = cameras_of(files)
    sizes = {shape[1:] for shape in shapes.values()}
    if len(sizes) != 1:
        raise CheckpointError(
            f"{config_path(files)}: the cameras' shapes are {shapes!r:.200}; accepted: one shape"
        )
    height, width = sizes.pop()
    return height, width


FAMILY = Family(
    name=TYPE,
    recognises=recognises,
    read=read,
    signature_keys=(
        f"{_OF_POLICY}model.{_PATCHES}",
        f"{_OF_POLICY}model.{_POSITIONS}",
        f"{_OF_POLICY}model.pre_layrnorm.weight",
    ),
)
