"""Locks: exclusive, freed by the kernel, and no other file is emptied or followed."""

import os
import signal
import subprocess
import sys

import pytest

from vit_perception.files.atomic import NotPlain, take_lock
from vit_perception.files.locks import locked

ELSEWHERE = "somebody else's"


def test_lock_is_exclusive_and_keeps_content(tmp_path):
    lock = tmp_path / "run.lock"
    lock.write_text("content")
    with locked(lock), pytest.raises(BlockingIOError), locked(lock):
        pass
    assert lock.read_text() == "content"


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "dangling link", "folder"])
def test_lock_is_a_plain_file(tmp_path, kind):
    target = tmp_path / "elsewhere.txt"
    target.write_text(ELSEWHERE)
    lock = tmp_path / "run.lock"
    {
        "link": lambda: lock.symlink_to(target),
        "hard link": lambda: os.link(target, lock),
        "pipe": lambda: os.mkfifo(lock),
        "dangling link": lambda: lock.symlink_to(tmp_path / "made"),
        "folder": lock.mkdir,
    }[kind]()
    with pytest.raises(NotPlain, match=kind.removeprefix("dangling ")), locked(lock):
        pass
    assert target.read_text() == ELSEWHERE and not (tmp_path / "made").exists()


@pytest.mark.parametrize("of_folder", [True, False])
def test_killed_process_frees_its_lock(tmp_path, of_folder):
    place = tmp_path if of_folder else tmp_path / "run.lock"
    place.exists() or place.touch()
    holder = "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDONLY); "
    holder += "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(600)"
    descriptor = os.open(place, os.O_RDONLY)
    with subprocess.Popen([sys.executable, "-c", holder, str(place)], stdout=-1) as process:
        process.stdout.readline()
        with pytest.raises(BlockingIOError):
            take_lock(descriptor)
        process.send_signal(signal.SIGKILL)
    take_lock(descriptor)
    os.close(descriptor)
