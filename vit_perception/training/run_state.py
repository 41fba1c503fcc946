"""What a run keeps on the disk, so that it can be killed at any time: complete files only."""

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from vit_perception.checkpoints.files.zip_files import check_entries, open_zip
from vit_perception.files import atomic, locks
from vit_perception.files.errors import InvalidValue, UserError
from vit_perception.files.regular_files import open_regular

STATE_FILE = "run_state.pt"
LOCK_FILE = "run.lock"
FORMAT = 1
# Files that a killed run may leave half-written.
_WRITTEN = (
    r"run_state\.pt|model\.safetensors|(?:preprocessor_)?config\.json|README\.md|metrics\.csv|curves\.png|"
    r"report\.json"
)


class OutputError(UserError, OSError):
    """The output folder cannot be written; the message names file, cause and what is accepted."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file as :func:`vit_perception.files.atomic.write_whole` does.

    Raises:
        OutputError: The folder is read-only or full.
    """
    try:
        atomic.write_whole(path, write)
    # torch raises RuntimeError, safetensors a class of its own, everything else OSError.
    except Exception as error:
        raise OutputError(
            f"{path} cannot be written: {error}; {free_mb(path.parent)} MB are free; accepted: a "
            "writable folder with room for the weights four times"
        ) from error


def free_mb(folder: Path) -> int:
    """Return the free space on the disk of ``folder`` in MB; 0 if it is unknown."""
    try:
        return shutil.disk_usage(folder).free >> 20
    except OSError:
        return 0


def require_room(folder: Path, parameters: int) -> None:
    """Check that weights, the optimiser's two moments and a second copy of them fit on the disk.

    Raises:
        OutputError: They do not.
    """
    # The best weights, and a state of weights and two moments, which is written next to the earlier
    # one.
    needed_mb = (4 * parameters * 8 >> 20) + 1
    if free_mb(folder) < needed_mb:
        raise OutputError(
            f"{folder} has {free_mb(folder)} MB free; accepted: {needed_mb} MB, for a model of "
            f"{parameters / 1e6:.1f} M parameters"
        )


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` and lock it for this run. The system unlocks it when the process dies.

    Raises:
        OutputError: Another run has it, or it cannot be written.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locks.locked(folder / LOCK_FILE))
        except BlockingIOError as error:
            raise OutputError(
                f": another run writes to {folder}; accepted: a folder for each", argument="out"
            ) from error
        except OSError as error:
            raise OutputError(
                f": {folder} cannot be written: {error}; accepted: a writable folder",
                argument="out",
            ) from error
        atomic.sweep(folder, _WRITTEN)
        yield


def require_new_or_resume(folder: Path, resume: bool) -> None:
    """Check that no file of ``folder`` would be overwritten.

    Raises:
        InvalidValue: It holds files, or no run to resume; the message names them.
    """
    has_state = (folder / STATE_FILE).is_file()
    others = sorted(p.name for p in folder.iterdir() if p.name != LOCK_FILE)
    if resume and not has_state and others:
        raise InvalidValue(
            f": {folder} holds {', '.join(others[:3])} and no {STATE_FILE}; accepted: "
            "folder of an earlier run, or a new one",
            argument="resume",
        )
    if not resume and others:
        what = "a run" if has_state else ", ".join(others[:3])
        raise InvalidValue(
            f": {folder} holds {what}; accepted: a new or an empty folder",
            argument="out",
            hint=" continues the run" if has_state else "",
            hint_argument="resume" if has_state else "",
        )


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dictionaries) for :func:`load_state`."""
    write_whole(folder / STATE_FILE, lambda path: torch.save({"format": FORMAT, **state}, path))


def load_state(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the state in ``folder``; None if there is none.

    ``identity`` must be equal to that of the run that wrote it.

    Raises:
        InvalidValue: The run is another one, with each difference, or the file is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        # torch would unpack compressed entries of any size; it never compresses them itself.
        with open_regular(path) as file:
            check_entries(
                entries=open_zip(file, path).infolist(),
                path=path,
                length=path.stat().st_size,
                accepted="stored",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
        stored = state["identity"] if state["format"] == FORMAT else {}
    except Exception as error:  # zip, pickle and torch have exception classes of their own
        # Not torch's text, which advises to read the file in a way that runs what it holds.
        raise InvalidValue(
            f"{path}: damaged, or no state of a run ({type(error).__name__}); accepted: the state "
            "of a run, as it was written"
        ) from error
    different = [
        f"  {name}: {stored.get(name)!r} then, {identity.get(name)!r} now"
        for name in sorted({*stored, *identity})
        if stored.get(name) != identity.get(name)
    ]
    if different:
        raise InvalidValue(
            "\n".join(
                [
                    f": {folder} is another run; accepted: the same pictures, labels and "
                    "options, or a new folder",
                    *different,
                ]
            ),
            argument="resume",
            hint=f" {folder} starts a new run from its model",
            hint_argument="checkpoint",
        )
    return state
