"""From what a user writes as ``model.checkpoint`` to a loaded model and its card."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vit_perception.checkpoints.demo.weights import DEMO_NAME, demo_weights_folder
from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.families import AUTO, family_of, named_family
from vit_perception.checkpoints.family import DENSE, PROJECTION, Family, Reading, translate
from vit_perception.checkpoints.files.opened import Found, is_there, open_found, weights_in
from vit_perception.checkpoints.load_strict import build_strict, load_strict, sha256_in_background
from vit_perception.config.checks import home_path
from vit_perception.files import telemetry
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.classification import kind_of
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.model.model_card import ModelCard
from vit_perception.model.vision_transformer import VisionTransformer

ACCEPTED = (
    "a folder or a file of weights (.safetensors, .bin, .pt, .pth, .npz, .h5), "
    "hf://owner/name[@revision], or demo"
)
_HUB = re.compile(r"^hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_log = logging.getLogger(__name__)
# (repository, revision as it was asked for) -> the folder of the commit that it was when it was
# first asked for.
_resolved: dict[tuple[str, str | None], Path] = {}
# Of the tokens of a picture: those of DINOv3 at 4096 px.
_MOST_PATCHES = 1 << 16


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """``model`` (float32, evaluation mode), its ``card``, and the file's tensors that no output
    needs.

    ``projection`` (E, D) float32 takes ``pooled`` to the space that it shares with texts (CLIP),
    None without one; ``dense`` is a dense head on top, None without one.
    """

    model: VisionTransformer
    card: ModelCard
    unused: tuple[str, ...] = ()
    projection: np.ndarray | None = None
    dense: DenseHeadSpec | None = None


def load_checkpoint(checkpoint: str, family: str = AUTO) -> LoadedModel:
    """The model of a folder or weights file, ``hf://owner/name[@revision]`` (needs internet once),
    or ``demo``.

    ``family`` ``auto`` recognises it, by config.json and the names of the tensors; a name of
    :data:`vit_perception.checkpoints.families.FAMILIES` is taken at its word. Raises
    CheckpointError, which names the file and what is accepted; a checkpoint whose tensors do not
    all fit is refused.
    """
    if family != AUTO:
        named_family(family)  # before anything is downloaded
    return load_found(find(checkpoint), family)


def find(checkpoint: str) -> Found:
    """The files of ``checkpoint``, as of :func:`load_checkpoint`, opened but not yet understood.
    CheckpointError.
    """
    if checkpoint == "demo":
        return open_found(weights_in(demo_weights_folder()), DEMO_NAME, checkpoint)
    if checkpoint.startswith("hf://"):
        match = _HUB.match(checkpoint)
        if not match:
            raise CheckpointError(
                f"checkpoint is {checkpoint!r}; accepted: hf://owner/name[@revision]"
            )
        folder = download(match["repo"], match["revision"])
        # By its commit: whoever opens the card's source again gets the same files.
        return open_found(weights_in(folder), match["repo"], f"hf://{match['repo']}@{folder.name}")
    path = Path(home_path(checkpoint))
    if path.is_dir():
        return open_found(weights_in(path), path.resolve().name, checkpoint)
    if not is_there(path):
        raise CheckpointError(
            f"checkpoint is {checkpoint!r}, which does not exist; accepted: {ACCEPTED}"
        )
    # A file with its config beside it is known by its folder, one that stands alone by its own
    # name.
    beside = (path.parent / "config.json").is_file()
    return open_found(path, path.resolve().parent.name if beside else path.stem, checkpoint)


def download(repo: str, revision: str | None) -> Path:
    """A hub repository's safetensors, JSON files, README and tokenizer, in the hub's own cache.
    CheckpointError.

    The folder is that of one commit, named by it. A branch, or none, is resolved once in the life
    of a process, so that everything that is read of a checkpoint is of the same commit.
    """
    if (repo, revision) not in _resolved:
        _resolved[repo, revision] = _fetched(repo, revision)
        _log.info("hf://%s is commit %s", repo, _resolved[repo, revision].name)
    return _resolved[repo, revision]


def _fetched(repo: str, revision: str | None) -> Path:
    telemetry.off()
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"hf://{repo} needs the package huggingface_hub: pip install huggingface_hub; or give "
            "a "
            "folder that holds the checkpoint"
        ) from error
    try:
        # Only files that cannot run code; the last two are tokenizers'.
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=[
                    "*.safetensors",
                    "*.json",
                    "README.md",
                    "merges.txt",
                    "spiece.model",
                ],
            )
        )
    except Exception as error:  # the hub's client raises its own classes, httpx's and OSError
        raise CheckpointError(
            f"hf://{repo} cannot be fetched: {first_line(error)}; accepted: a repository that this "
            "machine can reach or has in its cache, a folder that holds the checkpoint, or "
            "demo"
        ) from error


def load_found(found: Found, wanted: str = AUTO) -> LoadedModel:
    """The model of ``found``, read as the family ``wanted`` or as the one that recognises it.
    CheckpointError.
    """
    family, source = family_of(found, wanted), str(found.path)
    reading = _reading(family, found)
    translation = translate(found.tensors, reading, source)
    tensors, projection, dense_tensors = _parted(translation.tensors, reading)
    if projection is None and reading.projected:
        raise CheckpointError(
            f"{source} has no {' or '.join(_names_of(PROJECTION, reading))}, the projection of the "
            "image tower into the space of texts; accepted: a whole CLIP, or an image tower alone "
            "with a config.json that says so"
        )
    model = build_strict(reading.config, tensors, source, translation.unexpected)
    if reading.dense is not None:
        load_strict(reading.dense.module, dense_tensors, f"{source} (dense head)")
        reading.dense.module.eval().requires_grad_(False)
    if translation.unused:
        _log.info("%s: known, unused: %s", source, ", ".join(translation.unused))
    try:
        rows, columns = reading.config.grid_of(*reading.rule.network_size_px)
        if rows * columns > _MOST_PATCHES:
            raise InvalidValue(
                f"a picture of {reading.rule.network_size_px} px has {rows} x {columns} patches; "
                f"accepted: up to {_MOST_PATCHES}"
            )
        card = ModelCard(
            name=found.name.encode("utf-8", "replace").decode(),
            family=family.name,
            license=reading.license,
            source=found.source,
            rule=reading.rule,
            mean=reading.mean,
            std=reading.std,
            labels=reading.labels,
            scores=kind_of(reading.config.classes, reading.scores),
            weights_sha256=sha256_in_background(found.files),
        )
    except ValueError as error:
        raise CheckpointError(f"{found.folder}: {error}") from error
    return LoadedModel(
        model, card, translation.unused, _projection(projection, reading, source), reading.dense
    )


def _reading(family: Family, found: Found) -> Reading:
    try:
        return family.read(found)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(
            f"{found.path} has no {error.args[0]!r}, which a {family.name} checkpoint has"
        ) from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
    ) as error:  # sizes that make no model
        raise CheckpointError(f"{found.path}, read as {family.name}: {error}") from error


def _parted(
    tensors: Mapping[str, Tensor], reading: Reading
) -> tuple[dict[str, Tensor], Tensor | None, dict[str, Tensor]]:
    """The encoder's tensors, the projection, and the dense head's by its own names."""
    of_dense = {name for name in tensors if reading.dense is not None and name.startswith(DENSE)}
    encoder = {
        name: tensor
        for name, tensor in tensors.items()
        if name != PROJECTION and name not in of_dense
    }
    return (
        encoder,
        tensors.get(PROJECTION),
        {name.removeprefix(DENSE): tensors[name] for name in of_dense},
    )


def _names_of(target: str, reading: Reading) -> list[str]:
    return [name for name, targets in reading.key_map.items() if target in targets]


def _projection(tensor: Tensor | None, reading: Reading, source: str) -> np.ndarray | None:
    if tensor is None:
        return None
    if (
        tensor.ndim != 2
        or tensor.shape[1] != reading.config.width
        or not torch.isfinite(tensor).all()
    ):
        raise CheckpointError(
            f"{source}: the projection has the shape {tuple(tensor.shape)}, or holds NaN; "
            "accepted: "
            f"finite numbers (E, {reading.config.width})"
        )
    return tensor.to(torch.float32).contiguous().numpy()
