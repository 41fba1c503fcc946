"""CLIP as OpenAI published it (ViT-B-32.pt and others): the image tower and its projection.

The files are TorchScript archives, of which only the tensors are read, or state dicts saved from
them, in half precision. Sizes are read off the tensors. Names and preprocessing:
https://github.com/openai/CLIP (clip/model.py, clip/clip.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    PROJECTION,
    Family,
    KeyMap,
    Reading,
    linear_and_norm_names,
)
from vit_perception.checkpoints.files.opened import Found
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MARKS = (
    "visual.class_embedding",
    "visual.positional_embedding",
    "visual.conv1.weight",
    "visual.ln_pre.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.0.mlp.c_fc.weight",
    "visual.ln_post.weight",
    "visual.proj",
)
# Numbers of the whole model that OpenAI's files, and only they, hold beside the weights.
_NUMBERS = ("input_resolution", "context_length", "vocab_size")
# The other tower and what compares both, as of OpenAI's class and of open_clip's two.
TEXT = (
    "transformer.*",
    "text.*",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.*",
    "text_projection*",
    "logit_scale",
    "logit_bias",
    "attn_mask",
    "visual.input_resolution",
    *_NUMBERS,
)
_BLOCK_LAYERS = {
    "ln_1": ("norm_attention",),
    "ln_2": ("norm_mlp",),
    "mlp.c_fc": ("mlp.up",),
    "mlp.c_proj": ("mlp.down",),
    "attn.out_proj": ("attention.output",),
}
_RESNET = "visual.layer1.0.conv1.weight"


def shape_of(found: Found) -> dict[str, Any]:
    """ViTConfig's fields, from the tensors; a head is 64 wide, as in all of OpenAI's models.

    OpenAI's code knows no other grid than the model's own; on others the positions are resized as
    by transformers.
    """
    width, _, patch, _ = found.shape("visual.conv1.weight")
    side = round((found.shape("visual.positional_embedding")[0] - 1) ** 0.5) * patch
    return {
        "width": width,
        "depth": found.count("visual.transformer.resblocks."),
        "heads": width // 64,
        "mlp_width": found.shape("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        "patch_size_px": patch,
        "image_size_px": (side, side),
        "activation": "quick_gelu",
        "norm_eps": 1e-5,
        "norm_before_blocks": True,
    }


def key_map(config: ViTConfig) -> KeyMap:
    """The file's names -> the model's; ``ls_1`` and ``ls_2`` are open_clip's LayerScale."""
    layers = {"visual.ln_post": ("norm",)}
    if config.norm_before_blocks:
        layers["visual.ln_pre"] = ("norm_before",)
    names = {
        "visual.class_embedding": ("cls_token",),
        "visual.positional_embedding": ("position_embedding",),
        "visual.conv1.weight": ("patch_embedding.projection.weight",),
        "visual.proj": (PROJECTION,),
    }
    for index in range(config.depth):
        theirs, ours = f"visual.transformer.resblocks.{index}", f"blocks.{index}"
        layers.update(
            {
                f"{theirs}.{layer}": tuple(f"{ours}.{target}" for target in targets)
                for layer, targets in _BLOCK_LAYERS.items()
            }
        )
        for part in ("weight", "bias"):
            names[f"{theirs}.attn.in_proj_{part}"] = tuple(
                f"{ours}.attention.{layer}.{part}" for layer in ("query", "key", "value")
            )
        if config.layer_scale:
            names[f"{theirs}.ls_1.gamma"] = (f"{ours}.scale_attention.factor",)
            names[f"{theirs}.ls_2.gamma"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


def converters() -> Mapping[str, Callable[[Tensor], Tensor]]:
    """CLS (D,), positions (1 + P, D) and projection (D, E) as the model holds them."""
    return {
        "cls_token": lambda tensor: tensor.reshape(1, 1, -1),
        "position_embedding": lambda tensor: tensor[None],
        PROJECTION: lambda tensor: tensor.T,
    }


def reading_of(
    config: ViTConfig,
    rule: ResizeRule,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    license: str = "",
) -> Reading:
    """The Reading that OpenAI's and open_clip's files share."""
    return Reading(
        config,
        key_map(config),
        rule,
        mean,
        std,
        unused=TEXT,
        converters=converters(),
        license=license,
        zeros={"patch_embedding.projection.bias": (config.width,)},
        projected=True,
    )


def refuse_resnet(found: Found) -> None:
    """Raise CheckpointError for the models whose image tower is a ResNet."""
    if found.has(_RESNET):
        raise CheckpointError(
            f"{found.path} holds {_RESNET}: the image tower of this CLIP is a ResNet; accepted: "
            "one "
            "with a Vision Transformer (ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336px)"
        )


def recognises(found: Found) -> bool:
    """By the names and by the numbers that only OpenAI's files hold; ResNets too, for an error of
    its own.
    """
    return (found.has(*MARKS) or found.has(_RESNET, "visual.attnpool.c_proj.weight")) and any(
        number in found.tensors for number in _NUMBERS
    )


def read(found: Found) -> Reading:
    """The image tower; preprocessing is that of clip.load. Raises CheckpointError."""
    refuse_resnet(found)
    config = ViTConfig(**shape_of(found))
    side = config.image_size_px[0]
    return reading_of(
        config, ResizeRule((side, side), "crop", side, crop_rounding="half_even"), license="mit"
    )


FAMILY = Family("openai_clip", recognises, read, MARKS)
