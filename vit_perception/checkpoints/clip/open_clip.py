"""Checkpoints of open_clip (open_clip_model.safetensors, open_clip_pytorch_model.bin) with
open_clip_config.json.

Image towers of open_clip's own Vision Transformer are read, with their projection. Format:
https://github.com/mlfoundations/open_clip (src/open_clip/model.py, transform.py). What the tensors
do not tell (the activation, the number of heads, the preprocessing) stands in
open_clip_config.json.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.clip.openai import (
    MARKS,
    MEAN,
    STD,
    reading_of,
    refuse_resnet,
    shape_of,
)
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, Reading
from vit_perception.checkpoints.files.opened import Found, optional_json
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

CONFIG_FILE = "open_clip_config.json"
_TIMM = "visual.trunk."
# Fields of vision_cfg that change the tower, and the only values that this model knows.
_ONLY = {
    "attentional_pool": (False, None),
    "pool_type": ("tok", "avg", None),
    "block_type": ("default", None),
    "pos_embed_type": ("learnable", "sin_cos_2d", None),
    "qk_norm": (False, None),
    "scaled_cosine_attn": (False, None),
    "scale_heads": (False, None),
    "scale_attn_inner": (False, None),
    "scale_attn": (False, None),
    "scale_fc": (False, None),
    "act_kwargs": (None, {}),
}


def recognises(found: Found) -> bool:
    """By the names of open_clip's own tower, or of a tower of timm's in it, for an error of its
    own.
    """
    names = ("visual.proj", "visual.conv1.weight", "visual.class_embedding")
    return found.has(*names) or (
        (found.folder / CONFIG_FILE).is_file()
        and (any(name.startswith("visual.") for name in found.tensors))
    )


def read(found: Found) -> Reading:
    """The image tower. Raises CheckpointError naming the file and the field for towers of other
    kinds.
    """
    refuse_resnet(found)
    path = found.folder / CONFIG_FILE
    fields = optional_json(path, "model_cfg and preprocess_cfg")
    if any(name.startswith(_TIMM) for name in found.tensors):
        name = ((fields or {}).get("model_cfg", {}).get("vision_cfg") or {}).get(
            "timm_model_name", "unknown"
        )
        raise CheckpointError(
            f"{found.path} holds {_TIMM}*: its image tower is timm's {name}; accepted: towers of "
            "open_clip's own; for SigLIP the checkpoint of transformers (e.g. "
            "google/siglip-base-patch16-224), or the tower as a timm checkpoint"
        )
    if fields is None:
        raise CheckpointError(
            f"{found.folder}: no file {CONFIG_FILE}, which tells the activation and the number of "
            "heads; accepted: a folder as open_clip publishes it, or model.family: openai_clip for "
            "weights of OpenAI's models"
        )
    try:
        config = _config_of(found, fields["model_cfg"])
        rule, mean, std = _preprocessing_of(fields.get("preprocess_cfg") or {}, config)
    except KeyError as error:
        raise CheckpointError(
            f"{path} has no {error.args[0]!r}; accepted: model_cfg with vision_cfg"
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return reading_of(config, rule, mean, std, license_of(found.folder))


def _config_of(found: Found, model: Mapping[str, Any]) -> ViTConfig:
    vision = model["vision_cfg"]
    if model.get("multimodal_cfg"):
        raise InvalidValue("multimodal_cfg is given: a CoCa model; accepted: CLIP models")
    for name, accepted in _ONLY.items():
        if vision.get(name) not in accepted:
            raise InvalidValue(
                f"{name} of vision_cfg is {vision[name]!r}; accepted: "
                f"{', '.join(repr(value) for value in accepted if value is not None)}"
            )
    if not isinstance(vision["layers"], int):
        raise InvalidValue(
            f"layers of vision_cfg is {vision['layers']!r}, a ResNet's; accepted: an integer"
        )
    shape = shape_of(found)
    shape["heads"] = shape["width"] // vision.get("head_width", 64)
    shape["norm_eps"] = (vision.get("norm_kwargs") or {}).get("eps", 1e-5)
    shape["activation"] = "quick_gelu" if model.get("quick_gelu") else "gelu"
    shape["norm_before_blocks"] = not vision.get("no_ln_pre", False)
    if vision.get("pool_type") == "avg":
        shape |= {"pooling": "mean", "norm_pooled": vision.get("final_ln_after_pool", False)}
    shape["position_interpolation"] = "bicubic_antialias"
    shape["layer_scale"] = vision.get("ls_init_value") is not None
    given = vision.get("image_size", 224)
    patch = shape["patch_size_px"]
    height, width = given if isinstance(given, (list, tuple)) else (given, given)
    # open_clip lets go of what no patch covers, as its convolution does.
    shape["image_size_px"] = (height // patch * patch, width // patch * patch)
    return ViTConfig(**shape)


def _preprocessing_of(
    fields: Mapping[str, Any], config: ViTConfig
) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    size, mode = fields.get("size") or config.image_size_px, fields.get("resize_mode") or "shortest"
    size = (size, size) if isinstance(size, int) else tuple(size)
    interpolation = fields.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash"):
        raise InvalidValue(f"resize_mode of preprocess_cfg is {mode!r}; accepted: shortest, squash")
    if mode == "squash":
        rule = ResizeRule(size, "stretch", interpolation=interpolation)
    elif size[0] == size[1]:
        rule = ResizeRule(size, "crop", size[0], interpolation, crop_rounding="half_even")
    else:
        raise InvalidValue(
            f"size of preprocess_cfg is {size} with resize_mode shortest; accepted: a square, or "
            "squash"
        )
    return rule, tuple(fields.get("mean") or MEAN), tuple(fields.get("std") or STD)


FAMILY = Family("open_clip", recognises, read, MARKS)
