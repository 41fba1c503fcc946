"""Weights of the PyPI packages ``keras-vit`` and ``vit-keras`` (.h5), by Keras's names of layers.

Sources: https://github.com/djsaber/Keras-ViT and https://github.com/faustomorales/vit-keras; files
of ``save_weights`` and ``save``, by Keras 2 and 3. Keras numbers unnamed layers in the order in
which a process made them: their order counts, not their numbers.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar

from torch import Tensor

from vit_perception.checkpoints.defaults import stretch_half
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.labels_file import labels_for
from vit_perception.checkpoints.google.npz import convolution, transposed
from vit_perception.model.vit_config import ViTConfig

_T = TypeVar("_T")
SIGNATURE_KEYS = (
    "patch_embedding/patch_embedding/conv2d/kernel:0",
    "add_cls_token/add_cls_token/class_token_weight:0",
    "position_embedding/position_embedding/position_embedding:0",
    "layer_norm/layer_norm/gamma:0",
)
# The last part of a path -> the model's.
_PARTS = {
    "kernel": "weight",
    "gamma": "weight",
    "0": "weight",
    "bias": "bias",
    "beta": "bias",
    "1": "bias",
}
# A layer's path in a file, without what Keras puts around it -> the model's layer. "#" is a number
# given by Keras.
_LAYERS = {
    r"patch_embedding/conv2d#|embedding|conv2d#": "patch_embedding.projection",
    r"layer_norm|Transformer_encoder_norm|layer_normalization#": "norm",
}
_BLOCK = re.compile(
    r"(?:transformer_block|Transformer_encoderblock)(?:_(?P<block>\d+))?/(?P<layer>.+)"
)
_ATTENTION = r"(multi_head_attention_layer|MultiHeadDotProductAttention_1)"
_BLOCK_LAYERS = {
    r"LayerNorm_0|layernorm1": "norm_attention",
    r"LayerNorm_2|layernorm2": "norm_mlp",
    rf"{_ATTENTION}/query|att/query_dense": "attention.query",
    rf"{_ATTENTION}/key|att/key_dense": "attention.key",
    rf"{_ATTENTION}/value|att/value_dense": "attention.value",
    r"multi_head_attention_layer/combine_out|MultiHeadDotProductAttention_1/out"
    r"|att/combine_heads": "attention.output",
}
# Numbered by Keras: the first one in a block, and the second one.
_BLOCK_PAIRS = {
    r"layer_normalization#": ("norm_attention", "norm_mlp"),
    r"mlp_block_layer/dense#|MlpBlock_3/.+_Dense_\d+|mlpblock/layers/dense#": (
        "mlp.up",
        "mlp.down",
    ),
}
_TOKENS = {
    r"add_cls_token/class_token_weight|class_token/(cls|vars/0)": "cls_token",
    r"(position_embedding/position_embedding|Transformer_posembed_input/pos_embedding"
    r"|add_position_embs/vars/0)": "position_embedding",
}


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the names of the CLS token and the positions in an HDF5 file."""
    if files.suffix not in (".h5", ".hdf5"):
        return False
    return {"cls_token", "position_embedding"} <= set(_targets(files).values())


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes.

    Raises:
        CheckpointError: A layer's place in the model or a size cannot be told.
    """
    names = _targets(files)
    held = {target: name for name, target in names.items()}
    config = _config_of(files, {target: files.shape(name) for target, name in held.items()})
    return LoadPlan(
        config=config,
        key_map={name: (target,) for name, target in names.items()},
        preprocessing=stretch_half(config.image_size_px),
        labels=labels_for(files, config.classes),
        unused=("optimizer*", "top_level_model_weights/*"),
        converters=_converters(held),
    )


def _config_of(files: CheckpointFiles, shapes: Mapping[str, tuple[int, ...]]) -> ViTConfig:
    """Read the model's shape from ``shapes``, by the model's names."""
    blocks = [int(target.split(".")[1]) for target in shapes if target.startswith("blocks.")]
    try:
        patch, _, _, width = shapes["patch_embedding.projection.weight"]
        depth = 1 + max(blocks)
        side = round((shapes["position_embedding"][1] - 1) ** 0.5) * patch
        mlp_width = shapes["blocks.0.mlp.up.weight"][1]
    except (KeyError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{files.path} lacks what tells its sizes ({error}); accepted: all weights of a "
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
    return ViTConfig(
        width=width,
        depth=depth,
        heads=_heads(files, width),
        mlp_width=mlp_width,
        patch_size_px=patch,
        image_size_px=(side, side),
        position_interpolation="bilinear_corners",
        **head,
    )


def _heads(files: CheckpointFiles, width: int) -> int:
    """Read the number of heads from the model's description (``save``), else take 64 channels
    each.
    """
    described = re.search(r'"num_heads": (\d+)', files.metadata.get("model_config", ""))
    if described:
        return int(described[1])
    if width % 64:
        raise CheckpointError(
            f"{files.path} does not say how many attention heads it has; accepted: a width that is "
            "a multiple of 64 (64 channels a head, as every published size has), not "
            f"{width}"
        )
    return width // 64


def _targets(files: CheckpointFiles) -> dict[str, str]:
    """Map the name of every tensor that has a place to the model's name."""
    paths = {name: _path(name) for name in files.tensors}
    layers = {path.rpartition("/")[0].removesuffix("/vars") for path in paths.values()}
    places = dict(_places(sorted(layers, key=_by_number)))
    targets = {}
    for name, path in paths.items():
        layer, _, part = path.rpartition("/")
        token = _match(_TOKENS, path)
        place = places.get(layer.removesuffix("/vars"))
        if token:
            targets[name] = token
        elif place and part in _PARTS:
            targets[name] = f"{place}.{_PARTS[part]}"
    return targets


