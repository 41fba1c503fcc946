"""An engine carried to a robot as one file: used where it is this node's, and otherwise refused
with what differs.
"""

import hashlib
import json
import os

import pytest

from vit_perception.engines.cache import engine_file
from vit_perception.engines.cache.engine_file import EngineFile, check_out, write_engine_file
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt.cached import ENGINE_NAME
from vit_perception.files.errors import InvalidValue

KEY = {
    "kind": "engine",
    "runtime": "tensorrt_rtx 1.7.1",
    "precision": "float16",
    "attention": "half",
    "batch": 2,
    "batches": None,
    "network_size_px": [64, 64],
    "block": -1,
    "targets": ["8.9"],
    "config": {"depth": 3, "width": 32},
}
CONTENT = bytes(range(256)) * 64


@pytest.fixture
def file(tmp_path):
    """A file made of a cache entry that holds no real engine."""
    entry = tmp_path / "entry"
    entry.mkdir()
    (entry / "model.engine").write_bytes(CONTENT)
    (entry / "key.json").write_text(json.dumps(KEY))
    write_engine_file(tmp_path / "robot.vitengine", entry / "model.engine")
    return tmp_path / "robot.vitengine"


def test_what_was_written_comes_back(file):
    opened = EngineFile.opened(file)
    assert opened.key == KEY and opened.content_for({**KEY, "targets": ("8.9",)}) == CONTENT
    assert (opened.flavour, opened.precision, opened.attention) == (
        "tensorrt_rtx",
        "float16",
        "half",
    )


def test_nobody_else_may_write_what_is_made_whatever_the_umask(file, tmp_path):
    earlier = os.umask(0)
    try:
        write_engine_file(tmp_path / "again", tmp_path / "entry" / "model.engine")
    finally:
        os.umask(earlier)
    assert (tmp_path / "again").stat().st_mode & 0o777 == 0o644 and EngineFile.opened(
        tmp_path / "again"
    ).key == KEY


# -- damage ----------------------------------------------------------------------------------------


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda content: b"", "none of this version's"),
        (lambda content: flipped(content, 3), "none of this version's"),
        (lambda content: b"PK\x03\x04" + content, "none of this version's"),
        (lambda content: content.replace(b"format 1", b"format 2", 1), "none of this version's"),
        (lambda content: flipped(content, 40), "its header does not have its checksum"),
        (
            lambda content: flipped(content, content.index(b"float16")),
            "its header does not have its checksum",
        ),
        (lambda content: content[:150], "its header does not have its checksum"),
        (lambda content: content[:-1], "16383 bytes of engine are there, 16384 were written"),
        (lambda content: content + b"x", "16385 bytes of engine are there"),
    ],
)
def test_damage_to_the_header_or_the_length_is_seen_at_once(file, harm, words):
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(EngineError, match=f"engine.file {file} is .*{words}.*; accepted: "):
        EngineFile.opened(file)


def test_a_flipped_bit_in_the_engine_is_seen_before_it_is_used(file):
    file.write_bytes(flipped(file.read_bytes(), -100))
    opened = EngineFile.opened(file)
    with pytest.raises(
        EngineError, match="is damaged .the engine does not have its checksum.*copy it again"
    ):
        opened.content_for(KEY)


def test_a_file_that_is_exchanged_while_it_is_open_is_refused(file, tmp_path):
    opened = EngineFile.opened(file)
    (tmp_path / "entry" / "key.json").write_text(json.dumps({**KEY, "batch": 3}))
    write_engine_file(file, tmp_path / "entry" / "model.engine")
    with pytest.raises(EngineError, match="it has changed since it was opened"):
        opened.content_for(KEY)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"no JSON",
        b'{"key": 3}',
        b'{"key": {}, "engine_bytes": 0, "engine_sha256": ""}',
        b"[" * 100_000,
        b'{"key": {"runtime": 3, "precision": "", "attention": ""}, "engine_bytes": 0, '
        b'"engine_sha256": ""}',
        b'{"key": {"runtime": "a", "precision": [], "attention": ""}, "engine_bytes": 0, '
        b'"engine_sha256": ""}',
        b'{"key": {"runtime": "a", "precision": "", "attention": ""}, "engine_bytes": "0", '
        b'"engine_sha256": ""}',
        b'{"key": {"a": ' + b'{"a":' * 300 + b"0" + b"}" * 300 + b"}}",
    ],
)
def test_a_header_with_its_checksum_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "bad"
    path.write_bytes(
        engine_file._FORMAT + hashlib.sha256(header).hexdigest().encode() + b" " + header + b"\n"
    )
    with pytest.raises(EngineError, match="is damaged .its header is none"):
        EngineFile.opened(path)


