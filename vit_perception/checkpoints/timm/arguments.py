"""``model_args`` in a config.json of timm: the author's changes to the named architecture.

Many of them change what is computed and no tensor, so each is obeyed, compared with the tensors, or
refused by name. They are the arguments of VisionTransformer,
VisionTransformerDistilled and Eva in timm 1.0 (https://github.com/huggingface/pytorch-image-models:
models/vision_transformer.py, deit.py and eva.py).
"""

from collections.abc import Mapping
from typing import Any

from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.timm.perception_encoder import accepted_arguments, is_pe
from vit_perception.files.errors import InvalidValue

# Of training, of memory, or of sizes that an engine's input never has.
_WITHOUT_EFFECT = {
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "head_init_scale",
    "device",
    "dtype",
    "dynamic_img_size",
    "dynamic_img_pad",
    "strict_img_size",
    "qkv_fused",
    "rope_shift_coords",
    "rope_jitter_coords",
    "rope_rescale_coords",
}
# Visible in the tensors: strict loading checks them.
_WITHOUT_EFFECT |= {
    "mlp_ratio",
    "qkv_bias",
    "proj_bias",
    "init_values",
    "swiglu_mlp",
    "swiglu_align_to",
    "no_embed_class",
    "fc_norm",
    "use_fc_norm",
}
# Read by the functions below and in timm/vit.py.
_OBEYED = {
    "num_heads",
    "act_layer",
    "global_pool",
    "norm_layer",
    "final_norm",
    "rope_temperature",
    "img_size",
}
# Of the Perception Encoder; in other models they are refused.
_OBEYED_OF_PE = {"ref_feat_shape", "attn_pool_num_heads", "attn_pool_mlp_ratio"}
# The only values that compute what is computed here.
_ONLY: dict[str, tuple[Any, ...]] = {
    "qk_norm": (False, None),
    "scale_attn_norm": (False, None),
    "scale_mlp_norm": (False, None),
    "pool_include_prefix": (False, None),
    "embed_norm_layer": (None,),
    "embed_layer": (None,),
    "block_fn": (None,),
    "mlp_layer": (None,),
    "attn_layer": (None,),
    "pos_embed": ("learn",),
    "scale_mlp": (False, None),
    "scale_attn_inner": (False, None),
    "attn_type": ("eva", "rope"),
    "num_kv_heads": (None,),
    "attn_only_layer_scale": (False, None),
    "use_post_norm": (False, None),
    "use_pre_transformer_norm": (False, None),
    "use_post_transformer_norm": (True, None),
    "attn_pool_num_heads": (None,),
    "attn_pool_mlp_ratio": (None,),
    "ref_feat_shape": (None,),
    "rope_grid_offset": (0, None),
    "rope_grid_indexing": ("ij",),
    "rope_mrope_section": (None,),
    "rope_type": ("dinov3",),
    "rope_rotate_half": (True,),
    "use_rot_pos_emb": (True,),
    "use_abs_pos_emb": (False,),
}
# A file with learned positions must not turn rotary ones on.
_OF_DINOV3 = {"rope_type", "rope_rotate_half", "use_rot_pos_emb", "use_abs_pos_emb"}
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_tanh": "gelu_tanh"}