def _path(name: str) -> str:
    """Remove ``:0``, the root of complete models, and the layer's name that Keras 2 writes
    twice.
    """
    path = name.removesuffix(":0").removeprefix("model_weights/").removeprefix("layers/")
    first, _, rest = path.partition("/")
    return rest if rest.startswith(f"{first}/") else path


def _places(layers: list[str]) -> Iterator[tuple[str, str]]:
    """Pair each layer with the model's; ``layers`` are in the order of their numbers."""
    seen: Counter[tuple[int, tuple[str, str]]] = Counter()
    for layer in layers:
        place = _match(_LAYERS, layer)
        block = _BLOCK.fullmatch(layer)
        if block:
            index = int(block["block"] or 0)
            place = _match(_BLOCK_LAYERS, block["layer"])
            pair = _match(_BLOCK_PAIRS, block["layer"])
            if pair:
                place = dict(enumerate(pair)).get(seen[index, pair])
                seen[index, pair] += 1
            place = place and f"blocks.{index}.{place}"
        if place:
            yield layer, place
    yield from _heads_of(layers)


def _heads_of(layers: list[str]) -> Iterator[tuple[str, str]]:
    """Pair the layers after the pooling: by name, else by Keras's numbers the last two."""
    named = [layer for layer in layers if layer in ("pre_logits", "mlp_head", "head")]
    heads = sorted(named, key="pre_logits".__ne__) or [
        layer for layer in layers if _matches("dense#", layer)
    ]
    if len(heads) == 2:
        yield from zip(heads, ("head.0", "head.2"))
    elif heads and heads != ["pre_logits"]:
        yield heads[0], "head"


def _match(patterns: Mapping[str, _T], layer: str) -> _T | None:
    return next((ours for pattern, ours in patterns.items() if _matches(pattern, layer)), None)


def _matches(pattern: str, layer: str) -> bool:
    return re.fullmatch(pattern.replace("#", r"(_\d+)?"), layer) is not None


def _by_number(layer: str) -> list[tuple[str, int]]:
    """Sort dense_2 before dense_10, and dense first."""
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
    """Turn a dense kernel (inputs, outputs) to torch's (outputs, inputs); keep a norm's scale."""
    return transposed(tensor) if tensor.ndim == 2 else tensor


FAMILY = Family("keras_vit", recognises, read, SIGNATURE_KEYS)
