"""Class names for checkpoints that hold none: a text file beside the weights, one name a line."""

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.opened import Found, is_there
from vit_perception.files.regular_files import IrregularFile, read_text_bounded

LABELS_FILE = "labels.txt"


def labels_beside(found: Found, classes: int) -> tuple[str, ...]:
    """The names in ``<weights file>.labels.txt`` or ``labels.txt``; ``class 0`` and on where there
    is neither.

    Raises CheckpointError where the file does not hold ``classes`` names.
    """
    for path in (found.path.with_suffix(f".{LABELS_FILE}"), found.folder / LABELS_FILE):
        if is_there(path):
            try:
                names = read_text_bounded(path).splitlines()
            except IrregularFile as error:
                raise CheckpointError(str(error)) from error
            if len(names) != classes or not all(name.strip() for name in names):
                raise CheckpointError(
                    f"{path} holds {len(names)} lines; accepted: {classes} class names, one a line"
                )
            return tuple(name.strip() for name in names)
    return tuple(f"class {index}" for index in range(classes))
