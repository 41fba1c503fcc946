"""A cache that somebody else can write is refused by name, with the cure, and stays as it is."""

import os
import re
import sqlite3

import numpy as np
import pytest

from test.log_lines import LogLines
from vit_perception.engines.cache.store import (
    CacheError,
    cached,
    digest_of,
    read_checked,
    write_checked,
)
from vit_perception.files.log import SILENT
from vit_perception.files.private_cache import Untrusted, cache_root, make_folder, opened_folder
from vit_perception.training.feature_cache import FeatureCache

KEY = {"weights": "abc"}
SOMEBODY = 12345  # no user of the tests
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The engine cache below a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg/vit_perception/engines"


def build(folder):
    (folder / "model.onnx").write_bytes(b"model")


def made():
    """The entry, built by what must not be called where it is there already."""
    return cached(KEY, build, SILENT).path


def refused(named, why):
    """That the cache is refused, naming what, why and the cure, and that nothing is built or
    deleted.
    """
    with pytest.raises(
        CacheError, match=f"{re.escape(str(named))}.*{why}.*accepted.*XDG_CACHE_HOME"
    ):
        cached(KEY, lambda folder: pytest.fail("built"), SILENT)
    assert os.path.lexists(named)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_folders_and_files_are_for_this_user_alone_whatever_the_umask(cache, umask):
    before = os.umask(umask)
    try:
        entry = made()
        write_checked(cache / "x.kernels", b"kernels", SILENT)
        FeatureCache("features", 4, SILENT).close()
        assert read_checked(cache / "x.kernels", log := LogLines()) == b"kernels" and not log
        assert made() == entry
    finally:
        os.umask(before)
    folders = [cache.parent.parent, cache.parent, cache, entry, cache.parent / "features"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == 5 * [0o700]
    files = [*entry.iterdir(), cache / "x.kernels", cache.parent / "features/features.sqlite"]
    assert len(files) == 5 and {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize("name", ["", "model.onnx", "key.json", "sha256.json"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o666])
def test_an_entry_that_others_may_write_is_refused(cache, name, mode):
    target = made() / name if name else made()
    target.chmod(mode)
    refused(target, f"may be written by others \\(mode {mode:04o}\\)")
    assert target.stat().st_mode & 0o777 == mode


@as_root
@pytest.mark.parametrize("name", ["", "model.onnx", "sha256.json"])
def test_an_entry_of_somebody_else_is_refused(cache, name):
    target = made() / name if name else made()
    os.chown(target, SOMEBODY, SOMEBODY)
    refused(target, f"belongs to user {SOMEBODY}")
    assert target.stat().st_uid == SOMEBODY


@as_root
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_cache_below_somebody_elses_folder_is_refused(cache, level):
    made()
    target = [cache, *cache.parents][level]
    os.chown(target, SOMEBODY, -1)
    refused(target, f"belongs to user {SOMEBODY}")


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_cache_below_a_folder_that_all_may_write_is_refused(cache, level):
    made()
    target = [cache, *cache.parents][level]
    target.chmod(0o777)
    refused(target, "may be written by others")
    assert target.stat().st_mode & 0o777 == 0o777


def test_a_cache_below_a_folder_like_tmp_is_used(cache):
    cache.parents[2].chmod(0o1777)
    assert made() == made()


@pytest.mark.parametrize("level", [0, 1])
def test_a_link_in_place_of_a_cache_folder_is_refused(cache, tmp_path, level):
    made()
    target = [cache, *cache.parents][level]
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    refused(target, "is a symbolic link")


def test_the_users_own_folder_above_may_be_a_link(cache, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "xdg").symlink_to(tmp_path / "disk")
    assert made().is_dir() and (tmp_path / "disk/vit_perception/engines").is_dir()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "device", "linked entry"])
