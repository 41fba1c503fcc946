"""SmolVLA: SmolVLM2's tower, pixel shuffle and projection, and the projection of the state.

The tokens are the policy's prefix: ``embed_image`` times sqrt(width), as ``embed_prefix`` hands
them to the language model. The layout says the factor.

Source: https://github.com/huggingface/lerobot (policies/smolvla) and transformers' models/smolvlm.
"""

from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import CONNECTOR, STATE, Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.checkpoints.huggingface.siglip import converters
from vit_perception.checkpoints.policies import siglip_tower
from vit_perception.checkpoints.policies.lerobot_state import state_of
from vit_perception.checkpoints.policies.policy_files import (
    config_path,
    count_of,
    pair_of,
    policy_type,
    refuse_quantised,
    refuse_unmerged,
    require,
    tower_prefix,
)
from vit_perception.heads.connectors import ConnectorSpec
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

_OF_POLICY = "vlm_with_expert.vlm.model."
_TOWER = "vision_model."
_PROJECTION = "modality_projection.proj.weight"
_INPUTS = 32


def recognises(files: CheckpointFiles) -> bool:
    """Tell by config.json; without one by the names of the tensors."""
    if files.config is not None:
        return policy_type(files) == "smolvla"
    return any(f"{_OF_POLICY}{_TOWER}" in name for name in files.tensors)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the tower, the connector, the state projection and the policy's own preprocessing.

    Raises:
        CheckpointError: An adapter, quantised weights, a missing part, or another version.
    """
    refuse_unmerged(files)
    fields = files.config or {}
    tower = tower_prefix(files, (_OF_POLICY, _TOWER), siglip_tower.PATCHES)
    connector = f"{tower.removesuffix(_TOWER)}connector."
    state = f"{tower[: tower.index('vlm_with_expert.')]}state_proj."
    require(files, f"{connector}{_PROJECTION}", "the connector behind the vision tower")
    refuse_quantised(files, (tower, connector))
    config = siglip_tower.config_of(files, tower, "bucketised")
    spec = _connector_of(files, f"{connector}{_PROJECTION}", config)
    inputs = count_of(fields, "max_state_dim", _INPUTS)
    state_spec = state_of(files, f"{state}weight", inputs)
    if state_spec is not None and state_spec.width != spec.width:
        raise CheckpointError(
            f"{files.path}: the state projection gives {state_spec.width} channels and the "
            f"connector {spec.width}; accepted: a policy with one width"
        )
    names = {_PROJECTION: (f"{CONNECTOR}layers.0.weight",)}
    if state_spec is not None:
        names |= {part: (f"{STATE}projection.{part}",) for part in ("weight", "bias")}
    return LoadPlan(
        config=config,
        key_map={**siglip_tower.key_map(config), **names},
        preprocessing=_preprocessing(files, config, spec),
        prefixes=(tower, connector, state),
        unused=siglip_tower.UNUSED,
        converters=converters(config),
        license=license_of(files.folder),
        connector=spec,
        state=state_spec,
        scope=(tower, connector) if state_spec is None else (tower, connector, state),
    )


def _connector_of(files: CheckpointFiles, projection: str, config: ViTConfig) -> ConnectorSpec:
    """Read the pixel shuffle from the shape of the matrix behind it."""
    width, taken = files.shape(projection)
    shuffle = round((taken / config.width) ** 0.5)
    spec = ConnectorSpec(
        widths=(taken, width),
        shuffle=max(1, shuffle),
        bias=False,
        scale=width**0.5,
    )
    spec.check_tower(config.width)
    return spec


def _preprocessing(
    files: CheckpointFiles, config: ViTConfig, connector: ConnectorSpec
) -> Preprocessing:
    """Resize floats without antialias; black at the top and the left."""
    fields = files.config or {}
    if "resize_imgs_with_padding" in fields and fields["resize_imgs_with_padding"] is None:
        raise CheckpointError(
            f"{config_path(files)}: resize_imgs_with_padding is null, so that the policy takes "
            "images of any size; accepted: a size, since an engine's input has one"
        )
    width_px, height_px = pair_of(fields, "resize_imgs_with_padding", config.image_size_px[::-1])
    connector.grid_of(config.grid_of(height_px, width_px))
    rule = ResizeRule(
        network_size_px=(height_px, width_px),
        fit="pad",
        interpolation="bilinear_rounded",
        pad_rounding="down",
        pad_sides="top_left",
    )
    return Preprocessing(rule, HALF, HALF)


FAMILY = Family(
    name="smolvla",
    recognises=recognises,
    read=read,
    signature_keys=(
        f"{_OF_POLICY}{_TOWER}{siglip_tower.PATCHES}",
        f"{_OF_POLICY}{_TOWER}{siglip_tower.POSITIONS}",
        f"{_OF_POLICY}connector.{_PROJECTION}",
    ),
)
