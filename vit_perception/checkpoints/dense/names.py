"""What the families with a DPT head share: how each spells its layers, and the input's size for a
camera's shape.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vit_perception.checkpoints.family import DENSE, KeyMap, linear_and_norm_names
from vit_perception.heads.dpt import DptConfig
from vit_perception.model.vision_transformer import ViTConfig

# An engine has one input size. Where a family's own preprocessing makes it from the picture's
# shape, it is made from that of most cameras, (height, width); model.network_size is for the
# others.
CAMERA_SIZE_PX = (480, 640)
# Counted by training only.
COUNTERS = "*.num_batches_tracked"


@dataclass(frozen=True)
class Spelling:
    """One family's names of a DPT head's layers, templates of ``{level}`` (from 0, ``{number}``
    from 1: the first block's is the finest) and ``{step}`` (from 0, ``{refine}`` down to 1: the
    coarsest comes first).

    ``units``, ``convolutions`` and ``norms`` are the two of each kind inside a fusion step and its
    residual units; ``depth`` are the three convolutions of the output, ``projection`` the one in
    front of them, ``segmentation`` the convolution, the normalisation and the classifier.
    """

    project: str
    resize: str
    readout: str
    level: str
    fusion: str
    fusion_project: str
    units: tuple[str, str]
    convolutions: tuple[str, str]
    norms: tuple[str, str]
    depth: tuple[str, str, str]
    projection: str
    segmentation: tuple[str, str, str]


HUGGINGFACE = Spelling(
    "neck.reassemble_stage.layers.{level}.projection",
    "neck.reassemble_stage.layers.{level}.resize",
    "neck.reassemble_stage.readout_projects.{level}.0",
    "neck.convs.{level}",
    "neck.fusion_stage.layers.{step}",
    "projection",
    ("residual_layer1", "residual_layer2"),
    ("convolution1", "convolution2"),
    ("batch_norm1", "batch_norm2"),
    ("head.head.0", "head.head.2", "head.head.4"),
    "head.projection",
    ("head.head.0", "head.head.1", "head.head.4"),
)


def head_names(config: DptConfig, spelling: Spelling) -> KeyMap:
    """The file's name -> the model's (``dense.…``), for every parameter of a DptHead of
    ``config``.
    """
    layers: dict[str, str] = {}
    norms: dict[str, str] = {}
    for level, factor in enumerate(config.factors):
        numbers, ours = {"level": level, "number": level + 1}, f"reassemble.{level}"
        layers[spelling.project.format(**numbers)] = f"{ours}.project"
        layers[spelling.level.format(**numbers)] = f"level.{level}"
        if factor != 1:
            layers[spelling.resize.format(**numbers)] = f"{ours}.resize"
        if config.readout == "project":
            layers[spelling.readout.format(**numbers)] = f"{ours}.readout"
    for step in range(len(config.channels)):
        theirs = _fusion(config, spelling, step)
        layers[f"{theirs}.{spelling.fusion_project}"] = f"fusion.{step}.project"
        for unit, our_unit in list(zip(spelling.units, ("skip", "refine")))[step == 0 :]:
            for convolution, norm, place in zip(
                spelling.convolutions, spelling.norms, ("first", "second")
            ):
                layers[f"{theirs}.{unit}.{convolution}"] = f"fusion.{step}.{our_unit}.{place}"
                norms[f"{theirs}.{unit}.{norm}"] = f"fusion.{step}.{our_unit}.norm_{place}"
    if config.classes:
        mix, norm, classify = spelling.segmentation
        layers |= {mix: "output.mix", classify: "output.classify"}
        norms[norm] = "output.norm"
    else:
        layers |= dict(zip(spelling.depth, ("output.narrow", "output.mix", "output.last")))
        layers[spelling.projection] = "output.projection"
    names = linear_and_norm_names(
        {theirs: (f"{DENSE}{ours}",) for theirs, ours in (layers | norms).items()}
    )
    return names | {
        f"{theirs}.{part}": (f"{DENSE}{ours}.{part}",)
        for theirs, ours in norms.items()
        for part in ("running_mean", "running_var")
    }


def unused_of_head(config: DptConfig, spelling: Spelling) -> tuple[str, ...]:
    """Patterns of what files hold of a DPT head and nothing computes: the coarsest step has nothing
    to skip.
    """
    return f"{_fusion(config, spelling, 0)}.{spelling.units[0]}.*", COUNTERS


def _fusion(config: DptConfig, spelling: Spelling, step: int) -> str:
    return spelling.fusion.format(step=step, refine=len(config.channels) - step)


# The ViT inside files whose block has timm's names (DINOv2's have LayerScale besides, and w12 and
# w3 with SwiGLU).
_BLOCK_LAYERS = {
    "norm1": ("norm_attention",),
    "attn.qkv": ("attention.query", "attention.key", "attention.value"),
    "attn.proj": ("attention.output",),
    "norm2": ("norm_mlp",),
}
_MLP_LAYERS = {"mlp.fc1": ("mlp.up",), "mlp.fc2": ("mlp.down",)}
_SWIGLU_LAYERS = {"mlp.w12": ("mlp.gate", "mlp.up"), "mlp.w3": ("mlp.down",)}


def encoder_names(config: ViTConfig) -> KeyMap:
    """The file's name -> the model's, for the ViT of files with timm's names."""
    names = {"cls_token": ("cls_token",), "pos_embed": ("position_embedding",)}
    layers = {"patch_embed.proj": ("patch_embedding.projection",), "norm": ("norm",)}
    block_layers = _BLOCK_LAYERS | (
        _SWIGLU_LAYERS if config.activation == "swiglu" else _MLP_LAYERS
    )
    for index in range(config.depth):
        layers |= {
            f"blocks.{index}.{theirs}": tuple(f"blocks.{index}.{part}" for part in ours)
            for theirs, ours in block_layers.items()
        }
        names |= {
            f"blocks.{index}.ls1.gamma": (f"blocks.{index}.scale_attention.factor",),
            f"blocks.{index}.ls2.gamma": (f"blocks.{index}.scale_mlp.factor",),
        }
    return names | linear_and_norm_names(layers)


def size_keeping_aspect(
    size_px: tuple[int, int],
    source_px: tuple[int, int],
    multiple: int,
    choose: Callable[..., float] = min,
) -> tuple[int, int]:
    """(height, width) of a picture of ``source_px`` resized with its aspect kept, each side a
    multiple.

    One side becomes that of ``size_px``: with ``min`` the one that changes less (DPT, and Hugging
    Face's processor of it), with ``max`` the one that needs the larger scale, so that no side is
    below ``size_px`` (Depth Anything).
    """
    scales = [wanted / given for wanted, given in zip(size_px, source_px)]
    scale = (
        max(scales)
        if choose is max
        else scales[1]
        if abs(1 - scales[1]) < abs(1 - scales[0])
        else scales[0]
    )
    sides = [round(scale * given / multiple) * multiple for given in source_px]
    if choose is max:
        sides = [
            side if side >= wanted else -int(-scale * given // multiple) * multiple
            for side, wanted, given in zip(sides, size_px, source_px)
        ]
    return sides[0], sides[1]
