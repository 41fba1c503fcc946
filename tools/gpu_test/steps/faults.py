"""A GPU that is lost to a process ends the process. Each case is a process of its own
(``fault_cases``).
"""

import subprocess
import sys
import time
from pathlib import Path

from tools.gpu_test.machine import Machine
from tools.gpu_test.note import Note
from vit_perception.engines.cuda import fault as cuda_fault

ROOT = Path(__file__).resolve().parents[3]
_LIMIT_S = 75.0


def sticky(machine: Machine, note: Note, case: str) -> None:
    """The process of ``case`` breaks the GPU, says so in one line, and ends with the documented
    status.
    """
    begun_s = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tools.gpu_test.fault_cases", case, "--device", machine.device],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        note.check(
            False,
            "the process ends",
            f"not within {_LIMIT_S:g} s: {error.stdout!r} {error.stderr!r}",
        )
        return
    note.figure("seconds to its end", time.monotonic() - begun_s)
    note.figure("said", done.stderr[-2000:])
    note.check(
        "now the fault" in done.stdout, "the engine ran before the fault", done.stdout[-1000:]
    )
    note.check(
        done.returncode == cuda_fault.EXIT_STATUS,
        f"it ends with {cuda_fault.EXIT_STATUS}",
        f"{done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}",
    )
    lines = [
        line for line in done.stderr.splitlines() if line.startswith("gpu-test: the GPU is lost")
    ]
    note.check(
        len(lines) == 1 and "Traceback" not in done.stderr,
        "it says why in one line",
        done.stderr[-2000:],
    )
