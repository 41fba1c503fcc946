"""What loading took comes back to the system. (A node that was configured again had grown by 50
MB.) Pages of a mapped file do, and the program's own memory is never taken for such.
"""

import platform
from pathlib import Path

import numpy as np
import pytest

from vit_perception.files.memory import FilePages, give_back_freed_memory


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


@pytest.fixture
def mapped(tmp_path):
    """32 MB of a file, mapped as safetensors maps them, all of it read."""
    path = tmp_path / "file"
    path.write_bytes(np.arange(8_000_000, dtype=np.int32).tobytes())
    array = np.memmap(path, np.int32, "c")
    assert array.sum(dtype=np.int64) == 8_000_000 * 7_999_999 // 2
    return array


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the list of mappings is Linux's")
def test_pages_of_a_file_go_back_and_are_read_again(mapped):
    before_mb = resident_mb()
    assert FilePages().let_go(mapped.ctypes.data, mapped.nbytes)
    assert before_mb - resident_mb() > 25
    assert mapped.sum(dtype=np.int64) == 8_000_000 * 7_999_999 // 2


def test_what_is_not_whole_in_one_mapping_of_a_file_stays(mapped, tmp_path):
    own = np.ones(4_000_000)
    pages = FilePages()
    assert not pages.let_go(own.ctypes.data, own.nbytes) and own.all()
    beyond = -(-mapped.nbytes // 4096) * 4096 + 1
    assert not pages.let_go(mapped.ctypes.data, beyond)
    assert not pages.let_go(mapped.ctypes.data + 1, 4096)  # no page lies whole in it
    assert not FilePages(tmp_path / "none").let_go(mapped.ctypes.data, mapped.nbytes)


@pytest.mark.parametrize(
    "kind, is_taken",
    [
        ("rw-p 00000000 fe:00 77", True),
        ("rw-s 00000000 fe:00 77", False),
        ("rw-p 0 00:00 0", False),
    ],
)
def test_only_private_mappings_of_files_count(monkeypatch, tmp_path, kind, is_taken):
    """A shared one is another program's memory, too, and one without an inode is the heap."""
    maps = tmp_path / "maps"
    maps.write_text(f"00010000-00020000 {kind}   /a file\n00020000-00030000 r-xp 0 0:0 0\n")
    asked = []

    class Library:
        @staticmethod
        def madvise(first, size, advice):
            asked.append((first.value, size.value))
            return 0

    monkeypatch.setattr("ctypes.CDLL", lambda name: Library)
    assert FilePages(maps).let_go(0x10800, 0x2000) is is_taken
    assert asked == ([(0x11000, 0x1000)] if is_taken else [])
    assert not FilePages(maps).let_go(0x1F000, 0x2000)
