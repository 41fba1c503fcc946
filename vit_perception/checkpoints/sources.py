"""From what a user writes as ``model.checkpoint`` to a loaded model and its card."""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from vit_perception.checkpoints import huggingface_dinov2, huggingface_vit
from vit_perception.checkpoints.demo_weights import DEMO_NAME, demo_weights_folder
from vit_perception.checkpoints.family import Family, translate
from vit_perception.checkpoints.huggingface_config import labels_of, license_of, preprocessing_of, read_json
from vit_perception.checkpoints.load_strict import (CheckpointError, build_strict, file_sha256, first_line,
                                                    read_tensors)
from vit_perception.model.model_card import ModelCard
from vit_perception.model.vision_transformer import ViTConfig, VisionTransformer

ACCEPTED = "a folder with config.json and model.safetensors, a weights file with config.json beside it, " \
           "hf://owner/name[@revision], or demo"
FAMILIES: dict[str, Family] = {f.model_type: f for f in (huggingface_vit.FAMILY, huggingface_dinov2.FAMILY)}
_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB = re.compile(r"^hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """``model`` (float32, evaluation mode), its ``card``, and the file's tensors that no output needs."""

    model: VisionTransformer
    card: ModelCard
    unused: tuple[str, ...] = ()


def load_checkpoint(checkpoint: str) -> LoadedModel:
    """The model of a folder or weights file, ``hf://owner/name[@revision]`` (needs internet once), or ``demo``.

    The family is recognised by ``model_type`` in config.json. Raises CheckpointError, which names the file and
    what is accepted; a checkpoint whose tensors do not all fit is refused.
    """
    if checkpoint == "demo":
        return _load(_weights_in(demo_weights_folder()), DEMO_NAME, checkpoint)
    if checkpoint.startswith("hf://"):
        match = _HUB.match(checkpoint)
        if not match:
            raise CheckpointError(f"checkpoint is {checkpoint!r}; accepted: hf://owner/name[@revision]")
        folder = download(match["repo"], match["revision"])
        return _load(_weights_in(folder), match["repo"], checkpoint)
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return _load(_weights_in(path), path.resolve().name, checkpoint)
    if not path.is_file():
        raise CheckpointError(f"checkpoint is {checkpoint!r}, which does not exist; accepted: {ACCEPTED}")
    return _load(path, path.resolve().parent.name, checkpoint)


def download(repo: str, revision: str | None) -> Path:
    """A hub repository's safetensors, JSON files and README, in the hub's own cache. Raises CheckpointError."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"hf://{repo} needs the package huggingface_hub: pip install huggingface_hub; or give a "
                              "folder that holds the checkpoint") from error
    try:
        # Only files that cannot run code.
        return Path(snapshot_download(repo, revision=revision, allow_patterns=["*.safetensors", "*.json", "README.md"]))
    except Exception as error:  # the hub's client raises its own classes, httpx's and OSError
        raise CheckpointError(f"hf://{repo} cannot be fetched: {first_line(error)}; accepted: a repository that this "
                              "machine can reach or has in its cache, a folder that holds the checkpoint, or "
                              "demo") from error


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    found = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
    raise CheckpointError(f"{folder} holds {found}; accepted: one weights file, {' or '.join(_WEIGHTS_FILES)} (of a "
                          "sharded checkpoint, join the shards first)")


def _load(weights: Path, name: str, source: str) -> LoadedModel:
    folder = weights.parent
    fields = read_json(folder / "config.json", f"model_type ({', '.join(FAMILIES)}) and the model's sizes")
    family = FAMILIES.get(fields.get("model_type"))
    if family is None:
        raise CheckpointError(f"model_type in {folder / 'config.json'} is {fields.get('model_type')!r}; accepted: "
                              f"{', '.join(FAMILIES)}")
    tensors = read_tensors(weights)
    config, labels = _config_and_labels(family, fields, tensors, folder / "config.json")
    rule, mean, std = preprocessing_of(folder, family.interpolation)
    translation = translate(tensors, family.key_map(config), family, str(weights))
    model = build_strict(config, translation.tensors, str(weights), translation.unexpected)
    if translation.unused:
        _log.info("%s: known, unused: %s", weights, ", ".join(translation.unused))
    try:
        config.grid_of(*rule.network_size_px)
        card = ModelCard(name=name, family=family.model_type, license=license_of(folder), source=source, rule=rule,
                         mean=mean, std=std, labels=labels, scores="softmax", weights_sha256=file_sha256(weights))
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    return LoadedModel(model, card, translation.unused)


def _config_and_labels(family: Family, fields: dict, tensors: dict, path: Path) -> tuple[ViTConfig, tuple[str, ...]]:
    """The model's config, with a classifier where config.json names one or the file holds one."""
    has_head = "classifier.weight" in tensors or any(
        name.endswith("ForImageClassification") for name in fields.get("architectures") or ())
    try:
        if fields.get("num_channels", 3) != 3:
            raise ValueError(f"num_channels is {fields['num_channels']}; accepted: 3")
        config = ViTConfig(**family.shape_of(fields))
        if not has_head:
            return config, ()
        labels = labels_of(fields)
        return replace(config, pooling=family.head_pooling, head="linear", classes=len(labels)), labels
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error.args[0]!r}; accepted: all sizes of a {family.model_type} "
                              "model") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
