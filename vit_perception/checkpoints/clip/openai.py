"""CLIP as OpenAI published it (ViT-B-32.pt and others): the image tower and its projection.

The files are TorchScript archives, of which only the tensors are read, or state dicts saved from
them, in half precision. Sizes come from the tensors. Names and preprocessing:
https://github.com/openai/CLIP (clip/model.py, clip/clip.py).
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.defaults import centre_crop
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import (
    PROJECTION,
    Converter,
    Family,
    KeyMap,
    LoadPlan,
    Preprocessing,
    linear_and_norm_names,
)
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.pixel_statistics import CLIP_MEAN, CLIP_STD
from vit_perception.model.vit_config import ViTConfig

MEAN = CLIP_MEAN
STD = CLIP_STD
SIGNATURE_KEYS = (
    "visual.class_embedding",
    "visual.positional_embedding",
    "visual.conv1.weight",
    "visual.ln_pre.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.0.mlp.c_fc.weight",
    "visual.ln_post.weight",
    "visual.proj",
)
# Numbers of the complete model. Only OpenAI's files hold them.
_NUMBERS = ("input_resolution", "context_length", "vocab_size")
# The text tower and what compares both towers, of OpenAI's class and open_clip's two.
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
    "ln_1": "norm_attention",
    "ln_2": "norm_mlp",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
    "attn.out_proj": "attention.output",
}
_RESNET = "visual.layer1.0.conv1.weight"


def config_fields(files: CheckpointFiles) -> dict[str, Any]:
    """Read ViTConfig's fields from the tensors; a head is 64 wide, as in all of OpenAI's models.

    OpenAI's code runs on the model's own grid only. For other grids, positions are resized as by
    transformers.
    """
    width, _, patch, _ = files.shape("visual.conv1.weight")
    side = round((files.shape("visual.positional_embedding")[0] - 1) ** 0.5) * patch
    return {
        "width": width,
        "depth": files.count("visual.transformer.resblocks."),
        "heads": width // 64,
        "mlp_width": files.shape("visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        "patch_size_px": patch,
        "image_size_px": (side, side),
        "activation": "quick_gelu",
        "norm_eps": 1e-5,
        "norm_before_blocks": True,
    }


def key_map(config: ViTConfig) -> KeyMap:
    """Map the file's names to the model's; ``ls_1`` and ``ls_2`` are open_clip's LayerScale."""
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
        theirs = f"visual.transformer.resblocks.{index}"
        ours = f"blocks.{index}"
        for layer, target in _BLOCK_LAYERS.items():
            layers[f"{theirs}.{layer}"] = (f"{ours}.{target}",)
        for part in ("weight", "bias"):
            names[f"{theirs}.attn.in_proj_{part}"] = tuple(
                f"{ours}.attention.{layer}.{part}" for layer in ("query", "key", "value")
            )
        if config.layer_scale:
            names[f"{theirs}.ls_1.gamma"] = (f"{ours}.scale_attention.factor",)
            names[f"{theirs}.ls_2.gamma"] = (f"{ours}.scale_mlp.factor",)
    return {**names, **linear_and_norm_names(layers)}


def converters() -> Mapping[str, Converter]:
    """Give CLS (D,), positions (1 + P, D) and projection (D, E) the model's shapes."""
    return {
        "cls_token": lambda tensor: tensor.reshape(1, 1, -1),
        "position_embedding": lambda tensor: tensor[None],
        PROJECTION: lambda tensor: tensor.T,
    }


def plan_of(config: ViTConfig, preprocessing: Preprocessing, license: str) -> LoadPlan:
    """Make the LoadPlan that OpenAI's and open_clip's files share."""
    return LoadPlan(
        config=config,
        key_map=key_map(config),
        preprocessing=preprocessing,
        unused=TEXT,
        converters=converters(),
        license=license,
        zeros={"patch_embedding.projection.bias": (config.width,)},
        requires_projection=True,
    )


def refuse_resnet(files: CheckpointFiles) -> None:
    """Refuse models whose image tower is a ResNet.

    Raises:
        CheckpointError: The file is of such a model.
    """
    if files.has(_RESNET):
        raise CheckpointError(
            f"{files.path} holds {_RESNET}: the image tower of this CLIP is a ResNet; accepted: "
            "one with a Vision Transformer (ViT-B-32, ViT-B-16, ViT-L-14, ViT-L-14-336px)"
        )


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the names, and by numbers that only OpenAI's files hold.

    ResNets are recognised too, to refuse them by name.
    """
    is_clip = files.has(*SIGNATURE_KEYS) or files.has(_RESNET, "visual.attnpool.c_proj.weight")
    return is_clip and any(number in files.tensors for number in _NUMBERS)


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the image tower, with the preprocessing of clip.load.

    Raises:
        CheckpointError: The tower is a ResNet, or a tensor is missing.
    """
    refuse_resnet(files)
    config = ViTConfig(**config_fields(files))
    side = config.image_size_px[0]
    return plan_of(config, Preprocessing(centre_crop(side, side), MEAN, STD), license="mit")


FAMILY = Family("openai_clip", recognises, read, SIGNATURE_KEYS)