def test_links_pipes_and_devices_in_an_entry_are_refused(cache, tmp_path, kind):
    entry = made()
    target = entry / "model.onnx"
    if kind == "linked entry":
        entry.rename(tmp_path / "entry")
        entry.symlink_to(tmp_path / "entry")
        target = entry
    elif kind == "hard link":
        os.link(target, tmp_path / "second")
    else:
        target.rename(tmp_path / "model.onnx")
        {
            "link": lambda: target.symlink_to(tmp_path / "model.onnx"),
            "pipe": lambda: os.mkfifo(target),
            "device": lambda: target.symlink_to("/dev/zero"),
        }[kind]()
    refused(target, "a second name" if kind == "hard link" else "is a (pipe|symbolic link)")


def test_a_folder_of_ours_that_others_may_only_read_is_closed_to_them(cache):
    made()
    for folder in (cache.parent, cache):
        folder.chmod(0o755)
    assert made().is_dir()
    assert [folder.stat().st_mode & 0o777 for folder in (cache.parent, cache)] == [0o700, 0o700]


def test_a_lock_that_is_a_link_empties_nothing(cache, tmp_path):
    make_folder(cache)
    (tmp_path / "elsewhere").write_text("content")
    (cache / f"{digest_of(KEY)}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match=r"\.lock is a symbolic link"):
        made()
    assert (tmp_path / "elsewhere").read_text() == "content"


@pytest.mark.parametrize("harm", ["writable", "link", "hard link"])
def test_kernels_that_somebody_else_may_have_written_are_not_loaded(cache, tmp_path, harm):
    file, log = cache / "x.kernels", LogLines()
    write_checked(file, b"kernels", log)
    if harm == "writable":
        file.chmod(0o622)
    elif harm == "hard link":
        os.link(file, tmp_path / "second")
    else:
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    assert read_checked(file, log) == b"" and file.exists()
    assert len(log) == 1 and str(file) in log[0] and "XDG_CACHE_HOME" in log[0]


@pytest.mark.parametrize("harm", ["writable", "link", "linked wal", "writable folder"])
def test_features_that_somebody_else_may_have_written_are_not_used(cache, tmp_path, harm):
    folder, log = cache.parent / "features", LogLines()
    first = FeatureCache("f", 4, log)
    first.put("picture", np.ones((2, 4), np.float32))
    first.close()
    file = folder / "f.sqlite"
    if harm == "writable":
        file.chmod(0o666)
    elif harm == "writable folder":
        folder.chmod(0o777)
    else:
        named = file if harm == "link" else folder / "f.sqlite-wal"
        (tmp_path / "elsewhere").write_bytes(b"" if harm == "linked wal" else file.read_bytes())
        named.unlink(missing_ok=True)
        named.symlink_to(tmp_path / "elsewhere")
    content = (tmp_path / "elsewhere").read_bytes() if "link" in harm else b""
    second = FeatureCache("f", 4, log)
    assert second.get("picture") is None
    second.put("picture", np.ones((2, 4), np.float32))
    assert len(log) == 1 and "features are not cached" in log[0] and "XDG_CACHE_HOME" in log[0]
    assert "link" not in harm or (tmp_path / "elsewhere").read_bytes() == content


def test_a_cached_number_in_place_of_features_is_no_feature(cache):
    log = LogLines()
    FeatureCache("f", 4, log).close()
    with sqlite3.connect(cache.parent / "features/f.sqlite") as database:
        database.execute("insert into features values ('picture', 7), ('other', null)")
    opened = FeatureCache("f", 4, log)
    assert opened.get("picture") is None and opened.get("other") is None and not log
    opened.close()


def test_a_relative_cache_folder_is_ignored_as_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/vit_perception"


def test_a_cache_below_the_tilde_is_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/disk")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / "disk/vit_perception"


def test_a_missing_folder_is_no_fault_of_trust(cache):
    with pytest.raises(FileNotFoundError), opened_folder(cache):
        pass
    assert not issubclass(Untrusted, OSError)
