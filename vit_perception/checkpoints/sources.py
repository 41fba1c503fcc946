"""From what a user writes as ``model.checkpoint`` to a loaded model and its card."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vit_perception.checkpoints.by_hand import MARK, GivenByHand, check_agrees, is_by_hand
from vit_perception.checkpoints.demo.weights import DEMO_NAME, demo_weights_folder
from vit_perception.checkpoints.errors import CheckpointError, first_line
from vit_perception.checkpoints.families import AUTO, family_of, named_family
from vit_perception.checkpoints.family import PROJECTION, Family, LoadPlan, translate
from vit_perception.checkpoints.files.checkpoint_files import (
    CheckpointFiles,
    is_there,
    open_files,
    unneeded_shards,
    weights_in,
)
from vit_perception.checkpoints.load_strict import (
    build_strict,
    files_sha256,
    load_strict,
    sha256_in_background,
    tensors_sha256,
)
from vit_perception.checkpoints.plan_parts import policy_parts, split_tensors
from vit_perception.config.by_hand import NOTHING_GIVEN, ByHand
from vit_perception.config.checks import BadSetting, home_path
from vit_perception.files import telemetry
from vit_perception.files.errors import InvalidValue
from vit_perception.heads.classification import kind_of
from vit_perception.heads.connectors import Connector
from vit_perception.heads.dense import DenseHeadSpec
from vit_perception.heads.policy_state import StateProjection
from vit_perception.model.model_card import ModelCard
from vit_perception.model.second_encoder import SecondEncoder
from vit_perception.model.vision_transformer import VisionTransformer

ACCEPTED = (
    "a folder or a file of weights (.safetensors, .bin, .pt, .pth, .npz, .h5), "
    "hf://owner/name[@revision], or demo"
)
# Only files that cannot run code; the last two are tokenizers'.
_DESCRIBING = ["*.json", "README.md", "merges.txt", "spiece.model"]
_FETCHED = ["*.safetensors", *_DESCRIBING]
_HUB = re.compile(r"^hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_log = logging.getLogger(__name__)
# (repository, revision as asked for) -> the folder of the commit that it was at first.
_resolved: dict[tuple[str, str | None], Path] = {}
# Of the tokens of an image: those of DINOv3 at 4096 px.
_MOST_PATCHES = 1 << 16


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with everything that its checkpoint says."""

    # float32, in evaluation mode.
    model: VisionTransformer
    card: ModelCard
    # Names of the file's tensors that no output needs.
    unused: tuple[str, ...] = ()
    # (E, D) float32: takes ``pooled`` to the space shared with texts (CLIP); None without one.
    projection: np.ndarray | None = None
    # The dense head; None without one.
    dense: DenseHeadSpec | None = None
    # What stands behind the encoder in a policy; None without one.
    connector: Connector | None = None
    # The policy's projection of the robot's state; None without one.
    state: StateProjection | None = None
    # The encoder whose tokens stand beside the first's before the connector; None without one.
    second: SecondEncoder | None = None
    # What it was loaded from, still open; None for a model that was not loaded.
    files: CheckpointFiles | None = None


def load_checkpoint(
    checkpoint: str, family: str = AUTO, by_hand: ByHand | None = NOTHING_GIVEN
) -> LoadedModel:
    """Load a folder, a weights file, ``hf://owner/name[@revision]`` (needs internet once) or
    ``demo``.

    ``family`` ``auto`` recognises it, by config.json and the names of the tensors. The name of one
    of :data:`vit_perception.checkpoints.families.FAMILIES` skips detection. ``by_hand`` is the
    preprocessing that the checkpoint does not say; with None errors do not propose it.

    Raises:
        CheckpointError: A file is missing or cannot be used, or its tensors do not all fit.
        BadSetting: ``by_hand`` lacks a part, or says something else than the checkpoint.
    """
    if family != AUTO:
        named_family(family)  # before anything is downloaded
    return load_files(replace(open_checkpoint(checkpoint), by_hand=by_hand), family)


def open_checkpoint(checkpoint: str) -> CheckpointFiles:
    """Open the files of ``checkpoint``, as of :func:`load_checkpoint`, without reading weights.

    Raises:
        CheckpointError: A file is missing or cannot be used.
    """
    if checkpoint == "demo":
        return open_files(weights_in(demo_weights_folder()), DEMO_NAME, checkpoint)
    if checkpoint.startswith("hf://"):
        match = _HUB.match(checkpoint)
        if not match:
            raise CheckpointError(
                f"checkpoint is {checkpoint!r}; accepted: hf://owner/name[@revision]"
            )
        folder = download(match["repo"], match["revision"])
        # By its commit: opening the card's source again gives the same files.
        return open_files(weights_in(folder), match["repo"], f"hf://{match['repo']}@{folder.name}")
    path = Path(home_path(checkpoint))
    if path.is_dir():
        return open_files(weights_in(path), path.resolve().name, checkpoint)
    if not is_there(path):
        raise CheckpointError(
            f"checkpoint is {checkpoint!r}, which does not exist; accepted: {ACCEPTED}"
        )
    # A file with a config next to it is known by its folder, a file alone by its own name.
    has_config = (path.parent / "config.json").is_file()
    return open_files(path, path.resolve().parent.name if has_config else path.stem, checkpoint)


