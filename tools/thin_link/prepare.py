"""What the trials send: tokens of a recording, and bases that were learnt from another one."""

import json
import subprocess
import sys
from pathlib import Path

from tools.thin_link.forms import DIMS
from tools.thin_link.plan import LEARNT_FROM, RECORDING, ROOT
from vit_perception.files.errors import OperationFailed


def prepare(work: Path) -> None:
    """Make in ``work`` what is not there yet. It takes minutes: two recordings are embedded.

    Raises:
        OperationFailed: A command fails.
    """
    work.mkdir(parents=True, exist_ok=True)
    for name, recording in (("train", LEARNT_FROM), ("demo", RECORDING)):
        options = ["--params", str(ROOT / "config/demo.yaml"), "--features", "tokens"]
        # The same command again finishes what is not finished.
        if not _finished(work / name):
            _run("embed", str(recording), *options, "--out", str(work / name))
    for dims in DIMS:
        path = work / f"basis_{dims}.safetensors"
        if not path.exists():
            _run("basis", str(work / "train"), "--dims", str(dims), "--out", str(path))


def _finished(folder: Path) -> bool:
    manifest = folder / "manifest.json"
    return manifest.exists() and bool(json.loads(manifest.read_text())["complete"])


def _run(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "vit_perception.cli.main", *arguments]).returncode:
        raise OperationFailed(f"`vit-perception {' '.join(arguments)}` failed")
