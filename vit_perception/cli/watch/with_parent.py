"""Runs a program that ends when its parent does, however that ends: Linux alone.

``python -m vit_perception.cli.watch.with_parent PARENT_PID PROGRAM ARGUMENTS...``; the program
takes the place of this process, under the same process id.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, arguments: list[str]) -> None:
    """Become the program ``arguments``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)  # it has ended before that call
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