def download(repo: str, revision: str | None) -> Path:
    """Download a hub repository's safetensors, JSON files, README and tokenizer to the hub's cache.

    Of a robot policy in several shards, those without any part of its encoder are left out.

    Returns the folder of one commit, named by it. A process resolves a branch once, so that
    everything that it reads of a checkpoint is of the same commit.

    Raises:
        CheckpointError: The hub's package is missing, or the repository cannot be fetched.
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
            "a folder that holds the checkpoint"
        ) from error
    try:
        described = Path(snapshot_download(repo, revision=revision, allow_patterns=_DESCRIBING))
        unneeded = sorted(unneeded_shards(described))
        if unneeded:
            _log.info("hf://%s: not needed, not fetched: %s", repo, ", ".join(unneeded))
        # By its commit: what described it is of the same one.
        return Path(
            snapshot_download(
                repo,
                revision=described.name,
                allow_patterns=_FETCHED,
                ignore_patterns=[_literally(name) for name in unneeded],
            )
        )
    except CheckpointError:  # an index or a config.json that cannot be used
        raise
    except Exception as error:  # the hub's client raises its own classes, httpx's and OSError
        raise CheckpointError(
            f"hf://{repo} cannot be fetched: {first_line(error)}; accepted: a repository that this "
            "machine can reach or has in its cache, a folder that holds the checkpoint, or demo"
        ) from error


def _literally(name: str) -> str:
    """Write a file's name as a pattern that matches nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)


def load_files(files: CheckpointFiles, wanted: str = AUTO) -> LoadedModel:
    """Load opened ``files`` as the family ``wanted``, or as the one that recognises them.

    Raises:
        CheckpointError: No family recognises them, or they cannot be used.
        BadSetting: What is given by hand lacks a part, or says something else than the files.
    """
    family = family_of(files, wanted)
    source = str(files.path)
    plan = _plan_of(family, files)
    if files.by_hand is not None:
        check_agrees(files.by_hand, plan.preprocessing, files.source)
    translation = translate(files.tensors, plan, source)
    parts = split_tensors(translation.tensors, plan)
    if parts.projection is None and plan.requires_projection:
        names = [name for name, targets in plan.key_map.items() if PROJECTION in targets]
        raise CheckpointError(
            f"{source} has no {' or '.join(names)}, the projection of the image tower into the "
            "space of texts; accepted: a whole CLIP, or an image tower alone with a config.json "
            "that says so"
        )
    model = build_strict(plan.config, parts.encoder, source, translation.unexpected)
    if plan.dense is not None:
        load_strict(plan.dense.module, parts.dense, f"{source} (dense head)")
        plan.dense.module.eval().requires_grad_(False)
    of_policy = policy_parts(plan, parts, source)
    if translation.unused:
        _log.info("%s: known, unused: %s", source, ", ".join(translation.unused))
    return LoadedModel(
        model=model,
        card=_card(files, family, plan),
        unused=translation.unused,
        projection=_projection(parts.projection, plan.config.width, source),
        dense=plan.dense,
        connector=of_policy.connector,
        state=of_policy.state,
        second=of_policy.second,
        files=files,
    )


def _plan_of(family: Family, files: CheckpointFiles) -> LoadPlan:
    try:
        return family.read(files)
    except (CheckpointError, BadSetting):
        raise
    except KeyError as error:
        raise CheckpointError(
            f"{files.path} has no {error.args[0]!r}, which a {family.name} checkpoint has"
        ) from error
    # Sizes that make no model.
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise CheckpointError(f"{files.path}, read as {family.name}: {error}") from error


def _card(files: CheckpointFiles, family: Family, plan: LoadPlan) -> ModelCard:
    rule = plan.preprocessing.rule
    by_hand = isinstance(plan.preprocessing, GivenByHand) or is_by_hand(files.preprocessor or {})
    try:
        rows, columns = plan.config.grid_of(*rule.network_size_px)
        if rows * columns > _MOST_PATCHES:
            raise InvalidValue(
                f"a picture of {rule.network_size_px} px has {rows} x {columns} patches; "
                f"accepted: up to {_MOST_PATCHES}"
            )
        return ModelCard(
            name=files.name.encode("utf-8", "replace").decode() + (MARK if by_hand else ""),
            family=family.name,
            license=plan.license,
            source=files.source,
            rule=rule,
            mean=plan.preprocessing.mean,
            std=plan.preprocessing.std,
            labels=plan.labels,
            scores=kind_of(plan.config.classes, plan.scores),
            by_hand=by_hand,
            weights_sha256=sha256_in_background(_digest_of(files, plan)),
        )
    except ValueError as error:
        raise CheckpointError(f"{files.folder}: {error}") from error


def _digest_of(files: CheckpointFiles, plan: LoadPlan) -> Callable[[], str]:
    """Give what computes the digest: of the files, or of what is read of a policy's."""
    if not plan.scope:
        return partial(files_sha256, files.weights_files)
    read = [name for name in files.tensors if name.startswith(plan.scope)]
    return tensors_sha256(files.tensors, read)


def _projection(tensor: Tensor | None, width: int, source: str) -> np.ndarray | None:
    if tensor is None:
        return None
    if tensor.ndim != 2 or tensor.shape[1] != width or not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"{source}: the projection has the shape {tuple(tensor.shape)}, or holds NaN; "
            f"accepted: finite numbers (E, {width})"
        )
    return tensor.to(torch.float32).contiguous().numpy()
