"""The C library's heap: what a stage that needs much memory once leaves behind."""

import ctypes


def give_back_freed_memory() -> None:
    """Return what has been freed to the system, where the C library is glibc; elsewhere nothing
    happens.

    glibc keeps it for the next allocation: a checkpoint that was read, exported and compiled leaves
    tens of megabytes with the process for good, and on a Jetson the GPU lacks them. Takes some ten
    milliseconds.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(ctypes.c_size_t(0))
