"""One interface for local folders and object storage: the same checks run on both."""

import pickle
from pathlib import Path

import pytest

from test.s3_server import environment, make_bucket, s3_server
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.folder import FileChanged, StorageError, StoredFile
from vit_perception.files.storage.local import LocalFolder
from vit_perception.files.storage.object_store import ObjectFolder
from vit_perception.files.storage.urls import folder_of

LARGE = bytes(range(256)) * (100 << 10)  # 25 MiB: three parts of an upload


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        make_bucket(url, "lab")
        yield url


@pytest.fixture
def s3(server, monkeypatch):
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return folder_of(tmp_path / "out" / "run")
    request.getfixturevalue("s3")
    return folder_of(f"s3://lab/{tmp_path.name}/run/")


def made(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "made"
    path.write_bytes(content)
    return path


def test_a_folder_that_is_not_there_is_empty(folder):
    assert folder.files() == []
    assert folder.find("a") is None
    with pytest.raises(FileNotFoundError, match="a"):
        folder.read("a", 10)
    with pytest.raises(FileNotFoundError):
        folder.open("a")
    with pytest.raises(FileNotFoundError):
        folder.tag("a")
    folder.remove("a")


@pytest.mark.parametrize("content", [b"", b"abc", LARGE], ids=["empty", "small", "multipart"])
def test_what_is_committed_comes_back(folder, tmp_path, content):
    path = made(tmp_path, content)
    stored = folder.commit(path, "part/file #1?.bin")
    assert stored == StoredFile("part/file #1?.bin", len(content))
    assert not path.exists()
    assert folder.files() == [stored]
    assert folder.find(stored.name) == stored
    assert folder.below("part").files() == [StoredFile("file #1?.bin", len(content))]
    assert folder.read(stored.name, len(content)) == content
    folder.fetch(stored.name, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    with folder.open(stored.name) as file:
        file.seek(len(content) // 2)
        assert file.read() == content[len(content) // 2 :]
    folder.remove(stored.name)
    assert folder.files() == []


def test_a_commit_replaces_and_the_tag_tells(folder):
    folder.commit_bytes(b"old", "a")
    before = folder.tag("a")
    assert folder.tag("a") == before
    folder.commit_bytes(b"new", "a")
    assert folder.read("a", 3) == b"new"
    assert folder.tag("a") != before


def test_a_file_that_is_too_long_is_not_read(folder):
    folder.commit_bytes(b"abcd", "a")
    with pytest.raises(StorageError, match=r"a .*accepted: up to 3 bytes"):
        folder.read("a", 3)


def test_a_file_that_changes_while_it_is_fetched_is_noticed(folder, tmp_path, monkeypatch):
    folder.commit_bytes(b"old", "a")
    tags = iter(["1", "2"])
    if isinstance(folder, LocalFolder):
        monkeypatch.setattr(LocalFolder, "tag", lambda self, name: next(tags))
    else:
        monkeypatch.setattr(ObjectFolder, "tag", lambda self, name: "another")
    with pytest.raises(FileChanged, match="written again"):
        folder.fetch("a", tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []


def test_another_process_opens_its_own_connection(folder):
    folder.commit_bytes(b"abc", "a")
    assert pickle.loads(pickle.dumps(folder)).read("a", 3) == b"abc"


NO_NAMES = ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0", "a\\b", "a" * 1025]


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_are_no_names_are_refused(folder, name):
    with pytest.raises(InvalidValue, match="no name of a file"):
        folder.find(name)


def test_a_prefix_is_a_folder_and_not_the_start_of_a_name(s3):
    folder_of("s3://lab/prefix").commit_bytes(b"", "a")
    folder_of("s3://lab/prefix_2").commit_bytes(b"", "b")
    assert [file.name for file in folder_of("s3://lab/prefix").files()] == ["a"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s4://bucket/x", "has the scheme 's4'; accepted: a local path, or s3://"),
        ("https://host/x", "accepted: a local path, or s3://"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/x", "holds credentials"),
        ("s3://bucket/../x", "no name of a file"),
    ],
)
def test_urls_that_cannot_be_used(url, said):
    with pytest.raises(InvalidValue, match=said) as refused:
        folder_of(url)
    assert "secret" not in str(refused.value)


def test_a_file_url_is_a_local_folder(tmp_path):
    assert folder_of(f"file://{tmp_path}/a%20b") == LocalFolder(tmp_path / "a b")
