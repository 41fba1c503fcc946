"""Memory that a stage needed only once: the C library's heap, and pages of mapped files."""

import ctypes
import mmap
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def give_back_freed_memory() -> None:
    """Return freed memory to the system if the C library is glibc. Takes about 10 ms.

    glibc keeps it for later allocations: reading, exporting and compiling a checkpoint leaves tens
    of megabytes, which on a Jetson the GPU then misses.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(ctypes.c_size_t(0))


class FilePages:
    """The parts of this process's memory that are mapped from files, as they are when it is made.

    Parameters:
        maps: The kernel's list of them; another one than this process's is for tests.
    """

    def __init__(self, maps: Path = _MAPS):
        # (first address, address after the last) of private mappings of files, in order.
        self._ranges: list[tuple[int, int]] = []
        with suppress(OSError, ValueError):  # no Linux: nothing is known to be a file's
            for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
                addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
                if permissions.endswith("p") and inode != "0":
                    first, after = (int(address, 16) for address in addresses.split("-"))
                    self._ranges.append((first, after))

    def let_go(self, address: int, length: int) -> bool:
        """Let the system take back the pages that lie whole in ``length`` bytes from ``address``.

        The bytes stay what the file holds: whoever reads them again maps them again. Changes that
        were made to them in memory would be lost, so give only what was not changed.

        Returns whether they were given back: False where they are not mapped from a file.
        """
        at = bisect_right(self._ranges, (address, 1 << 64)) - 1
        if at < 0 or address + length > self._ranges[at][1]:
            return False
        first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        after = (address + length) // mmap.PAGESIZE * mmap.PAGESIZE
        if first >= after:
            return False
        try:
            madvise = ctypes.CDLL(None).madvise
        except (AttributeError, OSError, TypeError):
            return False
        size = ctypes.c_size_t(after - first)
        return bool(madvise(ctypes.c_void_p(first), size, mmap.MADV_DONTNEED) == 0)
