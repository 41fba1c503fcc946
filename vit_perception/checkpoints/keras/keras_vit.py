"""Weights of the PyPI packages ``keras-vit`` and ``vit-keras`` (.h5), which Keras writes by the
names of layers.

Sources: https://github.com/djsaber/Keras-ViT and https://github.com/faustomorales/vit-keras; files
of ``save_weights`` and ``save``, by Keras 2 and 3. Layers that their author did not name are
numbered by Keras in the order in which a process made them: their order counts, not their numbers.
"""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, Reading
from vit_perception.checkpoints.files.labels_file import labels_beside
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.google.npz import convolution, transposed
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

MARKS = (
    "patch_embedding/patch_embedding/conv2d/kernel:0",
    "add_cls_token/add_cls_token/class_token_weight:0",
    "position_embedding/position_embedding/position_embedding:0",
    "layer_norm/layer_norm/gamma:0",
)
_PARTS = {
    "kernel": "weight",
    "gamma": "weight",
    "0": "weight",
    "bias": "bias",
    "beta": "bias",
    "1": "bias",
}
# A layer's path in a file, without what Keras puts around it -> the model's. "#" is a number of
# Keras's own.
_LAYERS = {
    r"patch_embedding/conv2d#|embedding|conv2d#": "patch_embedding.projection",
    r"layer_norm|Transformer_encoder_norm|layer_normalization#": "norm",
}
_BLOCK = re.compile(
    r"(?:transformer_block|Transformer_encoderblock)(?:_(?P<block>\d+))?/(?P<layer>.+)"
)
_BLOCK_LAYERS = {
    r"LayerNorm_0|layernorm1": "norm_attention",
    r"LayerNorm_2|layernorm2": "norm_mlp",
    r"(multi_head_attention_layer|MultiHeadDotProductAttention_1)/query|att/query_dense": "attention.query",  # noqa: E501
    r"(multi_head_attention_layer|MultiHeadDotProductAttention_1)/key|att/key_dense": "attention.key",  # noqa: E501
    r"(multi_head_attention_layer|MultiHeadDotProductAttention_1)/value|att/value_dense": "attention.value",  # noqa: E501
    r"multi_head_attention_layer/combine_out|MultiHeadDotProductAttention_1/out|att/combine_heads": "attention.output",  # noqa: E501
}
# Numbered by Keras: the first of a block is the one, the second the other.
_BLOCK_PAIRS = {
    r"layer_normalization#": ("norm_attention", "norm_mlp"),
    r"mlp_block_layer/dense#|MlpBlock_3/.+_Dense_\d+|mlpblock/layers/dense#": (
        "mlp.up",
        "mlp.down",
    ),
}
_TOKENS = {
    r"add_cls_token/class_token_weight|class_token/(cls|vars/0)": "cls_token",
    r"position_embedding/position_embedding|Transformer_posembed_input/pos_embedding|add_position_embs/vars/0": "position_embedding",  # noqa: E501
}


def recognises(found: Found) -> bool:
    """By the CLS token's and the positions' names in an HDF5 file."""
    return found.suffix in (".h5", ".hdf5") and {"cls_token", "position_embedding"} <= {
        target for _, target in _targets(found)
    }


def read(found: Found) -> Reading:
    """Sizes from the shapes. Raises CheckpointError where a layer's place cannot be told."""
    names = dict(_targets(found))
    held = {target: name for name, target in names.items()}
    shapes = {target: found.shape(name) for target, name in held.items()}
    try:
        patch, _, _, width = shapes["patch_embedding.projection.weight"]
        depth = 1 + max(
            int(target.split(".")[1]) for target in held if target.startswith("blocks.")
        )
        side = round((shapes["position_embedding"][1] - 1) ** 0.5) * patch
        mlp_width = shapes["blocks.0.mlp.up.weight"][1]
    except (KeyError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{found.path} lacks what tells its sizes ({error}); accepted: all weights of a "
            "keras-vit or vit-keras model"
        ) from error
    head = {}
    if "head.weight" in shapes:
        head = {"head": "linear", "classes": shapes["head.weight"][1]}
    elif "head.2.weight" in shapes:
        head = {
            "head": "linear_tanh_linear",
            "classes": shapes["head.2.weight"][1],
            "head_hidden_width": shapes["head.0.weight"][1],
        }
    config = ViTConfig(
        width,
        depth,
        _heads(found, width),
        mlp_width,
        patch,
        (side, side),
        position_interpolation="bilinear_corners",
        **head,
    )
    return Reading(
        config,
        {name: (target,) for name, target in names.items()},
        ResizeRule(config.image_size_px, "stretch", None, "bilinear_aliased"),
        HALF,
        HALF,
        labels_beside(found, config.classes) if config.classes else (),
        unused=("optimizer*", "top_level_model_weights/*"),
        converters=_converters(held),
    )


