"""What loading took comes back to the system. (A node that was configured again had grown by 50
MB.)
"""

import platform
from pathlib import Path

import numpy as np
import pytest

from vit_perception.files.memory import give_back_freed_memory


def resident_mb() -> float:
    line = next(
        li for li in Path("/proc/self/status").read_text().splitlines() if li.startswith("VmRSS:")
    )
    return int(line.split()[1]) / 1e3


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, the one that this is for"
)
def test_freed_memory_below_what_is_still_used_goes_back():
    blocks = [
        np.ones(8_000) for _ in range(2_000)
    ]  # 64 kB each: of the heap, not mapped one by one
    used = blocks[::20]
    begin_mb = resident_mb()
    del blocks
    kept_mb = resident_mb()
    give_back_freed_memory()
    assert begin_mb - resident_mb() > 90 and all(block.all() for block in used)
    assert begin_mb - kept_mb < 30, "nothing was kept, so this test shows nothing"


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back_freed_memory()
