"""The files that a user put into a folder, without those that programs keep there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Copies and previews of Mac OS, Windows and storage boxes. Names that begin with a dot are left out
# anyway: Jupyter's .ipynb_checkpoints, .Trash, the ._ files of Mac OS.
_KEPT_BY_PROGRAMS = {
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "desktop.ini",
    "__pycache__",
}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or is kept by a program."""
    return name.startswith((".", "~$")) or name.lower() in _KEPT_BY_PROGRAMS


def files_below(folder: Path) -> list[Path]:
    """Return the regular files in ``folder`` and the folders in it, sorted.

    Hidden files are left out. Links to folders are not followed.
    """
    return sorted(_walk(folder, lambda name: not is_hidden(name)))


def hidden_below(folder: Path) -> int:
    """Count the files that :func:`files_below` leaves out: they or a folder above are hidden."""
    return sum(1 for _ in _walk(folder, lambda name: True)) - len(files_below(folder))


def _walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    # A link to a folder may lead back to the folder itself: os.walk does not follow it.
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if wanted(name)]
        for name in names:
            path = Path(place, name)
            if wanted(name) and path.is_file():
                yield path
