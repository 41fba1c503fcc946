"""Make an environment of the oldest Python and NumPy that a robot has, for test/python310: CPython
3.10, NumPy 1.26.

    python tools/python310.py FOLDER

Takes $PYTHON310, python3.10 on the PATH, or one beside the Python that runs this (pyenv). Where
there is none, it says so and leaves FOLDER/why_not.txt, and the tests are skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements/python310.lock"


def main(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    python = next(filter(is_python310, candidates()), None)
    if python is None:
        folder.mkdir(parents=True)
        why_not = (
            "no CPython 3.10 here: tests on it are skipped; PYTHON310=/path/to/python3.10 names one"
        )
        (folder / "why_not.txt").write_text(f"{why_not}\n")
        print(why_not)
        return 0
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    return subprocess.run(
        [
            str(folder / "bin/python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            str(LOCK),
        ]
    ).returncode


def candidates() -> list[str]:
    """Commands that may be a CPython 3.10, the wanted one first."""
    beside = sorted(Path(sys.base_prefix).parent.glob("3.10*/bin/python"))
    return [os.environ.get("PYTHON310", ""), *map(str, beside), shutil.which("python3.10") or ""]


def is_python310(command: str) -> bool:
    """Whether ``command`` runs and is one; pyenv's commands are there for Pythons that are switched
    off, too.
    """
    if not command:
        return False
    try:
        asked = subprocess.run(
            [command, "-c", "import sys, venv; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and asked.stdout.split() == ["3", "10"]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
