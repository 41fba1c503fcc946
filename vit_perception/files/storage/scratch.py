"""A private folder for local copies, which goes when its process ends, however it ends."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from vit_perception.files.atomic import take_lock
from vit_perception.files.private_cache import cache_root, make_folder
from vit_perception.files.storage.folder import StorageError

# What must stay free on its disk.
SPARE_BYTES = 256 << 20
_PREFIX = "copy-"


class Scratch:
    """A new folder below ``kind`` in the user's cache; use :meth:`close`, or a `with` block.

    Folders that killed processes left there are deleted first.
    """

    def __init__(self, kind: str):
        root = cache_root() / kind
        make_folder(root)
        _sweep(root)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        take_lock(self._lock)

    def check_room(self, size_bytes: int, what: str) -> None:
        """Check that ``size_bytes`` more fit on the disk, for ``what``.

        Raises:
            StorageError: They do not.
        """
        free_bytes = shutil.disk_usage(self.path).free
        if size_bytes + SPARE_BYTES > free_bytes:
            raise StorageError(
                f"{what} has {size_bytes >> 20} MiB, and the disk of {self.path.parent} has "
                f"{free_bytes >> 20} MiB free; accepted: room for it and {SPARE_BYTES >> 20} MiB",
                hint="point XDG_CACHE_HOME to a folder on a larger disk",
            )

    def close(self) -> None:
        """Delete the folder. It may be called twice."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _sweep(root: Path) -> None:
    """Delete folders whose process is gone: the kernel has freed their locks."""
    for left in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                take_lock(descriptor)
                shutil.rmtree(left)
            finally:
                os.close(descriptor)