def test_a_header_without_an_end_is_not_read_whole(tmp_path):
    path = tmp_path / "bad"
    path.write_bytes(engine_file._FORMAT)
    os.truncate(path, 1 << 40)  # a file with a hole
    with pytest.raises(EngineError, match="does not have its checksum"):
        EngineFile.opened(path)


# -- who may have written it -----------------------------------------------------------------------


def a_link(file):
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def a_fifo(file):
    file.unlink()
    os.mkfifo(file)


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda file: file.chmod(0o664),
            "may be written by others .mode 0664.*accepted as an engine.*chmod go-w",
        ),
        (lambda file: file.chmod(0o646), "may be written by others"),
        (lambda file: file.with_name("second").hardlink_to(file), "has a second name .a hard link"),
        (
            lambda file: file.parent.chmod(0o777),
            "above an engine, may be written by others.*copy it to a folder",
        ),
        (a_link, "is a symbolic link; accepted as an engine: files"),
        (a_fifo, "is a pipe"),
        (a_folder, "is a folder"),
    ],
    ids=["group", "world", "hard link", "folder", "link", "FIFO", "no file"],
)
def test_what_others_could_have_put_there_is_refused(file, change, words):
    change(file)
    with pytest.raises(EngineError, match=f"engine.file is not used: .*{words}"):
        EngineFile.opened(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused_and_one_of_roots_is_not(file):
    EngineFile.opened(file)
    os.chown(file, 12345, 12345)
    with pytest.raises(
        EngineError, match="belongs to user 12345; accepted as an engine: what belongs to you or "
    ):
        EngineFile.opened(file)


def test_folders_above_stay_as_they_are_and_may_be_links(file, tmp_path):
    """Regression of a thought: the cache's own folders are made 0700, and this may be the user's
    home.
    """
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    assert EngineFile.opened(tmp_path / "link" / file.name).key == KEY
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_one_that_is_missing_is_told(tmp_path):
    with pytest.raises(
        EngineError,
        match="engine.file .*/nothing cannot be read: No such file.*accepted: a file that",
    ):
        EngineFile.opened(tmp_path / "nothing")
    with pytest.raises(EngineError, match="engine.file .*/no/folder cannot be read: No such file"):
        EngineFile.opened(tmp_path / "no" / "folder")


# -- where it is written ---------------------------------------------------------------------------


def test_what_lies_there_is_replaced_only_by_force_and_a_links_target_stays(file, tmp_path):
    with pytest.raises(
        InvalidValue, match="which is there already; accepted: a new file"
    ) as caught:
        check_out(file, False)
    assert (caught.value.argument, caught.value.hint_argument) == ("out", "force")
    check_out(file, True)
    check_out(tmp_path / "new", False)
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    with pytest.raises(InvalidValue, match="link, which is there already"):
        check_out(link, False)
    check_out(link, True)
    write_engine_file(link, tmp_path / "entry" / ENGINE_NAME)
    assert (
        target.read_text() == "mine"
        and not link.is_symlink()
        and EngineFile.opened(link).key == KEY
    )


def test_what_is_no_place_for_a_file_is_refused_before_a_build(tmp_path):
    for path, words in (
        (tmp_path, "a folder; accepted: a file"),
        (tmp_path / "no" / "x", "in a folder that exists"),
    ):
        with pytest.raises(InvalidValue, match=words):
            check_out(path, True)
