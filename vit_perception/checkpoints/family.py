"""What a family of checkpoints tells about its files, and the renaming that all families share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.files.contents import shape_of
from vit_perception.heads.connectors import ConnectorSpec
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.policy_state import StateSpec
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.vit_config import ViTConfig

# A file's name of a tensor -> the model's. Several names: the tensor holds them stacked, in equal
# parts.
KeyMap = Mapping[str, tuple[str, ...]]
Converter = Callable[[Tensor], Tensor]
# Targets that are no parameters of the encoder: the (E, D) matrix into the space shared by images
# and texts, and the prefixes of the parameters of a dense head, a connector, a state projection and
# a second encoder.
PROJECTION = "projection"
DENSE = "dense."
CONNECTOR = "connector."
STATE = "state."
SECOND = "second."


class Preprocessing(NamedTuple):
    """How an image becomes the model's input."""

    # Resize and crop.
    rule: ResizeRule
    # Of the channels R, G, B, for pixels scaled to [0, 1].
    mean: tuple[float, ...]
    std: tuple[float, ...]


class SecondPlan(NamedTuple):
    """A second encoder on the same pixels."""

    config: ViTConfig
    # Of the channels R, G, B, for pixels scaled to [0, 1].
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """How one checkpoint becomes a model."""

    config: ViTConfig
    # Every key alias that files of the family use, without prefix.
    key_map: KeyMap
    preprocessing: Preprocessing
    # Class names; empty without a classifier.
    labels: tuple[str, ...] = ()
    # ``softmax`` or ``sigmoid``: makes scores of logits.
    scores: str = "softmax"
    # The first that fits is removed from a tensor's name.
    prefixes: tuple[str, ...] = ()
    # Names of tensors that each target takes whole; its converter cuts its part out.
    shared: tuple[str, ...] = ()
    # Names, or patterns with ``*``, of tensors that no output needs.
    unused: tuple[str, ...] = ()
    # By the model's name: changes a tensor's layout after it is renamed.
    converters: Mapping[str, Converter] = field(default_factory=dict)
    # Parameters of the model that files do not hold and that are zero, with their shapes.
    zeros: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    license: str = ""
    # A dense head, its module on the meta device.
    dense: DenseHeadSpec | None = None
    # Whether the file must hold the projection.
    requires_projection: bool = False
    # What stands behind the encoder in a policy.
    connector: ConnectorSpec | None = None
    # The policy's projection of the robot's state.
    state: StateSpec | None = None
    # The encoder whose tokens stand beside the first's, before the connector.
    second: SecondPlan | None = None
    # What the tensors that are read begin with, in a file that is mostly something else (a
    # policy's); empty: all are read or refused.
    scope: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One family of checkpoints: how to recognise its files, and how to load them."""

    # The value of ``model.family`` that selects it.
    name: str
    recognises: Callable[[CheckpointFiles], bool]
    # Raises CheckpointError.
    read: Callable[[CheckpointFiles], LoadPlan]
    # Names of tensors that every file of the family holds, to find the family that is nearest to a
    # foreign file.
    signature_keys: tuple[str, ...]
    # That of its config.json, "" if it has none.
    model_type: str = ""


class Translation(NamedTuple):
    """A file's tensors under the model's names."""

    tensors: dict[str, Tensor]
    # Names in the file that are known and not needed.
    unused: tuple[str, ...]
    # Shapes of tensors that no name of the model stands for.
    unexpected: dict[str, tuple[int, ...]]


def translate(tensors: Mapping[str, Tensor], plan: LoadPlan, source: str) -> Translation:
    """Rename a file's tensors to the model's names. Only tensors that have one are read.

    Raises:
        CheckpointError: Two tensors are the same weight, or a converter cannot take one.
    """
    translated: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unexpected: dict[str, tuple[int, ...]] = {}
    unused: list[str] = []
    for name in tensors:
        if plan.scope and not name.startswith(plan.scope):
            continue
        bare = without_prefix(name, plan.prefixes)
        if bare not in plan.key_map:
            if any(fnmatchcase(bare, pattern) for pattern in plan.unused):
                unused.append(name)
            else:
                unexpected[name] = shape_of(tensors, name)
            continue
        targets = plan.key_map[bare]
        tensor = tensors[name]
        is_whole = bare in plan.shared or len(targets) == 1
        parts = (tensor,) * len(targets) if is_whole else tensor.chunk(len(targets))
        for target, part in zip(targets, parts):
            if target in translated:
                raise CheckpointError(
                    f"{source}: {origin[target]} and {name} are the same weight; accepted: one "
                    "alias of each"
                )
            origin[target] = name
            translated[target] = part
            if target in plan.converters:
                where = f"{source}: {name} {tuple(part.shape)}"
                translated[target] = _converted(part, target, plan.converters[target], where)
    for target, shape in plan.zeros.items():
        # One zero stands for all: a size that does not fit the file takes no memory.
        translated.setdefault(target, torch.zeros(()).expand(shape))
    return Translation(translated, tuple(unused), unexpected)


def _converted(tensor: Tensor, target: str, convert: Converter, where: str) -> Tensor:
    try:
        return convert(tensor)
    except (RuntimeError, ValueError, IndexError) as error:  # torch's, for a shape that misfits
        raise CheckpointError(f"{where} cannot become {target}: {error}") from error


def without_prefix(name: str, prefixes: Iterable[str]) -> str:
    """Remove the first of ``prefixes`` that ``name`` starts with."""
    fitting = (prefix for prefix in prefixes if prefix and name.startswith(prefix))
    return name.removeprefix(next(fitting, ""))


def linear_and_norm_names(layers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Make a KeyMap of weights and biases from layers: the file's name -> the model's."""
    return {
        f"{theirs}.{part}": tuple(f"{layer}.{part}" for layer in ours)
        for theirs, ours in layers.items()
        for part in ("weight", "bias")
    }


def positions_of_patches(config: ViTConfig) -> Converter:
    """Make a converter of positions (P, D) or (1, P, D): zeros for CLS and distillation first."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.reshape(1, *tensor.shape[-2:])
        zeros = tensor.new_zeros(1, config.prefix_tokens, tensor.shape[2])
        return torch.cat([zeros, tensor], dim=1)

    return convert


def zero_biases(config: ViTConfig, *layers: str) -> dict[str, tuple[int, ...]]:
    """Make a plan's ``zeros``: the biases of ``layers`` of width D, e.g. ``attention.key``."""
    return {
        f"blocks.{index}.{layer}.bias": (config.width,)
        for index in range(config.depth)
        for layer in layers
    }
