"""Locks between processes: the kernel frees them when a process dies, however it dies.

Not the library `filelock`: 3.6, which Ubuntu 22.04 has, empties the target of a link in the lock's
place; 4.3 accepts hard links and pipes, and takes 0.25 s to import; neither can lock a folder.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_perception.files.atomic import open_plain


def take_lock(descriptor: int) -> None:
    """Lock an open file or folder until it is closed.

    Raises:
        BlockingIOError: another process holds it.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, which is created if missing and never emptied.

    If another process holds it, call ``waiting`` once and wait.

    Raises:
        BlockingIOError: another process holds it, and there is no ``waiting``.
        NotPlain: ``path`` is a link, a pipe, a device, a folder, or has a second name.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            take_lock(descriptor)
        except BlockingIOError:
            if waiting is None:
                raise
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
