"""The table of families, and which one a checkpoint belongs to."""

from collections.abc import Sequence
from typing import NamedTuple

from vit_perception.checkpoints.clip.open_clip import FAMILY as OPEN_CLIP
from vit_perception.checkpoints.clip.openai import FAMILY as OPENAI_CLIP
from vit_perception.checkpoints.dense.depth_anything import FAMILIES as DEPTH_ANYTHING_FILES
from vit_perception.checkpoints.dense.dpt import FAMILY as DPT_FILE
from vit_perception.checkpoints.dense.huggingface_depth_anything import FAMILY as DEPTH_ANYTHING
from vit_perception.checkpoints.dense.huggingface_dpt import FAMILY as DPT
from vit_perception.checkpoints.errors import CheckpointError, side_by_side
from vit_perception.checkpoints.family import Family, without_prefix
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.google.npz import FAMILY as GOOGLE_NPZ
from vit_perception.checkpoints.huggingface.clip import FAMILY as CLIP
from vit_perception.checkpoints.huggingface.deit import FAMILY as DEIT
from vit_perception.checkpoints.huggingface.dinov2 import FAMILY as DINOV2
from vit_perception.checkpoints.huggingface.dinov2_registers import FAMILY as DINOV2_REGISTERS
from vit_perception.checkpoints.huggingface.dinov3 import FAMILY as DINOV3
from vit_perception.checkpoints.huggingface.radio import FAMILY as RADIO
from vit_perception.checkpoints.huggingface.siglip import FAMILY as SIGLIP
from vit_perception.checkpoints.huggingface.siglip2 import FAMILY as SIGLIP2
from vit_perception.checkpoints.huggingface.theia import FAMILY as THEIA
from vit_perception.checkpoints.huggingface.tipsv2 import FAMILY as TIPSV2
from vit_perception.checkpoints.huggingface.vit import FAMILY as VIT
from vit_perception.checkpoints.keras.keras_vit import FAMILY as KERAS_VIT
from vit_perception.checkpoints.language_models.internvl import FAMILY as INTERNVL
from vit_perception.checkpoints.language_models.qwen import FAMILIES as QWEN
from vit_perception.checkpoints.meta.deit import FAMILY as META_DEIT
from vit_perception.checkpoints.meta.dino import FAMILY as META_DINO
from vit_perception.checkpoints.meta.dinov2 import FAMILY as META_DINOV2
from vit_perception.checkpoints.meta.dinov3 import FAMILY as META_DINOV3
from vit_perception.checkpoints.native import FAMILY as NATIVE
from vit_perception.checkpoints.policies.evo1 import FAMILY as EVO1
from vit_perception.checkpoints.policies.multi_task_dit import FAMILY as MULTI_TASK_DIT
from vit_perception.checkpoints.policies.openvla import FAMILY as OPENVLA
from vit_perception.checkpoints.policies.pi0 import FAMILY as PI0
from vit_perception.checkpoints.policies.refused import refusal
from vit_perception.checkpoints.policies.smolvla import FAMILY as SMOLVLA
from vit_perception.checkpoints.refused import REFUSED
from vit_perception.checkpoints.timm.vit import FAMILY as TIMM
from vit_perception.files.errors import nearest

# The first that recognises a checkpoint reads it.
FAMILIES: tuple[Family, ...] = (
    NATIVE,
    # By their names, and before transformers' by config.json: a folder may hold both forms of one
    # model.
    OPENAI_CLIP,
    OPEN_CLIP,
    VIT,
    DEIT,
    DINOV2,
    DINOV2_REGISTERS,
    DINOV3,
    CLIP,
    SIGLIP,
    SIGLIP2,
    RADIO,
    TIPSV2,
    THEIA,
    INTERNVL,
    *QWEN,
    DPT,
    DEPTH_ANYTHING,
    PI0,
    SMOLVLA,
    OPENVLA,
    MULTI_TASK_DIT,
    EVO1,
    *DEPTH_ANYTHING_FILES,
    DPT_FILE,
    GOOGLE_NPZ,
    KERAS_VIT,
    META_DINOV3,
    META_DINOV2,
    META_DINO,
    META_DEIT,
    TIMM,
)
AUTO = "auto"
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "vit.", "visual.", "vision_model.")
_SHOWN = 12


class Nearest(NamedTuple):
    """The family with the largest share of its signature keys in a file."""

    family: Family
    # Its signature keys that the file does not hold.
    missing: list[str]


def family_of(files: CheckpointFiles, wanted: str = AUTO) -> Family:
    """Find the family of a checkpoint: the one named ``wanted``, or the one that recognises it.

    Raises:
        CheckpointError: There is no such family; or none recognises the checkpoint, with the
            differences to the nearest.
    """
    if wanted != AUTO:
        return named_family(wanted)
    for family in FAMILIES:
        if family.recognises(files):
            return family
    model_type = (files.config or {}).get("model_type")
    if isinstance(model_type, str) and model_type in REFUSED:
        path = files.folder / CONFIG_FILE
        raise CheckpointError(f"model_type in {path} is {model_type!r}: {REFUSED[model_type]}")
    if why := refusal(files):
        raise CheckpointError(why)
    raise CheckpointError("\n".join([_refusal(files), *_differences(files)]))


def named_family(name: str) -> Family:
    """Find the family of that name.

    Raises:
        CheckpointError: There is none; all are named.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise CheckpointError(
        f"model.family is {name!r}; accepted: {AUTO}, {_names()}",
        hint=nearest(name, [family.name for family in FAMILIES]),
    )


def nearest_family(files: CheckpointFiles) -> Nearest:
    """Find the family that is nearest to a foreign checkpoint."""
    names = set(files.tensors)
    names |= {without_prefix(name, _PREFIXES) for name in names}
    candidates = [
        Nearest(family, [key for key in family.signature_keys if key not in names])
        for family in FAMILIES
    ]
    return min(candidates, key=lambda near: len(near.missing) / len(near.family.signature_keys))


def _names() -> str:
    return ", ".join(family.name for family in FAMILIES)


def _refusal(files: CheckpointFiles) -> str:
    config = files.config
    if config is not None and (
        {"model_type", "architectures"} & set(config)
        or not {"architecture", "model_cfg"} & set(config)
    ):
        types = ", ".join(family.model_type for family in FAMILIES if family.model_type)
        return (
            f"model_type in {files.folder / CONFIG_FILE} is {config.get('model_type')!r}; accepted:"
            f" {types}; and no other family recognises {files.path.name}"
        )
    return (
        f"{files.path} is of no family that is known; accepted: {_names()} (model.family names one)"
    )


def _differences(files: CheckpointFiles) -> list[str]:
    family, missing = nearest_family(files)
    keys = family.signature_keys
    held = _others_in(files, keys)
    return [
        f"the nearest family is {family.name}: {len(keys) - len(missing)} of its {len(keys)} "
        "telling names are in the file",
        *side_by_side("missing in the file", missing, "in the file besides", held),
    ]


def _others_in(files: CheckpointFiles, keys: Sequence[str]) -> list[str]:
    others = [
        name for name in files.tensors if {name, without_prefix(name, _PREFIXES)}.isdisjoint(keys)
    ]
    held = [f"{name} {files.shape(name)}" for name in others[:_SHOWN]]
    return held + [f"and {len(others) - _SHOWN} more"] * (len(others) > _SHOWN)
