"""The same checks on a small checkpoint of every family."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from test.checkpoints.family_files import WRITERS
from vit_perception.checkpoints.errors import CheckpointError, MisfitError
from vit_perception.checkpoints.families import FAMILIES, family_of, named_family
from vit_perception.checkpoints.family import without_prefix
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.sources import load_checkpoint, load_files, open_checkpoint

# Refuses what may be of several families.
REFUSING = "depth_anything_file"
# Families whose files hold another family's names; the order of the table decides.
SHARED_NAMES = {"timm", "open_clip", REFUSING}
# RMSNorm has no bias.
TARGET = "blocks.0.norm_attention.weight"


@pytest.fixture(scope="module")
def path_of(tmp_path_factory) -> Callable[[str], Path]:
    """The checkpoint of a family, written once: a folder, or the only file in it."""
    written = {}

    def write(name: str) -> Path:
        if name not in written:
            folder = tmp_path_factory.mktemp(name)
            WRITERS[name](folder)
            paths = list(folder.iterdir())
            written[name] = paths[0] if len(paths) == 1 else folder
        return written[name]

    return write


def key_of(name: str, files: CheckpointFiles) -> str:
    """The file's name of ``TARGET``, which it may hold stacked with others."""
    plan = named_family(name).read(files)
    keys = [key for key in files.tensors if TARGET in targets(plan, key)]
    return keys[0]


def targets(plan, key: str) -> tuple[str, ...]:
    return plan.key_map.get(without_prefix(key, plan.prefixes), ())


def misfit(name: str, files: CheckpointFiles, tensors: dict) -> MisfitError:
    with pytest.raises(MisfitError) as error:
        load_files(dataclasses.replace(files, tensors=tensors), name)
    return error.value


def recognised_by_no_other(name: str, path: Path, tmp_path: Path) -> None:
    files = open_checkpoint(str(path))
    assert family_of(files).name == name
    others = {family.name for family in FAMILIES if family.recognises(files)} - {name}
    assert others <= SHARED_NAMES


def loads(name: str, path: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(path))
    assert loaded.card.family == name and len(loaded.card.weights_sha256) == 64
    assert all(tensor.dtype == torch.float32 for tensor in loaded.model.parameters())


def preprocessing_is_complete(name: str, path: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(path))
    card = loaded.card
    assert loaded.model.config.grid_of(*card.rule.network_size_px) >= (1, 1)
    assert len(card.mean) == len(card.std) == 3
    assert len(card.labels) == loaded.model.config.classes


def lists_missing(name: str, path: Path, tmp_path: Path) -> None:
    files = open_checkpoint(str(path))
    tensors = dict(files.tensors)
    del tensors[key_of(name, files)]
    error = misfit(name, files, tensors)
    assert (error.missing, error.unexpected, error.misshaped) == ([TARGET], [], [])


def lists_unexpected(name: str, path: Path, tmp_path: Path) -> None:
    files = open_checkpoint(str(path))
    # Of a policy, only its own parts are looked at.
    foreign = f"{''.join(named_family(name).read(files).scope[:1])}foreign/key:0"
    error = misfit(name, files, {**files.tensors, foreign: torch.zeros(2)})
    assert (error.missing, error.unexpected, error.misshaped) == ([], [foreign], [])


def lists_misshaped(name: str, path: Path, tmp_path: Path) -> None:
    files = open_checkpoint(str(path))
    error = misfit(name, files, {**files.tensors, key_of(name, files): torch.zeros(7)})
    assert (error.missing, error.unexpected, error.misshaped) == ([], [], [TARGET])


def refuses_nan(name: str, path: Path, tmp_path: Path) -> None:
    files = open_checkpoint(str(path))
    key = key_of(name, files)
    bad = torch.full_like(files.tensors[key], float("nan"))
    with pytest.raises(CheckpointError, match=f"{TARGET} holds NaN"):
        load_files(dataclasses.replace(files, tensors={**files.tensors, key: bad}), name)


def refuses_truncated(name: str, path: Path, tmp_path: Path) -> None:
    weights = open_checkpoint(str(path)).path
    shutil.copytree(weights.parent, tmp_path / "cut")
    cut = tmp_path / "cut" / weights.name
    cut.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=weights.name):
        load_checkpoint(str(cut))


CHECKS = (
    recognised_by_no_other,
    loads,
    preprocessing_is_complete,
    lists_missing,
    lists_unexpected,
    lists_misshaped,
    refuses_nan,
    refuses_truncated,
)


def test_every_family_is_checked():
    names = [family.name for family in FAMILIES]
    assert sorted(names) == sorted([*WRITERS, REFUSING]) and "auto" not in names
    assert all(family.signature_keys for family in FAMILIES)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", WRITERS)
def test_family(name, check, path_of, tmp_path):
    check(name, path_of(name), tmp_path)
