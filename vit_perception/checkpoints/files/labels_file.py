"""Class names for checkpoints that hold none: a text file next to the weights, one name a line."""

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles, is_there
from vit_perception.files.regular_files import IrregularFile, read_text_bounded

LABELS_FILE = "labels.txt"


def labels_for(files: CheckpointFiles, classes: int) -> tuple[str, ...]:
    """Read ``<weights file>.labels.txt`` or ``labels.txt``; else number the classes.

    Raises:
        CheckpointError: The file does not hold ``classes`` names.
    """
    if not classes:
        return ()
    for path in (files.path.with_suffix(f".{LABELS_FILE}"), files.folder / LABELS_FILE):
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
