"""The folder of `embed`: only what is its own is ever removed, and what is not its own is named."""

import pytest

from vit_perception.datasets.embed_journal import Entry, Journal, check_out
from vit_perception.files.atomic import working_folder

RUN = {"file_format": "parquet"}


@pytest.fixture
def begun(tmp_path):
    """A run that was interrupted behind its first shard."""
    journal = Journal(tmp_path / "out", RUN)
    (journal.out / "features_000000.parquet").write_bytes(b"whole")
    journal.append(Entry(0, 0, 5, file="features_000000.parquet", size_bytes=5, frames=5))
    journal.close()
    return journal.out


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def users_own(folder):
    """Things that a user, or a tool of theirs, has in a folder."""
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("mine")
    (folder / "features_000001").mkdir()
    for name in (
        ".env",
        ".notes.partial",
        "policy.pt",
        "features_000001.safetensors",
        "metadata.yaml",
    ):
        (folder / name).write_text("mine")
    (folder / ".features_000009.partial").symlink_to(folder / ".git")


@pytest.mark.parametrize("name", [".git", ".env", "policy.pt", ".notes.partial"])
def test_a_folder_with_anything_in_it_is_not_taken(tmp_path, name):
    (tmp_path / name).mkdir()
    for take in (check_out, lambda out: Journal(out, RUN)):
        with pytest.raises(
            ValueError, match="holds other files .*; accepted: a new or an empty folder"
        ):
            take(tmp_path)
    assert names(tmp_path) == [name]


def test_what_a_killed_run_left_half_made_goes_and_all_else_stays(begun):
    users_own(begun)
    kept = names(begun)
    (begun / ".features_000001.partial/features_000001").mkdir(parents=True)
    for name in (
        "features_000001.parquet",
        ".features_000001.parquet.partial",
        ".manifest.json.partial",
        ".manifest.json.0123456789abcdef.partial",
    ):
        (begun / name).write_bytes(b"half")
    (working_folder(begun / "features_000001") / "features_000001").mkdir()
    with open(begun / "journal.jsonl", "a") as file:
        file.write('{"source": 0')
    journal = Journal(begun, RUN)
    journal.close()
    assert names(begun) == kept and [e.next for e in journal.entries] == [5]
    assert (begun / "journal.jsonl").read_text().endswith("}\n")


def test_of_a_finished_run_nothing_is_touched(begun):
    journal = Journal(begun, RUN)
    first = journal.finish()
    journal.close()
    users_own(begun)
    (begun / "features_000007.parquet").write_text("mine")
    (begun / ".features_000001.parquet.partial").write_text("mine")
    before = {name: (begun / name).lstat().st_mtime_ns for name in names(begun)}
    journal = Journal(begun, RUN)
    assert journal.complete and journal.finish() == first
    journal.close()
    assert {name: (begun / name).lstat().st_mtime_ns for name in names(begun)} == before


def test_a_run_that_was_killed_before_its_manifest_begins_anew(tmp_path):
    (tmp_path / ".manifest.json.partial").write_text("{")
    Journal(tmp_path, RUN).close()
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"format": "vit_perception.embed"}'])
def test_a_damaged_manifest_or_journal_is_named(begun, text):
    manifest = (begun / "manifest.json").read_text()
    (begun / "manifest.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"out: .*manifest.json is (damaged|not of).*accepted: a new folder"
    ):
        check_out(begun)
    (begun / "manifest.json").write_text(manifest)
    (begun / "journal.jsonl").write_text('{"what": 1}\n')
    with pytest.raises(ValueError, match="journal.jsonl is damaged"):
        Journal(begun, RUN)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file; accepted: a new or an empty folder"):
        Journal(tmp_path / "file", RUN)


@pytest.mark.parametrize(
    "here, said",
    [
        (
            {"columns_version": 2, "graph_version": 1},
            "columns_version is not said there and 2 here",
        ),
        ({"graph_version": 3}, "graph_version is not said there and 3 here"),
    ],
)
def test_a_run_of_another_version_is_not_gone_on_with(begun, here, said):
    """One that was begun before there were versions, too; of what is there nothing is touched."""
    before = {name: (begun / name).lstat().st_mtime_ns for name in names(begun)}
    with pytest.raises(
        ValueError,
        match=f"begun by another version of vit_perception .{said}.*accepted: a new folder",
    ):
        Journal(begun, RUN | here)
    assert {name: (begun / name).lstat().st_mtime_ns for name in names(begun)} == before


def test_versions_that_differ_are_both_said(tmp_path):
    Journal(tmp_path, RUN | {"columns_version": 2}).close()
    with pytest.raises(ValueError, match="columns_version is 2 there and 3 here"):
        Journal(tmp_path, RUN | {"columns_version": 3})
    Journal(tmp_path, RUN | {"columns_version": 2}).close()
