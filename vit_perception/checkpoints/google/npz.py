"""Google Research's Vision Transformer files (.npz): ViT and AugReg, pre-trained and fine-tuned.

Format: https://github.com/google-research/vision_transformer, the parameters of
vit_jax/models_vit.py by their paths. Published files have the numbers of layers that Flax gave
before its module ``linen``; both numberings are read.
"""

from collections.abc import Mapping

from torch import Tensor

from vit_perception.checkpoints.defaults import HALF
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import Converter, Family, KeyMap, Reading
from vit_perception.checkpoints.files.labels_file import labels_beside
from vit_perception.checkpoints.files.opened import Found
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

MARKS = (
    "Transformer/encoder_norm/scale",
    "Transformer/encoder_norm/bias",
    "embedding/kernel",
    "embedding/bias",
)
_BLOCK, _POSITIONS = "Transformer/encoderblock_", "Transformer/posembed_input/pos_embedding"
# The model's layer in a block: the spellings of files.
_NORMS = {"norm_attention": ("LayerNorm_0",), "norm_mlp": ("LayerNorm_2", "LayerNorm_1")}
_ATTENTIONS, _MLPS = (
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("MlpBlock_3", "MlpBlock_0"),
)
# A ResNet stands before the patches of these.
_HYBRID = ("conv_root/", "gn_root/", "block1/", "root/")


def recognises(found: Found) -> bool:
    """By the paths of its parameters; of a ResNet hybrid too, so that it can be refused by its
    name.
    """
    return found.has("Transformer/encoder_norm/scale", "embedding/kernel")


def read(found: Found) -> Reading:
    """Sizes from the shapes. Raises CheckpointError for a ResNet hybrid."""
    hybrid = next((name for name in found.tensors if name.startswith(_HYBRID)), None)
    if hybrid:
        raise CheckpointError(
            f"{found.path} is a ResNet hybrid (it holds {hybrid}); accepted: models whose patches "
            "are cut from the image, like ViT-B_16"
        )
    config = config_of(found)
    return Reading(
        config,
        key_map(config),
        ResizeRule(config.image_size_px, "stretch", None, "bilinear_aliased"),
        HALF,
        HALF,
        labels_beside(found, config.classes) if config.classes else (),
        unused=("pre_logits/*",),  # of a file whose head was taken off
        converters=converters(config),
        license="apache-2.0",
    )


def config_of(found: Found) -> ViTConfig:
    """The model's shape. Flax's GELU is the tanh approximation, and the image is a square."""
    patch, _, _, width = found.shape("embedding/kernel")
    cls_token = "cls" in found.tensors
    side = round((found.shape(_POSITIONS)[1] - int(cls_token)) ** 0.5) * patch
    attention = next(
        (name for name in _ATTENTIONS if f"{_BLOCK}0/{name}/query/kernel" in found.tensors),
        _ATTENTIONS[0],
    )
    mlp = next(
        (name for name in _MLPS if f"{_BLOCK}0/{name}/Dense_0/kernel" in found.tensors), _MLPS[0]
    )
    depth = len({name.split("/")[1] for name in found.tensors if name.startswith(_BLOCK)})
    fields = {}
    if "head/kernel" in found.tensors:
        fields = {"head": "linear", "classes": found.shape("head/kernel")[1]}
        if "pre_logits/kernel" in found.tensors:
            fields |= {
                "head": "linear_tanh_linear",
                "head_hidden_width": found.shape("pre_logits/kernel")[1],
            }
    return ViTConfig(
        width,
        depth,
        found.shape(f"{_BLOCK}0/{attention}/query/kernel")[1],
        found.shape(f"{_BLOCK}0/{mlp}/Dense_0/kernel")[1],
        patch,
        (side, side),
        activation="gelu_tanh",
        cls_token=cls_token,
        pooling="cls" if cls_token else "mean",
        position_interpolation="bilinear_corners",
        **fields,
    )


def key_map(config: ViTConfig) -> KeyMap:
    """Every name a file may use -> the model's name."""
    linear = {"embedding": "patch_embedding.projection"}
    linear |= (
        {"pre_logits": "head.0", "head": "head.2"}
        if config.head == "linear_tanh_linear"
        else {"head": "head"}
    )
    norm = {"Transformer/encoder_norm": "norm"}
    for index in range(config.depth):
        theirs, ours = f"{_BLOCK}{index}", f"blocks.{index}"
        norm |= {
            f"{theirs}/{name}": f"{ours}.{layer}"
            for layer, names in _NORMS.items()
            for name in names
        }
        linear |= {
            f"{theirs}/{attention}/{part}": f"{ours}.attention.{layer}"
            for attention in _ATTENTIONS
            for part, layer in (
                ("query", "query"),
                ("key", "key"),
                ("value", "value"),
                ("out", "output"),
            )
        }
        linear |= {
            f"{theirs}/{mlp}/Dense_{number}": f"{ours}.mlp.{layer}"
            for mlp in _MLPS
            for number, layer in enumerate(("up", "down"))
        }
    return {
        "cls": ("cls_token",),
        _POSITIONS: ("position_embedding",),
        **{
            f"{theirs}/{part}": (f"{ours}.{torch_part}",)
            for layers, weight in ((linear, "kernel"), (norm, "scale"))
            for theirs, ours in layers.items()
            for part, torch_part in ((weight, "weight"), ("bias", "bias"))
        },
    }


def converters(config: ViTConfig) -> Mapping[str, Converter]:
    """Kernels from (inputs, outputs) to torch's (outputs, inputs), and heads side by side."""
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
    """(rows, columns, 3, D) to (D, 3, rows, columns)."""
    return kernel.permute(3, 2, 0, 1)


def transposed(kernel: Tensor) -> Tensor:
    """(inputs, outputs) to (outputs, inputs)."""
    return kernel.permute(1, 0)


def _split_outputs(kernel: Tensor) -> Tensor:  # (D, heads, D / heads) -> (D, D)
    return kernel.flatten(1).permute(1, 0)


def _split_inputs(kernel: Tensor) -> Tensor:  # (heads, D / heads, D) -> (D, D)
    return kernel.flatten(0, 1).permute(1, 0)


def _flat(bias: Tensor) -> Tensor:
    return bias.flatten()


FAMILY = Family("google_npz", recognises, read, MARKS)
