"""Theia (arXiv:2407.20179): folders of theaiinstitute/theia-*. The weights are for non-commercial
research only.

The backbone is a DeiT of transformers, and its tokens are Theia's features. The translators into
features of the teachers are known and unused. Source: https://github.com/bdaiinstitute/theia,
models/backbones.py and models/rvfm.py.
"""

from vit_perception.checkpoints.defaults import IMAGENET_MEAN, IMAGENET_STD, own_or_published
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, CheckpointFiles
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.checkpoints.huggingface.vit import key_map
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

_PREFIX = "backbone.model."
_EMBEDDING = f"{_PREFIX}embeddings.patch_embeddings.projection.weight"
_POSITIONS = f"{_PREFIX}embeddings.position_embeddings"
_LICENSE = "The AI Institute, non-commercial research only"
# What the backbone loads with it: DeiT's.
_RULE = ResizeRule(
    network_size_px=(224, 224),
    fit="stretch_crop",
    resize_shortest_edge_px=256,
    interpolation="bicubic",
)
SIGNATURE_KEYS = (
    f"{_PREFIX}embeddings.cls_token",
    _POSITIONS,
    _EMBEDDING,
    f"{_PREFIX}encoder.layer.0.layernorm_before.weight",
    f"{_PREFIX}encoder.layer.0.attention.attention.query.weight",
    f"{_PREFIX}encoder.layer.0.intermediate.dense.weight",
    f"{_PREFIX}layernorm.weight",
)


def recognises(files: CheckpointFiles) -> bool:
    """Tell by ``model_type``; without a config.json by the names."""
    if files.config is not None:
        return files.config.get("model_type") == "theia"
    return files.has(*SIGNATURE_KEYS)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes.

    Raises:
        CheckpointError: The backbone is not DeiT as it is.
    """
    named = (files.config or {}).get("backbone", "facebook/deit")
    if not isinstance(named, str) or "deit" not in named or "reg" in named or "nocls" in named:
        raise CheckpointError(
            f"backbone in {files.folder / CONFIG_FILE} is {named!r:.80}; accepted: DeiT as it is "
            "(facebook/deit-small-patch16-224), without registers and with its CLS token"
        )
    width, _, patch, _ = files.shape(_EMBEDDING)
    side = round((files.shape(_POSITIONS)[1] - 1) ** 0.5) * patch
    block = f"{_PREFIX}encoder.layer."
    config = ViTConfig(
        width=width,
        depth=files.count(block),
        heads=width // 64,
        mlp_width=files.shape(f"{block}0.intermediate.dense.weight")[0],
        patch_size_px=patch,
        image_size_px=(side, side),
        norm_eps=1e-12,
    )
    published = Preprocessing(_RULE, IMAGENET_MEAN, IMAGENET_STD)
    return LoadPlan(
        config=config,
        key_map=key_map(config),
        preprocessing=own_or_published(files, published, "DeiT's processor, which Theia loads"),
        prefixes=(_PREFIX,),
        unused=("translator.*", "embeddings.mask_token"),
        license=license_of(files.folder) or _LICENSE,
    )


FAMILY = Family(
    name="theia",
    recognises=recognises,
    read=read,
    signature_keys=SIGNATURE_KEYS,
    model_type="theia",
)
