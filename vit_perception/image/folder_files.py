"""The files that somebody put into a folder, without those that programs keep beside them."""

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
    """Whether a file or folder of this name is hidden, or is kept by a program and not by its
    user.
    """
    return name.startswith((".", "~$")) or name.lower() in _KEPT_BY_PROGRAMS


def files_below(folder: Path) -> list[Path]:
    """The regular files in ``folder`` and the folders in it, sorted; nothing hidden, no folder
    through a link.
    """
    return sorted(_walk(folder, lambda name: not is_hidden(name)))


def hidden_below(folder: Path) -> int:
    """How many regular files :func:`files_below` leaves out because they, or a folder above them,
    are hidden.
    """
    return sum(1 for _ in _walk(folder, lambda name: True)) - len(files_below(folder))


def _walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    # A folder through a link may hold the folder itself: os.walk does not follow it.
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if wanted(name)]
        for name in names:
            path = Path(place, name)
            if wanted(name) and path.is_file():
                yield path
