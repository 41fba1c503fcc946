"""π0, π0.5 and π0-FAST: PaliGemma's SigLIP tower and its linear projector.

Files of openpi's PyTorch port and of LeRobot (0.4 and newer) are read. The tokens are what
``embed_image`` gives, which enters the language model as it is: the factor sqrt(width), which
PaliGemma's own code has divided by, is in neither policy's.

Source: https://github.com/Physical-Intelligence/openpi (models_pytorch/gemma_pytorch.py and
openpi_client/image_tools.py) and https://github.com/huggingface/lerobot (policies/pi0 and
policies/common/vla_utils.py).
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

TYPES = ("pi0", "pi05", "pi0_fast")
_OF_POLICY = "paligemma_with_expert.paligemma."
_TOWER = "vision_tower."
_PROJECTOR = "multi_modal_projector."
# Of openpi's config.json, which has no ``type``.
_OPENPI = "paligemma_variant"
_INPUTS = 32


def recognises(files: CheckpointFiles) -> bool:
    """Tell by config.json; without one by the names of the tensors."""
    if files.config is not None and _OPENPI not in files.config:
        return policy_type(files) in TYPES
    return any(_OF_POLICY in name and _TOWER in name for name in files.tensors)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the tower, the projector and the policy's own preprocessing.

    Raises:
        CheckpointError: An adapter, quantised weights, a missing part, or another version.
    """
    refuse_unmerged(files)
    fields = files.config or {}
    if "resize_imgs_with_padding" in fields:
        raise CheckpointError(
            f"{config_path(files)} is of LeRobot before 0.4 (resize_imgs_with_padding), whose π0 "
            "prepares images otherwise; accepted: the policy as LeRobot 0.4 or newer saves it"
        )
    tower = tower_prefix(files, (_OF_POLICY, _TOWER), siglip_tower.PATCHES)
    parent = tower[: tower.index(_TOWER)]
    projector = f"{parent}{_PROJECTOR}"
    state = f"{tower[: tower.index('paligemma_with_expert.')]}state_proj."
    for name in ("linear.weight", "linear.bias"):
        require(files, f"{projector}{name}", "the projector behind the vision tower")
    refuse_quantised(files, (tower, projector))
    config = siglip_tower.config_of(files, tower, "bicubic")
    width, taken = files.shape(f"{projector}linear.weight")
    connector = ConnectorSpec(widths=(taken, width))
    connector.check_tower(config.width)
    spec = state_of(files, f"{state}weight", count_of(fields, "max_state_dim", _INPUTS))
    names = {
        "linear.weight": (f"{CONNECTOR}layers.0.weight",),
        "linear.bias": (f"{CONNECTOR}layers.0.bias",),
    }
    if spec is not None:
        names |= {f"{part}": (f"{STATE}projection.{part}",) for part in ("weight", "bias")}
    return LoadPlan(
        config=config,
        key_map={**siglip_tower.key_map(config), **names},
        preprocessing=_preprocessing(files, tower, config.image_size_px),
        prefixes=(tower, projector, state),
        unused=siglip_tower.UNUSED,
        converters=converters(config),
        license=license_of(files.folder),
        connector=connector,
        state=spec,
        scope=(tower, projector) if spec is None else (tower, projector, state),
    )


def _preprocessing(files: CheckpointFiles, tower: str, size_px: tuple[int, int]) -> Preprocessing:
    """Resize as LeRobot does (floats, without antialias) or as openpi does (bytes, with Pillow)."""
    fields = files.config or {}
    # openpi's names begin one step further in.
    is_lerobot = policy_type(files) in TYPES or tower.startswith("model.")
    if pair_of(fields, "image_resolution", size_px) != size_px:
        raise CheckpointError(
            f"{config_path(files)}: image_resolution is {fields.get('image_resolution')!r:.80}, "
            f"and the tower has positions for {size_px}; accepted: a policy of one size"
        )
    rule = ResizeRule(
        network_size_px=size_px,
        fit="pad",
        interpolation="bilinear_rounded" if is_lerobot else "bilinear",
        pad_rounding="down",
    )
    return Preprocessing(rule, HALF, HALF)


FAMILY = Family(
    name="pi0",
    recognises=recognises,
    read=read,
    signature_keys=(
        f"{_OF_POLICY}model.vision_tower.vision_model.{siglip_tower.PATCHES}",
        f"{_OF_POLICY}model.vision_tower.vision_model.{siglip_tower.POSITIONS}",
        f"{_OF_POLICY}model.multi_modal_projector.linear.weight",
    ),
)
