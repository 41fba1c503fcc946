"""Meta's DINOv3 ViT files (Siméoni et al. 2025, arXiv:2508.10104).

Source: https://github.com/facebookresearch/dinov3, models/vision_transformer.py, layers/ and the
README's transform. Heads in files of their own (classifiers, depth, detection) are not read.
"""

import torch
from torch import Tensor

from vit_perception.checkpoints.defaults import IMAGENET_MEAN, IMAGENET_STD, own_or_published
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.meta.names import bare, unused_names, with_aliases
from vit_perception.checkpoints.timm.names import SIGNATURE_KEYS as BLOCK_KEYS
from vit_perception.checkpoints.timm.names import key_map
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

_PERIODS = "rope_embed.periods"
SIGNATURE_KEYS = (*BLOCK_KEYS, "cls_token", "storage_tokens", _PERIODS)
_UNUSED = (
    "mask_token",
    _PERIODS,
    "*.attn.qkv.bias_mask",
    "local_cls_norm.*",
    "dino_head.*",
    "ibot_head.*",
)
_SATELLITE_MEAN = (0.430, 0.411, 0.296)
_SATELLITE_STD = (0.213, 0.156, 0.143)
_SIDE_PX = 256
# Periods in files may be rounded to bfloat16.
_PERIOD_TOLERANCE = 5e-3


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the periods of the rotary positions, which files hold."""
    return files.config is None and bare(files).has(*BLOCK_KEYS, _PERIODS)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes and the number of heads from the periods.

    Raises:
        CheckpointError: The model is none of the released kind.
    """
    backbone = bare(files)
    width, _, patch, _ = backbone.shape("patch_embed.proj.weight")
    periods = backbone.tensors[_PERIODS].double()
    if "cls_norm.weight" in backbone.tensors:
        raise CheckpointError(
            f"{files.path} has a norm of its own for the CLS token (cls_norm); accepted: models "
            "with one final norm, as all released ones have"
        )
    registers = backbone.shape("storage_tokens")[1] if "storage_tokens" in backbone.tensors else 0
    is_swiglu = "blocks.0.mlp.w1.weight" in backbone.tensors
    config = ViTConfig(
        width=width,
        depth=backbone.count("blocks."),
        heads=width // (4 * len(periods)),
        mlp_width=backbone.shape(f"blocks.0.mlp.{'w3' if is_swiglu else 'fc2'}.weight")[1],
        patch_size_px=patch,
        image_size_px=(_SIDE_PX // patch * patch,) * 2,
        activation="swiglu" if is_swiglu else "gelu",
        qkv_bias=backbone.has("blocks.0.attn.qkv.bias"),
        layer_scale=True,
        norm_eps=1e-5,
        register_tokens=registers,
        position_embedding="none",
        rope_theta=theta_of(periods, files),
    )
    return LoadPlan(
        config=config,
        key_map=with_aliases(files, key_map(config, "mlp.w1" if is_swiglu else "mlp.fc1")),
        preprocessing=_preprocessing(files, config),
        unused=unused_names(*_UNUSED),
        converters=masked_key_biases(backbone, config),
        license="dinov3-license",
    )


def _preprocessing(files: CheckpointFiles, config: ViTConfig) -> Preprocessing:
    rule = ResizeRule(config.image_size_px, "stretch", interpolation="bilinear")
    if "sat493m" in files.path.name.lower():
        published = Preprocessing(rule, _SATELLITE_MEAN, _SATELLITE_STD)
        return own_or_published(files, published, "DINOv3's transform for satellite images")
    published = Preprocessing(rule, IMAGENET_MEAN, IMAGENET_STD)
    return own_or_published(files, published, "DINOv3's transform for web images")


def theta_of(periods: Tensor, files: CheckpointFiles) -> float:
    """Find the base of periods theta ** (4 i / d).

    Raises:
        CheckpointError: They are no such series.
    """
    quarter = len(periods)
    theta = 0.0
    if quarter > 1 and periods[-1] > 1:
        theta = round(float(periods[-1]) ** (quarter / (quarter - 1)), 0)
    powers = torch.arange(quarter, dtype=torch.float64) / quarter
    expected = torch.tensor(theta, dtype=torch.float64) ** powers
    if theta <= 1 or not torch.allclose(periods, expected, rtol=_PERIOD_TOLERANCE, atol=0):
        raise CheckpointError(
            f"{files.path}: {_PERIODS} is {[round(float(p), 4) for p in periods[:4]]} …; accepted: "
            "theta ** (4 i / d) with a whole theta, 100 in the released files"
        )
    return theta


def masked_key_biases(backbone: CheckpointFiles, config: ViTConfig) -> dict[str, Converter]:
    """Make converters from the mask that models apply to the biases: 0 for keys, else 1.

    Raises:
        CheckpointError: A mask is another one.
    """
    converters: dict[str, Converter] = {}
    expected = torch.ones(3, config.width)
    expected[1] = 0
    for index in range(config.depth):
        name = f"blocks.{index}.attn.qkv.bias_mask"
        if name not in backbone.tensors:
            continue
        if not torch.equal(backbone.tensors[name].float(), expected.flatten()):
            raise CheckpointError(
                f"{backbone.path}: {name} is not 0 for the keys and 1 for queries and values; "
                "accepted: the released models' mask"
            )
        converters[f"blocks.{index}.attention.key.bias"] = torch.zeros_like
    return converters


FAMILY = Family("meta_dinov3", recognises, read, SIGNATURE_KEYS)
