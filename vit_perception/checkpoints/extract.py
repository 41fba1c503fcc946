"""A policy's encoder as a folder of its own: tower, connector and state projection without the
rest, in the format of :mod:`vit_perception.checkpoints.native`.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vit_perception.checkpoints.by_hand import BY_HAND
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.family import CONNECTOR, SECOND, STATE
from vit_perception.checkpoints.files.checkpoint_files import CONFIG_FILE, PREPROCESSOR_FILE
from vit_perception.checkpoints.native import config_json, preprocessor_json
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.files import atomic

WEIGHTS_FILE = "model.safetensors"
README_FILE = "README.md"
_WRITTEN = r"model\.safetensors|(?:preprocessor_)?config\.json|README\.md"
# The licence of the stock tower that a policy was trained from holds for the weights, too.
_TOWERS = {
    "pi0": "PaliGemma, under the Gemma terms of use (https://ai.google.dev/gemma/terms)",
    "smolvla": "SmolVLM2, under Apache-2.0",
    "openvla": "DINOv2 and SigLIP, under Apache-2.0",
    "evo1": "InternVL3, under MIT",
    "multi_task_dit": "OpenAI's CLIP, under MIT",
}


def write_extract(loaded: LoadedModel, folder: Path) -> Path:
    """Write the encoder of ``loaded`` to ``folder``, new or empty, and give the weights file.

    Each tensor is stored in bfloat16 where that holds it exactly, else in float32: what is read
    back is equal to the bit. The weights come last, so that a run that was cut short is none.

    Raises:
        CheckpointError: The folder holds files, or the model has parts that the format does not.
        OSError: The folder cannot be written, or is too small.
    """
    lost = (
        "a dense head" if loaded.dense else "a projection" if loaded.projection is not None else ""
    )
    if lost:
        raise CheckpointError(
            f"{loaded.card.source} has {lost}, which an extracted folder cannot hold; accepted: a "
            "policy (docs/policies.md)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic.sweep(folder, _WRITTEN)
    if held := sorted(path.name for path in folder.iterdir()):
        raise CheckpointError(
            f"{folder} holds {', '.join(held[:3])}; accepted: a new or an empty folder"
        )
    card = loaded.card
    second = loaded.second
    of_policy = {
        "connector": loaded.connector.spec.as_json() if loaded.connector else None,
        "state": loaded.state.spec.as_json() if loaded.state else None,
        "second": {
            "model": asdict(second.model.config),
            "image_mean": list(second.mean),
            "image_std": list(second.std),
        }
        if second
        else None,
        "origin": {
            "source": card.source,
            "family": card.family,
            "weights_sha256": card.weights_sha256,
        },
    }
    config = config_json(loaded.model.config, card.labels, card.scores, **of_policy)
    marks = {BY_HAND: True} if card.by_hand else {}
    texts = {
        PREPROCESSOR_FILE: preprocessor_json(card.rule, card.mean, card.std, **marks),
        README_FILE: _readme(loaded),
        CONFIG_FILE: config,
    }
    for name, text in texts.items():
        atomic.write_whole(folder / name, _text_writer(text))
    tensors = {name: _narrowed(tensor) for name, tensor in _tensors(loaded).items()}
    weights = folder / WEIGHTS_FILE
    atomic.write_whole(weights, lambda path: save_file(tensors, path))
    return weights


def _tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    named = dict(loaded.model.state_dict())
    second = loaded.second.model if loaded.second else None
    parts = ((CONNECTOR, loaded.connector), (STATE, loaded.state), (SECOND, second))
    for prefix, module in parts:
        if module is not None:
            named |= {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}
    return named


def _narrowed(tensor: Tensor) -> Tensor:
    """Give the tensor in bfloat16 where that loses nothing: policies are often stored so."""
    half = tensor.to(torch.bfloat16)
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()


def _text_writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")


def _readme(loaded: LoadedModel) -> str:
    card = loaded.card
    front = f"---\nlicense: {card.license}\n---\n" if card.license else ""
    parts = ["both vision towers" if loaded.second else "the vision tower"]
    if loaded.connector is not None:
        parts.append(f"the connector to {loaded.connector.spec.width} channels")
    if loaded.state is not None:
        parts.append(f"the projection of {loaded.state.spec.count} state numbers")
    said = card.license or "not said in its folder"
    tower = _TOWERS.get(card.family)
    stock = f" The tower was trained from {tower}; these terms hold for it." if tower else ""
    return (
        f"{front}The encoder of the {card.family} policy {card.name}: {', '.join(parts)}, written "
        f"by `vit-perception extract` from {card.source}.\n\n"
        "Use it with the parameter `model.checkpoint`: this folder.\n\n"
        f"**Licence.** The weights are the policy's; its licence ({said}) holds for them.{stock}\n"
    )
