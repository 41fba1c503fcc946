"""Copy a folder of object storage to local disk."""

from pathlib import Path

from vit_perception.files.storage.folder import StorageFolder


def fetch_folder(folder: StorageFolder, path: Path) -> int:
    """Copy all files of ``folder`` to the local folder ``path``; return how many were copied.

    A file that is there with the same size is not copied again, so an interrupted copy continues.
    Files of `embed` are checked by ``FeatureFiles.verify``.

    Raises:
        StorageError: The storage fails. What is copied is complete.
    """
    copied = 0
    for file in folder.files():
        target = path / file.name
        if target.is_file() and target.stat().st_size == file.size_bytes:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.fetch(file.name, target)
        copied += 1
    return copied