def _heads(found: Found, width: int) -> int:
    """From the model's description where the file holds one (``save``), else those of the published
    sizes.
    """
    described = re.search(r'"num_heads": (\d+)', found.metadata.get("model_config", ""))
    if described:
        return int(described[1])
    if width % 64:
        raise CheckpointError(
            f"{found.path} does not say how many attention heads it has; accepted: a width that is "
            "a "
            f"multiple of 64 (64 channels a head, as every published size has), not {width}"
        )
    return width // 64


def _targets(found: Found) -> Iterator[tuple[str, str]]:
    """(the file's name, the model's) of every tensor that has a place."""
    paths = {name: _path(name) for name in found.tensors}
    layers = {path.rpartition("/")[0].removesuffix("/vars") for path in paths.values()}
    places = dict(_places(sorted(layers, key=_by_number)))
    for name, path in paths.items():
        layer, _, part = path.rpartition("/")
        token = next(
            (ours for pattern, ours in _TOKENS.items() if re.fullmatch(pattern, path)), None
        )
        place = places.get(layer.removesuffix("/vars"))
        if token or (place and part in _PARTS):
            yield name, token or f"{place}.{_PARTS[part]}"


def _path(name: str) -> str:
    """Without ``:0``, the root of whole models, and the layer's name that Keras 2 writes twice."""
    path = name.removesuffix(":0").removeprefix("model_weights/").removeprefix("layers/")
    first, _, rest = path.partition("/")
    return rest if rest.startswith(f"{first}/") else path


def _places(layers: list[str]) -> Iterator[tuple[str, str]]:
    seen: dict[tuple[str, str], int] = {}
    for layer in layers:
        place = _match(_LAYERS, layer)
        block = _BLOCK.fullmatch(layer)
        if block:
            index = int(block["block"] or 0)
            place = _match(_BLOCK_LAYERS, block["layer"])
            pair = next(
                (pattern for pattern in _BLOCK_PAIRS if _matches(pattern, block["layer"])), None
            )
            if pair:
                order = seen[str(index), pair] = seen.get((str(index), pair), -1) + 1
                place = _BLOCK_PAIRS[pair][order] if order < 2 else None
            place = place and f"blocks.{index}.{place}"
        if place:
            yield layer, place
    yield from _heads_of(layers)


def _heads_of(layers: list[str]) -> Iterator[tuple[str, str]]:
    """The layers behind the pooling: by name, or by Keras's numbers the last one and the one before
    it.
    """
    named = [layer for layer in layers if layer in ("pre_logits", "mlp_head", "head")]
    heads = sorted(named, key="pre_logits".__ne__) or [
        layer for layer in layers if _matches("dense#", layer)
    ]
    if len(heads) == 2:
        yield from zip(heads, ("head.0", "head.2"))
    elif heads and heads != ["pre_logits"]:
        yield heads[0], "head"


def _match(patterns: Mapping[str, str], layer: str) -> str | None:
    return next((ours for pattern, ours in patterns.items() if _matches(pattern, layer)), None)


def _matches(pattern: str, layer: str) -> bool:
    return re.fullmatch(pattern.replace("#", r"(_\d+)?"), layer) is not None


def _by_number(layer: str) -> list[tuple[str, int]]:
    """So that dense_2 comes before dense_10, and dense first."""
    return [
        (part.rstrip("0123456789").rstrip("_"), int((re.search(r"\d+$", part) or ["-1"])[0]))
        for part in layer.split("/")
    ]


def _converters(held: Mapping[str, str]) -> dict[str, Converter]:
    kernels: dict[str, Converter] = {
        target: _kernel for target in held if target.endswith(".weight")
    }
    return kernels | {"patch_embedding.projection.weight": convolution}


def _kernel(tensor: Tensor) -> Tensor:
    """A dense kernel (inputs, outputs) to torch's (outputs, inputs); a norm's scale as it is."""
    return transposed(tensor) if tensor.ndim == 2 else tensor


FAMILY = Family("keras_vit", recognises, read, MARKS)
