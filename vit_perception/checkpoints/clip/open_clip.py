"""Checkpoints of open_clip (open_clip_model.safetensors, open_clip_pytorch_model.bin) with
open_clip_config.json.

Image towers of open_clip's own Vision Transformer are read, with their projection. Format:
https://github.com/mlfoundations/open_clip (src/open_clip/model.py, transform.py). What the tensors
do not tell (the activation, the number of heads, the preprocessing) is in
open_clip_config.json.
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.clip.openai import (
    MEAN,
    SIGNATURE_KEYS,
    STD,
    config_fields,
    plan_of,
    refuse_resnet,
)
from vit_perception.checkpoints.defaults import centre_crop
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Family, LoadPlan, Preprocessing
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles, optional_json
from vit_perception.checkpoints.huggingface.config import license_of
from vit_perception.files.errors import InvalidValue
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

CONFIG_FILE = "open_clip_config.json"
_TIMM = "visual.trunk."
# Fields of vision_cfg that change the tower -> the values that this model supports.
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


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the names of open_clip's own tower.

    One of timm's towers next to open_clip_config.json is recognised too, to refuse it by name.
    """
    if files.has("visual.proj", "visual.conv1.weight", "visual.class_embedding"):
        return True
    has_tower = any(name.startswith("visual.") for name in files.tensors)
    return has_tower and (files.folder / CONFIG_FILE).is_file()


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the image tower.

    Raises:
        CheckpointError: It is a tower of another kind, or a field is wrong.
    """
    refuse_resnet(files)
    path = files.folder / CONFIG_FILE
    fields = optional_json(path, "model_cfg and preprocess_cfg")
    if any(name.startswith(_TIMM) for name in files.tensors):
        vision = (fields or {}).get("model_cfg", {}).get("vision_cfg") or {}
        raise CheckpointError(
            f"{files.path} holds {_TIMM}*: its image tower is timm's "
            f"{vision.get('timm_model_name', 'unknown')}; accepted: towers of open_clip's own; for "
            "SigLIP the checkpoint of transformers (e.g. google/siglip-base-patch16-224), or the "
            "tower as a timm checkpoint"
        )
    if fields is None:
        raise CheckpointError(
            f"{files.folder}: no file {CONFIG_FILE}, which tells the activation and the number of "
            "heads; accepted: a folder as open_clip publishes it, or model.family: openai_clip for "
            "weights of OpenAI's models"
        )
    try:
        config = _config_of(files, fields["model_cfg"])
        preprocessing = _preprocessing_of(fields.get("preprocess_cfg") or {}, config)
    except KeyError as error:
        raise CheckpointError(
            f"{path} has no {error.args[0]!r}; accepted: model_cfg with vision_cfg"
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return plan_of(config, preprocessing, license_of(files.folder))


def _config_of(files: CheckpointFiles, model: Mapping[str, Any]) -> ViTConfig:
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
    fields = config_fields(files)
    fields["heads"] = fields["width"] // vision.get("head_width", 64)
    fields["norm_eps"] = (vision.get("norm_kwargs") or {}).get("eps", 1e-5)
    fields["activation"] = "quick_gelu" if model.get("quick_gelu") else "gelu"
    fields["norm_before_blocks"] = not vision.get("no_ln_pre", False)
    if vision.get("pool_type") == "avg":
        fields["pooling"] = "mean"
        fields["norm_pooled"] = vision.get("final_ln_after_pool", False)
    fields["position_interpolation"] = "bicubic_antialias"
    fields["layer_scale"] = vision.get("ls_init_value") is not None
    given = vision.get("image_size", 224)
    height, width = given if isinstance(given, (list, tuple)) else (given, given)
    # open_clip drops what no patch covers, as its convolution does.
    patch = fields["patch_size_px"]
    fields["image_size_px"] = (height // patch * patch, width // patch * patch)
    return ViTConfig(**fields)


def _preprocessing_of(fields: Mapping[str, Any], config: ViTConfig) -> Preprocessing:
    size = fields.get("size") or config.image_size_px
    size = (size, size) if isinstance(size, int) else tuple(size)
    mode = fields.get("resize_mode") or "shortest"
    interpolation = fields.get("interpolation") or "bicubic"
    if mode not in ("shortest", "squash"):
        raise InvalidValue(f"resize_mode of preprocess_cfg is {mode!r}; accepted: shortest, squash")
    if mode == "squash":
        rule = ResizeRule(size, "stretch", interpolation=interpolation)
    elif size[0] == size[1]:
        rule = centre_crop(size[0], size[0], interpolation)
    else:
        raise InvalidValue(
            f"size of preprocess_cfg is {size} with resize_mode shortest; accepted: a square, or "
            "squash"
        )
    mean = tuple(fields.get("mean") or MEAN)
    return Preprocessing(rule, mean, tuple(fields.get("std") or STD))


FAMILY = Family("open_clip", recognises, read, SIGNATURE_KEYS)
