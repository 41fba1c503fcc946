"""Local copies go when their process ends, however it ends."""

import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from test.conftest import ROOT
from vit_perception.files.storage import scratch
from vit_perception.files.storage.folder import StorageError
from vit_perception.files.storage.scratch import Scratch

PROGRAM = """
import sys
from vit_perception.files.storage.scratch import Scratch
held = Scratch("bags")
(held.path / "copy").write_text("x")
print(held.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_it_is_deleted_at_the_end():
    with Scratch("bags") as held:
        (held.path / "copy").write_text("x")
        assert held.path.stat().st_mode & 0o777 == 0o700
    assert not held.path.exists()
    held.close()


def test_only_folders_of_dead_processes_are_swept():
    other = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    left = Path(other.stdout.readline().strip())
    try:
        with Scratch("bags") as held:
            assert left.exists() and held.path.parent == left.parent
            other.send_signal(signal.SIGKILL)
            other.wait(30)
            assert left.exists()
            with Scratch("bags"):
                assert not left.exists() and held.path.exists()
    finally:
        other.kill()
        other.communicate()
    assert os.listdir(left.parent) == []


def test_what_does_not_fit_is_refused_before_it_is_copied(monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: Usage(0, 0, 300 << 20))
    with Scratch("bags") as held:
        held.check_room(44 << 20, "s3://lab/a")
        with pytest.raises(StorageError, match=r"(?s)s3://lab/a has 45 MiB.*300 MiB free.*hint: "):
            held.check_room(45 << 20, "s3://lab/a")
