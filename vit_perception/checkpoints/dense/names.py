"""What families with a DPT head share: names of layers, and the input's size for cameras."""

from collections.abc import Callable
from dataclasses import dataclass

from vit_perception.checkpoints.family import DENSE, KeyMap, linear_and_norm_names
from vit_perception.checkpoints.timm.names import BLOCK_LAYERS, MLPS
from vit_perception.heads.dpt import DptConfig
from vit_perception.model.vit_config import ViTConfig

# An engine has one input size. If a family's preprocessing derives it from the image's shape, that
# of most cameras is taken, (height, width). model.network_size is for other cameras.
CAMERA_SIZE_PX = (480, 640)
# Used by training only.
COUNTERS = "*.num_batches_tracked"


@dataclass(frozen=True)
class HeadNames:
    """One family's names of a DPT head's layers.

    They are templates of ``{level}`` (from 0; ``{number}`` from 1), the first block's level being
    the finest, and of ``{step}`` (from 0; ``{refine}`` down to 1), the coarsest step being first.
    """

    project: str
    resize: str
    readout: str
    level: str
    fusion: str
    # In a fusion step: its projection, and its two residual units with two layers of each kind.
    fusion_project: str
    units: tuple[str, str]
    convolutions: tuple[str, str]
    norms: tuple[str, str]
    # The three convolutions that give depth, and the one before them.
    depth: tuple[str, str, str]
    projection: str
    # Convolution, normalisation and classifier that give classes.
    segmentation: tuple[str, str, str]


HUGGINGFACE = HeadNames(
    project="neck.reassemble_stage.layers.{level}.projection",
    resize="neck.reassemble_stage.layers.{level}.resize",
    readout="neck.reassemble_stage.readout_projects.{level}.0",
    level="neck.convs.{level}",
    fusion="neck.fusion_stage.layers.{step}",
    fusion_project="projection",
    units=("residual_layer1", "residual_layer2"),
    convolutions=("convolution1", "convolution2"),
    norms=("batch_norm1", "batch_norm2"),
    depth=("head.head.0", "head.head.2", "head.head.4"),
    projection="head.projection",
    segmentation=("head.head.0", "head.head.1", "head.head.4"),
)


def head_names(config: DptConfig, layer_names: HeadNames) -> KeyMap:
    """Map the file's names to the model's (``dense.…``), for every parameter of a DptHead."""
    layers: dict[str, str] = {}
    norms: dict[str, str] = {}
    for level, factor in enumerate(config.factors):
        numbers = {"level": level, "number": level + 1}
        ours = f"reassemble.{level}"
        layers[layer_names.project.format(**numbers)] = f"{ours}.project"
        layers[layer_names.level.format(**numbers)] = f"level.{level}"
        if factor != 1:
            layers[layer_names.resize.format(**numbers)] = f"{ours}.resize"
        if config.readout == "project":
            layers[layer_names.readout.format(**numbers)] = f"{ours}.readout"
    for step in range(len(config.channels)):
        theirs = _fusion(config, layer_names, step)
        layers[f"{theirs}.{layer_names.fusion_project}"] = f"fusion.{step}.project"
        for unit, our_unit in list(zip(layer_names.units, ("skip", "refine")))[step == 0 :]:
            for convolution, norm, place in zip(
                layer_names.convolutions, layer_names.norms, ("first", "second")
            ):
                layers[f"{theirs}.{unit}.{convolution}"] = f"fusion.{step}.{our_unit}.{place}"
                norms[f"{theirs}.{unit}.{norm}"] = f"fusion.{step}.{our_unit}.norm_{place}"
    if config.classes:
        mix, norm, classify = layer_names.segmentation
        layers |= {mix: "output.mix", classify: "output.classify"}
        norms[norm] = "output.norm"
    else:
        layers |= dict(zip(layer_names.depth, ("output.narrow", "output.mix", "output.last")))
        layers[layer_names.projection] = "output.projection"
    targets = {theirs: (f"{DENSE}{ours}",) for theirs, ours in (layers | norms).items()}
    names = linear_and_norm_names(targets)
    for theirs, ours in norms.items():
        for part in ("running_mean", "running_var"):
            names[f"{theirs}.{part}"] = (f"{DENSE}{ours}.{part}",)
    return names


def unused_of_head(config: DptConfig, layer_names: HeadNames) -> tuple[str, ...]:
    """Give patterns of a DPT head's unused tensors: the coarsest step skips nothing."""
    return f"{_fusion(config, layer_names, 0)}.{layer_names.units[0]}.*", COUNTERS


def _fusion(config: DptConfig, layer_names: HeadNames, step: int) -> str:
    return layer_names.fusion.format(step=step, refine=len(config.channels) - step)


def encoder_names(config: ViTConfig) -> KeyMap:
    """Map the file's names to the model's, for the ViT of files with timm's names."""
    names = {"cls_token": ("cls_token",), "pos_embed": ("position_embedding",)}
    layers = {"patch_embed.proj": ("patch_embedding.projection",), "norm": ("norm",)}
    mlp = "mlp.w12" if config.activation == "swiglu" else "mlp.fc1"
    for index in range(config.depth):
        block = f"blocks.{index}"  # here the file and the model agree
        for theirs, ours in (BLOCK_LAYERS | MLPS[mlp]).items():
            layers[f"{block}.{theirs}"] = tuple(f"{block}.{part}" for part in ours)
        names[f"{block}.ls1.gamma"] = (f"{block}.scale_attention.factor",)
        names[f"{block}.ls2.gamma"] = (f"{block}.scale_mlp.factor",)
    return names | linear_and_norm_names(layers)


def size_keeping_aspect(
    size_px: tuple[int, int],
    source_px: tuple[int, int],
    multiple: int,
    choose: Callable[..., float] = min,
) -> tuple[int, int]:
    """Resize ``source_px`` (height, width), keeping its aspect, to sides that are multiples.

    One side becomes that of ``size_px``: with ``min`` the side that changes less (DPT, and Hugging
    Face's processor of it), with ``max`` the one of the larger scale, so that no side is below
    ``size_px`` (Depth Anything).
    """
    scales = [wanted / given for wanted, given in zip(size_px, source_px)]
    scale = max(scales) if choose is max else min(scales, key=lambda one: abs(1 - one))
    sides = [round(scale * given / multiple) * multiple for given in source_px]
    if choose is max:
        enough = [-int(-scale * given // multiple) * multiple for given in source_px]
        sides = [
            side if side >= wanted else larger
            for side, wanted, larger in zip(sides, size_px, enough)
        ]
    return sides[0], sides[1]
