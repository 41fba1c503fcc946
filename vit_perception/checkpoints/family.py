"""What one family of checkpoints needs to say, and the renaming that all of them share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from vit_perception.checkpoints.load_strict import CheckpointError
from vit_perception.model.vision_transformer import ViTConfig

# A file's name for a tensor -> the model's. Several stand for a tensor that holds them stacked, in equal parts.
KeyMap = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Family:
    """One family of Hugging Face checkpoints, recognised by ``model_type`` in config.json.

    ``prefix`` stands before the backbone's names in files with a head on top; ``shape_of`` reads ViTConfig's
    fields from config.json, but for pooling and head; ``key_map`` has every spelling that its files use;
    ``unused`` are tensors that files may hold and no output needs; ``head_pooling`` is what the classifier
    sees; ``interpolation`` is the resize where the preprocessing does not name one.
    """

    model_type: str
    prefix: str
    shape_of: Callable[[Mapping[str, Any]], dict[str, Any]]
    key_map: Callable[[ViTConfig], KeyMap]
    unused: tuple[str, ...]
    head_pooling: str
    interpolation: str


class Translation(NamedTuple):
    """Tensors by the model's names; the file's names known but unused; tensors that nothing stands for."""

    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    unexpected: dict[str, Tensor]


def translate(tensors: Mapping[str, Tensor], key_map: KeyMap, family: Family, source: str) -> Translation:
    """Rename a file's tensors to the model's names. Raises CheckpointError when two stand for the same one."""
    translated: dict[str, Tensor] = {}
    unexpected, unused, origin = {}, [], {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(family.prefix)
        if bare in family.unused:
            unused.append(name)
        elif bare not in key_map:
            unexpected[name] = tensor
        else:
            targets = key_map[bare]
            for target, part in zip(targets, tensor.chunk(len(targets)) if len(targets) > 1 else (tensor,)):
                if target in translated:
                    raise CheckpointError(f"{source}: {origin[target]} and {name} are the same weight; accepted: one "
                                          "spelling of each")
                translated[target], origin[target] = part, name
    return Translation(translated, tuple(unused), unexpected)


def linear_and_norm_names(pairs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """A KeyMap for the weight and the bias of each layer: file's layer name -> the model's."""
    return {f"{theirs}.{part}": tuple(f"{layer}.{part}" for layer in ours)
            for theirs, ours in pairs.items() for part in ("weight", "bias")}
