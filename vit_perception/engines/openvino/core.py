"""The one ``openvino.Core`` of this process.

A core that loads its CPU plugin gives the calling thread a signal stack of its own, and puts the
earlier one back when it is destroyed. Two cores that are destroyed in the order in which they were
made leave the thread with the signal stack of the first, which is no longer there. The next signal
that Python handles, such as Ctrl-C or a child that ends, then kills the process (SIGSEGV). So this
process has one core, and keeps it.
"""

import threading
from functools import cache
from typing import Any

from vit_perception.files import telemetry

DEVICE = "CPU"
_LOCK = threading.Lock()


def core() -> Any:
    """Return the process's ``openvino.Core``. It is safe to use from several threads.

    Raises:
        ImportError: OpenVINO is not installed, or its libraries do not load here.
    """
    with _LOCK:
        return _made()


@cache
def _made() -> Any:
    telemetry.off()
    import openvino

    return openvino.Core()
