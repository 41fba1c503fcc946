"""Google Research's Vision Transformer files (.npz): ViT and AugReg, pre-trained and fine-tuned.

Format: https://github.com/google-research/vision_transformer, the parameters of
vit_jax/models_vit.py by their paths. Published files number layers as Flax did before its module
``linen``. Both numberings are read.
"""

from collections.abc import Mapping

from torch import Tensor

from vit_perception.checkpoints.defaults import stretch_half
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, KeyMap, LoadPlan
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.labels_file import labels_for
from vit_perception.model.vit_config import ViTConfig

SIGNATURE_KEYS = (
    "Transformer/encoder_norm/scale",
    "Transformer/encoder_norm/bias",
    "embedding/kernel",
    "embedding/bias",
)
_BLOCK = "Transformer/encoderblock_"
_POSITIONS = "Transformer/posembed_input/pos_embedding"
# The model's layer in a block -> its key aliases.
_NORMS = {"norm_attention": ("LayerNorm_0",), "norm_mlp": ("LayerNorm_2", "LayerNorm_1")}
_ATTENTIONS = ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
_ATTENTION_LAYERS = {"query": "query", "key": "key", "value": "value", "out": "output"}
_MLPS = ("MlpBlock_3", "MlpBlock_0")
_MLP_LAYERS = {"Dense_0": "up", "Dense_1": "down"}
# In these a ResNet comes before the patches.
_HYBRID = ("conv_root/", "gn_root/", "block1/", "root/")


def recognises(files: CheckpointFiles) -> bool:
    """Tell by the paths of parameters. A ResNet hybrid is recognised too, to refuse it by name."""
    return files.has("Transformer/encoder_norm/scale", "embedding/kernel")


def read(files: CheckpointFiles) -> LoadPlan:
    """Plan the model, with sizes from the shapes.

    Raises:
        CheckpointError: It is a ResNet hybrid, or a tensor is missing.
    """
    hybrid = next((name for name in files.tensors if name.startswith(_HYBRID)), None)
    if hybrid:
        raise CheckpointError(
            f"{files.path} is a ResNet hybrid (it holds {hybrid}); accepted: models whose patches "
            "are cut from the image, like ViT-B_16"
        )
    config = config_of(files)
    return LoadPlan(
        config=config,
        key_map=key_map(config),
        preprocessing=stretch_half(config.image_size_px),
        labels=labels_for(files, config.classes),
        unused=("pre_logits/*",),  # of a file whose head was removed
        converters=converters(config),
        license="apache-2.0",
    )


def config_of(files: CheckpointFiles) -> ViTConfig:
    """Read the model's shape. Flax's GELU is the tanh approximation, and the image is a square."""
    patch, _, _, width = files.shape("embedding/kernel")
    cls_token = "cls" in files.tensors
    side = round((files.shape(_POSITIONS)[1] - int(cls_token)) ** 0.5) * patch
    query = _first_held(files, [f"{_BLOCK}0/{name}/query/kernel" for name in _ATTENTIONS])
    up = _first_held(files, [f"{_BLOCK}0/{name}/Dense_0/kernel" for name in _MLPS])
    head = {}
    if "head/kernel" in files.tensors:
        head = {"head": "linear", "classes": files.shape("head/kernel")[1]}
        if "pre_logits/kernel" in files.tensors:
            head["head"] = "linear_tanh_linear"
            head["head_hidden_width"] = files.shape("pre_logits/kernel")[1]
    return ViTConfig(
        width=width,
        depth=len({name.split("/")[1] for name in files.tensors if name.startswith(_BLOCK)}),
        heads=files.shape(query)[1],
        mlp_width=files.shape(up)[1],
        patch_size_px=patch,
        image_size_px=(side, side),
        activation="gelu_tanh",
        cls_token=cls_token,
        pooling="cls" if cls_token else "mean",
        position_interpolation="bilinear_corners",
        **head,
    )


def _first_held(files: CheckpointFiles, names: list[str]) -> str:
    return next((name for name in names if name in files.tensors), names[0])


def key_map(config: ViTConfig) -> KeyMap:
    """Map every name that a file may use to the model's name."""
    linear = {"embedding": "patch_embedding.projection", "head": "head"}
    if config.head == "linear_tanh_linear":
        linear |= {"pre_logits": "head.0", "head": "head.2"}
    norm = {"Transformer/encoder_norm": "norm"}
    for index in range(config.depth):
        theirs = f"{_BLOCK}{index}"
        ours = f"blocks.{index}"
        for layer, names in _NORMS.items():
            norm |= {f"{theirs}/{name}": f"{ours}.{layer}" for name in names}
        for name in _ATTENTIONS:
            for part, layer in _ATTENTION_LAYERS.items():
                linear[f"{theirs}/{name}/{part}"] = f"{ours}.attention.{layer}"
        for name in _MLPS:
            for part, layer in _MLP_LAYERS.items():
                linear[f"{theirs}/{name}/{part}"] = f"{ours}.mlp.{layer}"
    keys = {"cls": ("cls_token",), _POSITIONS: ("position_embedding",)}
    for layers, weight in ((linear, "kernel"), (norm, "scale")):
        for theirs, ours in layers.items():
            keys[f"{theirs}/{weight}"] = (f"{ours}.weight",)
            keys[f"{theirs}/bias"] = (f"{ours}.bias",)
    return keys


def converters(config: ViTConfig) -> Mapping[str, Converter]:
    """Turn kernels from (inputs, outputs) to torch's (outputs, inputs), and join the heads."""
    layouts: dict[str, Converter] = {"patch_embedding.projection.weight": convolution}
    layouts |= {f"{layer}.weight": transposed for layer in ("head", "head.0", "head.2")}
    for index in range(config.depth):
        layouts |= {f"blocks.{index}.mlp.{layer}.weight": transposed for layer in ("up", "down")}
        for layer in ("query", "key", "value"):
            layouts[f"blocks.{index}.attention.{layer}.weight"] = _split_outputs
            layouts[f"blocks.{index}.attention.{layer}.bias"] = _flat
        layouts[f"blocks.{index}.attention.output.weight"] = _split_inputs
    return layouts


def convolution(kernel: Tensor) -> Tensor:
    """Turn (rows, columns, 3, D) to (D, 3, rows, columns)."""
    return kernel.permute(3, 2, 0, 1)


def transposed(kernel: Tensor) -> Tensor:
    """Turn (inputs, outputs) to (outputs, inputs)."""
    return kernel.permute(1, 0)


def _split_outputs(kernel: Tensor) -> Tensor:  # (D, heads, D / heads) -> (D, D)
    return kernel.flatten(1).permute(1, 0)


def _split_inputs(kernel: Tensor) -> Tensor:  # (heads, D / heads, D) -> (D, D)
    return kernel.flatten(0, 1).permute(1, 0)


def _flat(bias: Tensor) -> Tensor:
    return bias.flatten()


FAMILY = Family("google_npz", recognises, read, SIGNATURE_KEYS)
