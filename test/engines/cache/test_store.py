"""The cache: complete entries or none, whatever happens to the files, the disk or the builders."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from test.log_lines import LogLines
from test.waiting import HANG_S, PROGRAM_S, run_program, wait_until
from vit_perception.engines.cache.store import (
    CacheError,
    cache_folder,
    cached,
    digest_of,
    discard,
    read_checked,
    write_checked,
)
from vit_perception.files.log import SILENT

KEY = {"weights": "abc", "batch": 2}
CONTENT = bytes(range(256)) * 64

# A builder as a process of its own: argv is folder, seconds to build, and the file that records
# each build.
BUILDER = """
import sys, time
from pathlib import Path
from vit_perception.engines.cache.store import cached
from vit_perception.files.log import PrintedLog
folder, build_s, record = Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
def build(entry):
    with open(record, "a") as file:
        file.write("build\\n")
    (entry / "model.onnx").write_bytes(bytes(range(256)) * 32)
    time.sleep(build_s)
    (entry / "model.onnx").write_bytes(bytes(range(256)) * 64)
entry = cached({"weights": "abc", "batch": 2}, build, PrintedLog(), folder).path
assert (entry / "model.onnx").stat().st_size == 256 * 64
print("done")
"""


def start_builder(folder, build_s, record):
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder), str(build_s), str(record)],
        stdout=subprocess.PIPE,
        text=True,
    )


class Builder:
    """Writes one file, and counts how often it was asked to."""

    def __init__(self):
        self.builds = 0
        self.log = LogLines()

    def __call__(self, folder):
        self.builds += 1
        (folder / "model.onnx").write_bytes(CONTENT)

    def get(self, folder):
        return cached(KEY, self, self.log, folder).path / "model.onnx"


def test_a_second_request_reuses_the_entry(tmp_path):
    builder = Builder()
    first, second = (cached(KEY, builder, builder.log, tmp_path) for _ in range(2))
    assert (first.was_cached, second.was_cached) == (False, True)
    assert first.path == second.path and (first.path / "model.onnx").read_bytes() == CONTENT
    assert builder.builds == 1 and builder.log == []


def test_another_key_is_another_entry(tmp_path):
    builder = Builder()
    builder.get(tmp_path)
    cached({**KEY, "batch": 3}, builder, builder.log, tmp_path)
    assert builder.builds == 2
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})


def truncate(file):
    file.write_bytes(CONTENT[:-1])


def flip_a_bit(file):
    file.write_bytes(CONTENT[:1000] + bytes([CONTENT[1000] ^ 1]) + CONTENT[1001:])


def remove(file):
    file.unlink()


def empty_the_checksums(file):
    (file.parent / "sha256.json").write_text("")


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, remove, empty_the_checksums])
def test_a_damaged_entry_is_built_again_with_a_warning(tmp_path, harm):
    builder = Builder()
    harm(builder.get(tmp_path))
    assert builder.get(tmp_path).read_bytes() == CONTENT
    assert builder.builds == 2
    assert (
        builder.log.warnings == builder.log
        and len(builder.log) == 1
        and "damaged" in builder.log[0]
        and str(tmp_path) in builder.log[0]
    )


def test_entries_without_checksums_or_of_another_key_are_built_again(tmp_path):
    """Found by a reader: an empty table of checksums vouched for anything, and the key was never
    compared.
    """
    harms = {"sha256.json": "{}", "key.json": '{"batch": 3, "weights": "abc"}'}
    for name, text in harms.items():
        builder = Builder()
        entry = builder.get(tmp_path / name).parent
        (entry / name).write_text(text)
        if (
            name == "key.json"
        ):  # with a checksum that fits, as a folder copied under another name has
            checksums = json.loads((entry / "sha256.json").read_text())
            checksums[name] = hashlib.sha256(text.encode()).hexdigest()
            (entry / "sha256.json").write_text(json.dumps(checksums))
        builder.get(tmp_path / name)
        assert builder.builds == 2


def test_two_processes_at_once_build_once(tmp_path):
    record = tmp_path / "record"
    processes = [start_builder(tmp_path / "cache", 0.5, record) for _ in range(2)]
    outputs = [process.communicate(timeout=PROGRAM_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert record.read_text() == "build\n"
    assert sum("another process is building" in output for output in outputs) <= 1


def test_a_builder_killed_midway_leaves_no_entry_and_the_next_one_builds(tmp_path):
    record = tmp_path / "record"
    process = start_builder(tmp_path / "cache", 60, record)
    wait_until(record.exists, f"{record}")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_S)
    entry = tmp_path / "cache" / digest_of(KEY)
    assert not entry.exists()  # what was half-written has another name
    builder = Builder()
    assert builder.get(tmp_path / "cache").read_bytes() == CONTENT
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == ["", ".lock"]


def test_a_build_that_raises_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_bytes(b"x")
        raise ValueError("no such operator")

    with pytest.raises(ValueError, match="no such operator"):
        cached(KEY, fail, SILENT, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    with pytest.raises(CacheError, match=f"{folder}.*XDG_CACHE_HOME"):
        cached(KEY, Builder(), SILENT, folder)


def test_a_full_disk_is_an_error_that_names_the_folder_and_leaves_nothing(tmp_path):
    # A file size limit stands in for the full disk: the kernel refuses the write in the same place.
    script = f"""
import resource
from pathlib import Path
from vit_perception.engines.cache.store import CacheError, cached
from vit_perception.files.log import SILENT
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    cached({{"a": 1}}, lambda folder: (folder / "x").write_bytes(bytes(10000)), SILENT, Path({str(tmp_path)!r}))
except CacheError as error:
    print(error)
"""  # noqa: E501
    output = run_program([sys.executable, "-c", script])
    assert str(tmp_path) in output.stdout and "File too large" in output.stdout, output
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_the_folder_follows_the_xdg_rule(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vit_perception" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "vit_perception" / "engines"


def test_an_entry_that_is_discarded_is_built_again(tmp_path):
    builder = Builder()
    entry = builder.get(tmp_path).parent
    discard(entry, "the runtime refuses it", builder.log)
    assert (
        not entry.exists()
        and "cannot be used (the runtime refuses it); building it again" in builder.log[0]
    )
    discard(entry, "twice", builder.log)
    assert builder.get(tmp_path).read_bytes() == CONTENT and builder.builds == 2


def test_a_checked_file_is_read_back_and_a_damaged_or_missing_one_is_not(tmp_path):
    path, log = tmp_path / "folder" / "kernels", LogLines()
    assert read_checked(path, log) == b"" and log == []
    write_checked(path, CONTENT, log)
    assert read_checked(path, log) == CONTENT and log == []
    assert [p.name for p in path.parent.iterdir()] == ["kernels"]
    stored = path.read_bytes()
    for harmed in (
        stored[:-1],
        b"",
        b"x" + stored[1:],
        stored[:100] + bytes([stored[100] ^ 1]) + stored[101:],
    ):
        path.write_bytes(harmed)
        assert read_checked(path, log) == b""
    assert len(log.warnings) == 4 and all("damaged" in line and str(path) in line for line in log)


def test_a_checked_file_that_cannot_be_written_or_read_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    log = LogLines()
    write_checked(tmp_path / "file" / "kernels", CONTENT, log)
    assert read_checked(tmp_path / "file" / "kernels", log) == b""
    assert read_checked(tmp_path, log) == b""
    assert (
        "cannot be written" in log[0] and "cannot be read" in log[1] and "cannot be read" in log[2]
    )
