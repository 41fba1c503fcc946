"""Writing: complete files under names that nobody can guess; no link is ever followed."""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from test.conftest import ROOT
from vit_perception.files.atomic import (
    NotPlain,
    fresh_file,
    is_half_made,
    kind_of,
    open_plain,
    sweep,
    whole_file,
    write_whole,
)

ELSEWHERE = "somebody else's"


@pytest.fixture
def target(tmp_path):
    """A file outside of the output folder that no write may change."""
    file = tmp_path / "elsewhere.txt"
    file.write_text(ELSEWHERE)
    return file


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def link(path, target, kind):
    path.symlink_to(target) if kind == "link" else os.link(target, path)


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_whole_file_takes_the_place_of_a_link_and_its_target_stays(out, target, kind):
    link(out / "report.html", target, kind)
    write_whole(out / "report.html", lambda file: file.write_text("new"))
    assert target.read_text() == ELSEWHERE
    assert kind_of(out / "report.html") == "a file" and (out / "report.html").read_text() == "new"
    assert [p.name for p in out.iterdir()] == ["report.html"]


def test_temporary_names_differ_from_write_to_write_and_are_never_there_before(out):
    names = set()
    for _ in range(3):
        write_whole(out / "x", lambda file: (names.add(file.name), file.write_text("x")))
    assert len(names) == 3 and all(
        re.fullmatch(r"\.x\.[0-9a-f]{16}\.partial", name) for name in names
    )


def test_a_temporary_file_that_was_exchanged_for_a_link_is_refused(out, target):
    def exchanged(file):
        file.unlink()
        file.symlink_to(target)

    with pytest.raises(NotPlain, match="is a symbolic link"):
        write_whole(out / "x", exchanged)
    assert target.read_text() == ELSEWHERE and not list(out.iterdir())


def test_a_library_that_puts_its_own_file_there_gets_the_rights_that_the_umask_says(out):
    before = os.umask(0o027)
    try:
        write_whole(out / "w", lambda file: save_file({"a": np.zeros(3)}, file))
        write_whole(out / "secret", lambda file: file.write_text("x"), 0o600)
    finally:
        os.umask(before)
    assert [(out / name).stat().st_mode & 0o777 for name in ("w", "secret")] == [0o640, 0o600]


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_what_is_no_file_is_not_replaced(out, kind):
    os.mkfifo(out / "x") if kind == "a pipe" else (out / "x").mkdir()
    for write in (lambda path: write_whole(path, lambda file: file.write_text("x")), fresh_file):
        with pytest.raises(NotPlain, match=f"{out / 'x'} is {kind}; accepted: a file"):
            write(out / "x")
    assert kind_of(out / "x") == kind and len(list(out.iterdir())) == 1


def test_a_file_that_grows_is_new_and_a_link_in_its_place_is_refused(out, target):
    with fresh_file(out / "node.log") as first:
        first.write("one\n")
    before = (out / "node.log").stat().st_ino
    os.link(out / "node.log", out / "kept")
    with fresh_file(out / "node.log") as second:
        second.write("two\n")
        assert (out / "node.log").read_text() == "two\n"  # before it is closed
    assert (out / "kept").stat().st_ino == before and (out / "kept").read_text() == "one\n"
    link(out / "link", target, "link")
    with pytest.raises(NotPlain, match="is a symbolic link"):
        fresh_file(out / "link")
    assert target.read_text() == ELSEWHERE


def test_reading_waits_for_no_pipe_and_follows_no_link(out, target):
    os.mkfifo(out / "pipe")
    (out / "link").symlink_to(target)
    (out / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "link", "zero"):
        with pytest.raises(NotPlain, match=f"{out / name} is a (pipe|symbolic link)"):
            open_plain(out / name)
    with pytest.raises(NotPlain, match="/dev/zero is a device"):
        open_plain("/dev/zero")


def test_only_what_killed_processes_left_is_swept(out, target):
    killed = [
        sys.executable,
        "-c",
        "import os, sys; from pathlib import Path; from vit_perception.files.atomic import "
        "write_whole; write_whole(Path(sys.argv[1]), lambda file: os.kill(os.getpid(), 9))",
        str(out / "a.json"),
    ]
    assert subprocess.run(killed).returncode == -9
    (left,) = out.iterdir()
    assert is_half_made(left, r"a\.json") and not is_half_made(left, r"b\.json")
    mine = [
        out / name
        for name in (".a.json.xyz.partial", "a.json.0123456789abcdef.partial", ".notes.partial")
    ]
    for file in mine:
        file.write_text("mine")
    link(out / ".a.json.0000000000000000.partial", target, "link")
    link(out / ".a.json.1111111111111111.partial", target, "hard link")
    with whole_file(out / "a.json") as alive:
        sweep(out, r"a\.json")
        assert alive.exists() and not left.exists()
        alive.write_text("{}")
    assert target.read_text() == ELSEWHERE and all(file.exists() for file in mine)
    assert {p.name for p in out.iterdir()} == {
        "a.json",
        *(file.name for file in mine),
        ".a.json.0000000000000000.partial",
        ".a.json.1111111111111111.partial",
    }


def test_nothing_in_the_package_opens_a_file_for_writing_but_here():
    """Read from the source: what writes goes through this module, or into a folder that was made
    for it alone.
    """
    here = {"atomic.py", "private_cache.py"}
    found = []
    for path in sorted((ROOT / "vit_perception").rglob("*.py")):
        if path.name in here:
            continue
        tree = ast.parse(path.read_text())
        inside = {
            id(n) for node in ast.walk(tree) if isinstance(node, ast.Lambda) for n in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and id(node) not in inside and _writes(node):
                found.append(
                    f"{path.relative_to(ROOT / 'vit_perception')}: {ast.unparse(node)[:60]}"
                )
    # Into folders that are new and private: the engine cache's and the demo weights' unfinished
    # ones, a data set's that is being made, a temporary one; and the writers that write_whole()
    # calls. And what is nobody's file: the kernel's, a pipe's descriptor.
    allowed = (
        "engines/cache/store.py",
        "engines/tensorrt/build.py",
        "checkpoints/demo/conversion.py",
        "recordings/unpacking.py: open(name, 'xb')",
        "files/storage/local.py: partial.open('wb')",
        "files/storage/object_store.py: partial.open('wb')",
        "datasets/shards.py: file.open('wb')",
        "datasets/shards.py: file.write_bytes(",
        "datasets/lerobot/writer/tables.py: path.open('wb')",
        "datasets/lerobot/writer/pictures.py: av.open(str(path), 'w')",
        "engines/source.py: open(stored, 'xb')",
        "engines/building/child.py: open('/proc/self/oom_score_adj', 'w'",
        "engines/building/child.py: open(answers, 'wb'",
        "engines/cache/engine_file.py: open(partial, 'wb')",
        "ros/suggest/parameter_text.py: partial.write_text(",
        "viewing/basis_curve.py: FigureCanvasAgg(figure).print_png(content)",  # into memory
    )
    assert [line for line in found if not line.startswith(allowed)] == []


def _writes(call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "savefig", "touch", "imwrite", "print_png"):
        return True
    modes = [
        a.value
        for a in (*call.args, *(k.value for k in call.keywords if k.arg == "mode"))
        if isinstance(a, ast.Constant) and isinstance(a.value, str)
    ]
    if call.args and ast.unparse(call.args[0]).startswith("open_plain("):
        return False
    return name == "open" and any(re.fullmatch(r"[rwaxbt+]*[wax+][bt+]*", mode) for mode in modes)
