"""What one family of checkpoints has to say, and the renaming that all of them share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.contents import shape_of
from vit_perception.checkpoints.files.opened import Found
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vision_transformer import ViTConfig

# A file's name for a tensor -> the model's. Several stand for a tensor that holds them stacked, in
# equal parts.
KeyMap = Mapping[str, tuple[str, ...]]
Converter = Callable[[Tensor], Tensor]
# Targets that are no parameter of the encoder: the (E, D) matrix into the space that images and
# texts share, and what stands before the names of a dense head's parameters.
PROJECTION, DENSE = "projection", "dense."


@dataclass(frozen=True)
class Reading:
    """How one checkpoint is read: its model, and which of its tensors goes where.

    ``key_map`` has every spelling that files of the family use, without ``prefixes``, of which the
    first that fits is taken off a name. ``converters``, by the model's name, change a tensor's
    layout after it was renamed; ``zeros`` are parameters of the model that the family lacks and
    that are zero. ``unused`` are names, or patterns with ``*``, of tensors that files may hold and
    no output needs. ``projected`` says that the file must hold the projection, which no parameter
    of the encoder stands for. ``dense`` has its module on the meta device. The rest goes to the
    model card.
    """

    config: ViTConfig
    key_map: KeyMap
    rule: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    scores: str = "softmax"
    prefixes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    converters: Mapping[str, Converter] = field(default_factory=dict)
    zeros: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    license: str = ""
    dense: DenseHeadSpec | None = None
    projected: bool = False


@dataclass(frozen=True)
class Family:
    """One family: ``recognises`` says whether a checkpoint is of it, ``read`` how to read one
    (CheckpointError).

    ``name`` is what ``model.family`` takes. ``marks`` are names of tensors that every file of the
    family holds, for telling which family a foreign checkpoint is nearest to; ``model_type`` is
    that of its config.json, if it has one.
    """

    name: str
    recognises: Callable[[Found], bool]
    read: Callable[[Found], Reading]
    marks: tuple[str, ...]
    model_type: str = ""


class Translation(NamedTuple):
    """Tensors by the model's names; the file's names known but unused; shapes of tensors that
    nothing stands for.
    """

    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    unexpected: dict[str, tuple[int, ...]]


def translate(tensors: Mapping[str, Tensor], reading: Reading, source: str) -> Translation:
    """Rename a file's tensors to the model's names; unused and unexpected ones are not read.

    Raises CheckpointError when two stand for the same one, and when a converter cannot take what
    the file holds.
    """
    translated: dict[str, Tensor] = {}
    unexpected: dict[str, tuple[int, ...]] = {}
    unused, origin = [], {}
    for name in tensors:
        bare = without_prefix(name, reading.prefixes)
        if bare not in reading.key_map:
            if any(fnmatchcase(bare, pattern) for pattern in reading.unused):
                unused.append(name)
            else:
                unexpected[name] = shape_of(tensors, name)
            continue
        targets, tensor = reading.key_map[bare], tensors[name]
        parts = tensor.chunk(len(targets)) if len(targets) > 1 else (tensor,)
        for target, part in zip(targets, parts):
            if target in translated:
                raise CheckpointError(
                    f"{source}: {origin[target]} and {name} are the same weight; accepted: one "
                    "spelling of each"
                )
            translated[target], origin[target] = (
                _converted(part, target, name, reading, source),
                name,
            )
    for target, shape in reading.zeros.items():
        # One zero that stands for all, so that a size that does not fit the file takes no memory.
        translated.setdefault(target, torch.zeros(()).expand(shape))
    return Translation(translated, tuple(unused), unexpected)


def _converted(tensor: Tensor, target: str, name: str, reading: Reading, source: str) -> Tensor:
    if target not in reading.converters:
        return tensor
    try:
        return reading.converters[target](tensor)
    except (
        RuntimeError,
        ValueError,
        IndexError,
    ) as error:  # torch's own, for a shape that does not fit
        raise CheckpointError(
            f"{source}: {name} {tuple(tensor.shape)} cannot become {target}: {error}"
        ) from error


def without_prefix(name: str, prefixes: Iterable[str]) -> str:
    """``name`` without the first of ``prefixes`` that it starts with."""
    return next(
        (name[len(prefix) :] for prefix in prefixes if prefix and name.startswith(prefix)), name
    )


def linear_and_norm_names(pairs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """A KeyMap for the weight and the bias of each layer: file's layer name -> the model's."""
    return {
        f"{theirs}.{part}": tuple(f"{layer}.{part}" for layer in ours)
        for theirs, ours in pairs.items()
        for part in ("weight", "bias")
    }


def positions_of_patches(config: ViTConfig) -> Converter:
    """A converter for ``position_embedding`` of files that have none for CLS and distillation: zero
    rows before it.

    It takes (P, D) as well as (1, P, D).
    """

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.reshape(1, *tensor.shape[-2:])
        return torch.cat(
            [tensor.new_zeros(1, config.prefix_tokens, tensor.shape[2]), tensor], dim=1
        )

    return convert


def zero_biases(config: ViTConfig, *layers: str) -> dict[str, tuple[int, ...]]:
    """``zeros`` of a Reading: the biases of ``layers`` of width D in each block, e.g.
    ``attention.key``.
    """
    return {
        f"blocks.{index}.{layer}.bias": (config.width,)
        for index in range(config.depth)
        for layer in layers
    }
