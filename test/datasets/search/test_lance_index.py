"""The index on disk: it follows the features file by file, and is never that of others."""

import json
import sys

import numpy as np
import pytest

from test.datasets.search.stored import clustered, hand_made
from vit_perception.datasets.search import lance_table
from vit_perception.datasets.search.exact import exact_hits
from vit_perception.datasets.search.feature_set import FeatureSet
from vit_perception.datasets.search.lance_index import LanceIndex
from vit_perception.datasets.search.lance_setup import IndexParameters
from vit_perception.datasets.search.lance_table import LanceTable
from vit_perception.files.errors import InvalidValue, OperationFailed


class Told:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    warning = info

    def progress(self, what, fraction, text=""):
        pass


def made(folder, count, shard_frames=50):
    return hand_made(folder, clustered(500)[:count], shard_frames=shard_frames)


def test_new_and_changed_files_are_brought_up_to_date_and_it_is_said(tmp_path):
    folder = made(tmp_path / "features", 200)
    told = Told()
    first = LanceIndex(FeatureSet([folder]), tmp_path / "index", log=told)
    table = first.table
    assert (table.added, table.removed, first.vectors) == (4, 0, 200)
    assert told.lines == [f"building the index in {tmp_path / 'index'}"]
    again = LanceIndex(FeatureSet([folder]), tmp_path / "index", log=told)
    assert (again.table.added, again.table.removed, again.vectors) == (0, 0, 200) and len(
        told.lines
    ) == 1

    # A longer run in the same folder: three files are as they were, one has changed, two are new.
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    longer = clustered(500)[:300].copy()
    longer[160] *= -1
    folder = hand_made(folder, longer, shard_frames=50)
    features = FeatureSet([folder])
    index = LanceIndex(features, tmp_path / "index", log=told)
    assert (index.table.added, index.table.removed, index.vectors) == (3, 1, 300)
    assert "is stale: 3 of 6 files are new or changed, 1 of its files are gone" in told.lines[-1]
    query = features.vectors(160)
    assert index.hits(query, 1)[0].frame == 160
    exact = [hit.frame for hit in exact_hits(features, query)]
    assert [hit.frame for hit in index.hits(query, 20)] == exact[:20]


def test_a_build_that_was_killed_goes_on_and_nothing_is_there_twice(tmp_path, monkeypatch):
    features = FeatureSet([made(tmp_path / "features", 200)])
    monkeypatch.setattr(lance_table, "PORTION_FRAMES", 1)
    with monkeypatch.context() as killed:
        written = []

        def fails(index):
            written.append(1)
            if len(written) == 4:  # after rows were added, before that is written down
                raise KeyboardInterrupt

        write = LanceTable._write
        killed.setattr(LanceTable, "_write", lambda index: (fails(index), write(index)))
        with pytest.raises(KeyboardInterrupt):
            LanceIndex(features, tmp_path / "index")
    stated = json.loads((tmp_path / "index/index.json").read_text())
    assert 0 < len(stated["shards"]) < 4
    index = LanceIndex(features, tmp_path / "index")
    assert index.vectors == 200
    assert sorted(hit.frame for hit in index.hits(features.vectors(0), 200)) == list(range(200))


def test_lists_of_an_index_find_nearly_all(tmp_path, monkeypatch):
    """An index with lists, as large ones have; all of them are looked into, so none is missed."""
    monkeypatch.setattr(lance_table, "LEAST_INDEXED", 256)
    features = FeatureSet([made(tmp_path / "features", 500, 250)])
    parameters = IndexParameters(list_vectors=100, probes=5, refine=4)
    index = LanceIndex(features, tmp_path / "index", parameters=parameters)
    assert index.table.has_lists
    kept = 0
    for frame in range(0, 500, 50):
        query = features.vectors(frame)
        exact = {hit.frame for hit, _ in zip(exact_hits(features, query), range(10))}
        kept += len(exact & {hit.frame for hit in index.hits(query, 10)})
    assert kept >= 95


def test_two_folders_and_their_order_are_one_index(tmp_path):
    one = made(tmp_path / "one", 60)
    two = hand_made(tmp_path / "two", clustered(40, seed=9))
    features = FeatureSet([one, two])
    index = LanceIndex(features, tmp_path / "index")
    query = features.vectors(75)
    assert index.hits(query, 1)[0].frame == 75 and features.name_of(75).time_s == 1.5
    with pytest.raises(InvalidValue, match="index: .* is the index of other features"):
        LanceIndex(FeatureSet([two, one]), tmp_path / "index")


def test_a_folder_of_somebody_else_and_a_damaged_one_are_refused(tmp_path):
    features = FeatureSet([made(tmp_path / "features", 20)])
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(InvalidValue, match="holds other files .notes.txt."):
        LanceIndex(features, tmp_path / "own")
    LanceIndex(features, tmp_path / "index")
    (tmp_path / "index/index.json").write_text("{")
    with pytest.raises(InvalidValue, match="index.json is damaged"):
        LanceIndex(features, tmp_path / "index")
    assert (tmp_path / "own/notes.txt").read_text() == "mine"


def test_without_lancedb_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(OperationFailed) as refused:
        LanceIndex(FeatureSet([made(tmp_path / "features", 20)]), tmp_path / "index")
    said = refused.value.for_command_line()
    assert "pip install 'lancedb>=0.40'" in said and "--method exact reads every" in said
    assert not (tmp_path / "index").exists()


def test_missing_vectors_are_not_in_it(tmp_path):
    vectors = clustered(30)
    vectors[10:20] = 0
    features = FeatureSet([hand_made(tmp_path / "features", vectors)])
    index = LanceIndex(features, tmp_path / "index")
    assert index.vectors == 20
    found = [hit.frame for hit in index.hits(features.vectors(0), 30)]
    assert not set(found) & set(range(10, 20)) and len(found) == 20
    empty = FeatureSet([hand_made(tmp_path / "empty", np.zeros((4, 1, 8)))])
    assert LanceIndex(empty, tmp_path / "none").hits(features.vectors(0), 5) == []


def test_a_damaged_table_is_named_with_the_way_out(tmp_path):
    features = FeatureSet([made(tmp_path / "features", 60)])
    LanceIndex(features, tmp_path / "index")
    for file in (tmp_path / "index/vectors.lance").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(OperationFailed, match="index in .*index cannot be used .*removed: it is"):
        LanceIndex(features, tmp_path / "index").hits(features.vectors(0), 3)