def arguments_of(description: Mapping[str, Any], files: CheckpointFiles) -> dict[str, Any]:
    """Read ``model_args`` of timm's config.json.

    Raises:
        ValueError: An argument is unknown, or changes what the model computes.
    """
    arguments = description.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise InvalidValue(
            f"model_args is {arguments!r:.80}; accepted: an object of timm's arguments"
        )
    told = _told_by_tensors(files)
    obeyed = _OBEYED
    if is_pe(description["architecture"]):
        told |= accepted_arguments(files)
        obeyed = _OBEYED | _OBEYED_OF_PE
    for name, value in arguments.items():
        if name in told:
            accepted: tuple[Any, ...] = told[name]
        elif name in _WITHOUT_EFFECT or name in obeyed:
            continue
        elif name in _OF_DINOV3 and "pos_embed" in files.tensors:
            accepted = (True, None) if name == "use_abs_pos_emb" else (False, None, "", "cat")
        elif name in _ONLY:
            accepted = _ONLY[name]
        else:
            raise InvalidValue(
                f"model_args has {name[:80]!r}, which is not known here; accepted: "
                f"{', '.join(sorted({*_WITHOUT_EFFECT, *obeyed, *_ONLY, *told}))}"
            )
        if not any(type(value) is type(other) and value == other for other in accepted):
            raise InvalidValue(
                f"{name} of model_args is {value!r:.80}, which changes what the model computes; "
                f"accepted: {', '.join(map(repr, accepted))}"
            )
    return dict(arguments)


def activation_of(arguments: Mapping[str, Any], default: str, is_swiglu: bool) -> str:
    """Read ``act_layer``, else take ``default``. A SwiGLU has SiLU.

    Raises:
        ValueError: It is another activation.
    """
    given = arguments.get("act_layer")
    accepted = {"silu": "swiglu", "swish": "swiglu"} if is_swiglu else _ACTIVATIONS
    if given is None:
        return "swiglu" if is_swiglu else default
    if not isinstance(given, str) or given not in accepted:
        raise InvalidValue(
            f"act_layer of model_args is {given!r:.80}; accepted: {', '.join(accepted)}"
        )
    return accepted[given]


def norm_eps_of(
    arguments: Mapping[str, Any], architecture: str, has_norm_before: bool, has_rope: bool
) -> float:
    """Find the norms' epsilon, by ``norm_layer`` or the architecture.

    Raises:
        ValueError: It is another norm.
    """
    given = arguments.get("norm_layer")
    if given is not None:
        if given != "layernorm":
            raise InvalidValue(f"norm_layer of model_args is {given!r:.80}; accepted: layernorm")
        return 1e-6
    if has_rope:
        return 1e-5
    is_clip = architecture.startswith("vit_") and "_clip_" in architecture
    return 1e-5 if is_clip or (has_norm_before and not architecture) else 1e-6


def final_norm_of(arguments: Mapping[str, Any]) -> bool:
    """Tell whether there is a final norm.

    Raises:
        ValueError: The argument is neither true nor false.
    """
    given = arguments.get("final_norm", True)
    if not isinstance(given, bool):
        raise InvalidValue(f"final_norm of model_args is {given!r:.80}; accepted: true or false")
    return given


def image_size_of(arguments: Mapping[str, Any]) -> tuple[int, int] | tuple[()]:
    """Read ``img_size`` as (height, width); () if it is not given.

    Raises:
        ValueError: It is something else.
    """
    given = arguments.get("img_size")
    if given is None:
        return ()
    pair = tuple(given) if isinstance(given, (list, tuple)) else (given, given)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise InvalidValue(
            f"img_size of model_args is {given!r:.80}; accepted: a number of pixels, or height and "
            "width"
        )
    return pair


def _told_by_tensors(files: CheckpointFiles) -> dict[str, tuple[Any, ...]]:
    """Read the values of arguments that the tensors tell."""
    width, channels, patch, _ = files.shape("patch_embed.proj.weight")
    registers = files.shape("reg_token")[1] if "reg_token" in files.tensors else 0
    classes = files.shape("head.weight")[0] if "head.weight" in files.tensors else 0
    return {
        "embed_dim": (width,),
        "in_chans": (channels,),
        "patch_size": (patch,),
        "depth": (files.count("blocks."),),
        "class_token": ("cls_token" in files.tensors,),
        "pre_norm": ("norm_pre.weight" in files.tensors,),
        "reg_tokens": (registers,),
        "num_reg_tokens": (registers,),
        "num_classes": (classes,),
    }
