"""The C library's heap: memory that a stage needed only once."""

import ctypes


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
