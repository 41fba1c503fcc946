"""Which family a checkpoint is of: the table of families, and the differences to the nearest
one.
"""

from vit_perception.checkpoints import native
from vit_perception.checkpoints.clip import open_clip
from vit_perception.checkpoints.clip import openai as openai_clip
from vit_perception.checkpoints.dense import (
    depth_anything,
    dpt,
    huggingface_depth_anything,
    huggingface_dpt,
)
from vit_perception.checkpoints.errors import CheckpointError, side_by_side
from vit_perception.checkpoints.family import Family, without_prefix
from vit_perception.checkpoints.files.opened import CONFIG_FILE, Found
from vit_perception.checkpoints.google import npz as google_npz
from vit_perception.checkpoints.huggingface import (
    clip as huggingface_clip,
)
from vit_perception.checkpoints.huggingface import (
    deit as huggingface_deit,
)
from vit_perception.checkpoints.huggingface import (
    dinov2 as huggingface_dinov2,
)
from vit_perception.checkpoints.huggingface import (
    dinov2_registers as huggingface_dinov2_registers,
)
from vit_perception.checkpoints.huggingface import (
    dinov3 as huggingface_dinov3,
)
from vit_perception.checkpoints.huggingface import (
    siglip as huggingface_siglip,
)
from vit_perception.checkpoints.huggingface import (
    vit as huggingface_vit,
)
from vit_perception.checkpoints.keras import keras_vit
from vit_perception.checkpoints.meta import (
    deit as meta_deit,
)
from vit_perception.checkpoints.meta import (
    dino as meta_dino,
)
from vit_perception.checkpoints.meta import (
    dinov2 as meta_dinov2,
)
from vit_perception.checkpoints.meta import (
    dinov3 as meta_dinov3,
)
from vit_perception.checkpoints.refused import REFUSED
from vit_perception.checkpoints.timm import vit as timm_vit

# The first that recognises a checkpoint reads it.
FAMILIES: tuple[Family, ...] = (
    native.FAMILY,
    # By their names, and before transformers' by config.json: a folder may hold both forms of one
    # model.
    openai_clip.FAMILY,
    open_clip.FAMILY,
    huggingface_vit.FAMILY,
    huggingface_deit.FAMILY,
    huggingface_dinov2.FAMILY,
    huggingface_dinov2_registers.FAMILY,
    huggingface_dinov3.FAMILY,
    huggingface_clip.FAMILY,
    huggingface_siglip.FAMILY,
    huggingface_dpt.FAMILY,
    huggingface_depth_anything.FAMILY,
    *depth_anything.FAMILIES,
    dpt.FAMILY,
    google_npz.FAMILY,
    keras_vit.FAMILY,
    meta_dinov3.FAMILY,
    meta_dinov2.FAMILY,
    meta_dino.FAMILY,
    meta_deit.FAMILY,
    timm_vit.FAMILY,
)
AUTO = "auto"
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "vit.", "visual.", "vision_model.")
_SHOWN = 12


def family_of(found: Found, wanted: str = AUTO) -> Family:
    """The family of a checkpoint: the one named ``wanted``, or the one that recognises it.

    Raises CheckpointError: no such family; or none recognises the checkpoint, with the differences
    to the nearest.
    """
    if wanted != AUTO:
        return named_family(wanted)
    for family in FAMILIES:
        if family.recognises(found):
            return family
    model_type = (found.config or {}).get("model_type")
    if isinstance(model_type, str) and model_type in REFUSED:
        raise CheckpointError(
            f"model_type in {found.folder / CONFIG_FILE} is {model_type!r}: {REFUSED[model_type]}"
        )
    raise CheckpointError("\n".join([_refusal(found), *_differences(found)]))


def named_family(name: str) -> Family:
    """The family of that name. Raises CheckpointError naming all."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise CheckpointError(
        f"model.family is {name!r}; accepted: {AUTO}, {', '.join(f.name for f in FAMILIES)}"
    )


def _refusal(found: Found) -> str:
    types = [family.model_type for family in FAMILIES if family.model_type]
    if found.config is not None and (
        "model_type" in found.config
        or "architectures" in found.config
        or not {"architecture", "model_cfg"} & set(found.config)
    ):
        return (
            f"model_type in {found.folder / CONFIG_FILE} is {found.config.get('model_type')!r}; "
            "accepted: "
            f"{', '.join(types)}; and no other family recognises {found.path.name}"
        )
    return (
        f"{found.path} is of no family that is known; accepted: "
        f"{', '.join(f.name for f in FAMILIES)} "
        "(model.family names one)"
    )


def nearest_family(found: Found) -> tuple[Family, list[str]]:
    """The family with the largest share of its marks in the file, and the marks that the file
    lacks.
    """
    names = set(found.tensors)
    names |= {without_prefix(name, _PREFIXES) for name in names}
    lacking = {
        family.name: [mark for mark in family.marks if mark not in names] for family in FAMILIES
    }
    best = min(FAMILIES, key=lambda family: len(lacking[family.name]) / len(family.marks))
    return best, lacking[best.name]


def _differences(found: Found) -> list[str]:
    family, missing = nearest_family(found)
    marks = set(family.marks)
    others = [
        name
        for name in found.tensors
        if name not in marks and without_prefix(name, _PREFIXES) not in marks
    ]
    held = [f"{name} {found.shape(name)}" for name in others[:_SHOWN]]
    held += [f"and {len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
    return [
        f"the nearest family is {family.name}: {len(family.marks) - len(missing)} of its "
        f"{len(family.marks)} "
        "telling names are in the file",
        *side_by_side("missing in the file", missing, "in the file besides", held),
    ]
