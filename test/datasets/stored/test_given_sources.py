"""What sources on the command line mean: folders of recordings, globs, lists, URLs."""

from pathlib import Path

import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from test.s3_server import environment, make_bucket, s3_server
from vit_perception.datasets.stored.given_sources import given_sources
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.urls import folder_of

LAB = "s3://lab/day"
FILES = (
    "a/metadata.yaml",
    "a/a_0.mcap",
    "a/a_1.mcap",
    "b/metadata.yaml",
    "b/b.db3",
    "deep/er/c/metadata.yaml",
    "deep/er/c/c.mcap",
    "deep/er/c/pictures/notes.txt",
    "loose/d.mcap",
    "loose/e.db3",
    "loose/e.db3-wal",
    "notes/f.txt",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        make_bucket(url, "lab")
        with pytest.MonkeyPatch.context() as patched:
            for name, value in environment(url).items():
                patched.setenv(name, value)
            for name in FILES:
                folder_of(LAB).commit_bytes(name.encode(), name)
        yield url


@pytest.fixture
def s3(server, monkeypatch):
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def local(tmp_path):
    for name in FILES:
        path = tmp_path / "day" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "day"


def test_a_folder_of_recordings_is_all_of_them(local, tmp_path):
    assert given_sources([local / "deep", local / "b"]) == [local / "deep/er/c", local / "b"]
    with pytest.raises(InvalidValue, match=r"loose is a bag without metadata.yaml"):
        given_sources([local])
    assert given_sources([DEMO_BAG.parent]) == sorted([DEMO_BAG, TRAIN_BAG])
    # Others are what they were: a folder of pictures or of nothing that is known.
    assert given_sources([local / "notes", local / "loose"]) == [local / "notes", local / "loose"]
    assert given_sources([local / "a/a_0.mcap"]) == [local / "a/a_0.mcap"]
    assert given_sources([Path("not_there")]) == [Path("not_there")]


def test_a_folder_with_pictures_stays_a_folder_of_pictures(local):
    (local / "deep/picture.png").write_bytes(b"")
    assert given_sources([local / "deep"]) == [local / "deep"]


def test_globs(local, tmp_path):
    assert given_sources([local / "[ab]"]) == [local / "a", local / "b"]
    assert given_sources([str(local / "loose/*.mcap")]) == [local / "loose/d.mcap"]
    with pytest.raises(InvalidValue, match=r"x\*' matches nothing"):
        given_sources([local / "x*"])
    (tmp_path / "odd[1]").mkdir()
    assert given_sources([tmp_path / "odd[1]"]) == [tmp_path / "odd[1]"]


def test_a_list(local, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"# a day\n{local}/a\n\n  {local}/b*\n")
    assert given_sources([f"@{path}"]) == [local / "a", local / "b"]
    path.write_text(f"{local}/a\n{local}/x\n")
    with pytest.raises(InvalidValue, match=r"list.txt, line 2: there is no .*x; accepted: a path"):
        given_sources([f"@{path}"])
    path.write_text(f"{local}/x*\n")
    with pytest.raises(InvalidValue, match=r"list.txt, line 1: .* matches nothing"):
        given_sources([f"@{path}"])
    path.write_text(f"@{path}\n")
    with pytest.raises(InvalidValue, match=r"line 1: .*is a list; accepted: paths"):
        given_sources([f"@{path}"])
    with pytest.raises(InvalidValue, match=r"there is no list .*other.txt"):
        given_sources([f"@{tmp_path}/other.txt"])


def test_a_source_that_is_given_twice(local, tmp_path, s3):
    (tmp_path / "link").symlink_to(local / "a")
    a = local / "a"
    for twice in ([a, tmp_path / "link"], [a, local / "[a]"], [f"{LAB}/a"] * 2):
        with pytest.raises(InvalidValue, match=r"is given twice, by .* and by .*each source once"):
            given_sources(twice)


def described(url):
    return [(bag.url, [file.name for file in bag.files]) for bag in given_sources([url])]


def test_prefixes_files_and_globs_of_object_storage(s3):
    a = (f"{LAB}/a", ["a_0.mcap", "a_1.mcap", "metadata.yaml"])
    b = (f"{LAB}/b", ["b.db3", "metadata.yaml"])
    c = (f"{LAB}/deep/er/c", ["c.mcap", "metadata.yaml"])
    assert described(f"{LAB}/a/") == [a]
    assert described(f"{LAB}/deep") == [c]
    assert described(f"{LAB}/[ab]") == [a, b]
    assert described(f"{LAB}/*/er") == [c]
    assert described(f"{LAB}/loose/*.mcap") == [(f"{LAB}/loose/d.mcap", ["d.mcap"])]
    assert described(f"{LAB}/loose/e.db3") == [(f"{LAB}/loose/e.db3", ["e.db3", "e.db3-wal"])]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://lab", r"s3://lab/day/loose is a bag without metadata.yaml.*loose/\*.mcap"),
        (f"{LAB}/none", "has no recording; accepted: the URL of a rosbag2 folder"),
        (f"{LAB}/x*", "matches no recording"),
        (f"{LAB}/notes/f.txt", "is no recording"),
        ("s3://*/x", "has a glob for its bucket"),
    ],
)
def test_what_is_not_there(s3, url, said):
    with pytest.raises(InvalidValue, match=said):
        given_sources([url])
