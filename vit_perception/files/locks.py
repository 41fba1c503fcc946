"""Lock files between processes: the kernel frees them when a process dies, however it dies.

Not the library `filelock`. 3.6, which Ubuntu 22.04 has, empties the target of a link or hard link
in the lock's place. 4.3 refuses links, but takes hard links and pipes. Neither can lock a folder.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_perception.files.atomic import open_plain, take_lock


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
            take_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)
