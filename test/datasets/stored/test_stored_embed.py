"""`embed` between object storage and object storage: the bytes that it writes on local disk."""

import json
import shutil
from pathlib import Path

import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import FORMATS, contents
from test.s3_server import Fault, environment, faulty_proxy, make_bucket, s3_server
from vit_perception.cli.main import main
from vit_perception.datasets.stored.stored_journal import StoredJournal
from vit_perception.files.errors import InvalidValue
from vit_perception.files.storage.copying import fetch_folder
from vit_perception.files.storage.folder import FileChanged
from vit_perception.files.storage.urls import folder_of
from vit_perception.policy.features import FeatureFiles
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

PREFIX = "s3://lab/recordings"
TOPICS = ["/wrist/image/compressed", "/agentview/image/compressed", "/ee_pose"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        make_bucket(url, "lab")
        with faulty_proxy(url) as (proxy, faults):
            yield proxy, faults


@pytest.fixture(scope="module")
def bags(server, tmp_path_factory):
    """Two recordings of 1 s, on local disk and below ``PREFIX``."""
    folder = tmp_path_factory.mktemp("bags")
    with BagReader(DEMO_BAG) as bag:
        for second, name in enumerate(("one", "two")):
            start_ns = bag.start_ns + second * 1_000_000_000
            with BagWriter(folder / name) as out:
                for m in bag.raw(TOPICS):
                    if start_ns <= m.stamp_ns < start_ns + 1_000_000_000:
                        out.write(m.topic, m.type_name, m.data, m.stamp_ns)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(server[0]).items():
            patched.setenv(name, value)
        for path in sorted(folder.rglob("*.*")):
            copy = shutil.copy(path, folder.parent / path.name)
            folder_of(PREFIX).commit(Path(copy), path.relative_to(folder).as_posix())
    return folder


@pytest.fixture
def faults(server, bags, monkeypatch, tmp_path):
    url, faults = server
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    faults.planned = []
    faults.happened = {}
    return faults


@pytest.fixture
def embedded(tiny_classifier, capsys):
    """Run `embed` with the tiny model; return status, output and errors."""

    def embedded(*args):
        given = ["--checkpoint", tiny_classifier, "--backend", "torch", "--precision", "float32"]
        status = main(["embed", *map(str, [*args, *given]), "--shard-frames", "7"])
        said = capsys.readouterr()
        return status, said.out.replace("\n", ""), said.err

    return embedded


def stored(url):
    folder = folder_of(url)
    return {file.name: folder.read(file.name, 1 << 30) for file in folder.files()}


@pytest.mark.parametrize("file_format", FORMATS)
def test_from_and_to_object_storage_gives_the_bytes_of_local_disk(
    faults, embedded, bags, tmp_path, file_format
):
    status, _, errors = embedded(bags, "--out", tmp_path / "out", "--format", file_format)
    assert status == 0, errors
    out = f"s3://lab/{tmp_path.name}/out"
    faults.planned = [
        Fault("GET", "cut", 2, r"\.mcap"),
        Fault("PUT", "cut", 2, "features_000000"),
        Fault("PUT", "error", 2, "journal"),
        Fault("HEAD", "error", 2),
        Fault("GET", "slow", 1, "metadata"),
    ]
    status, said, errors = embedded(PREFIX, "--out", out, "--format", file_format)
    assert status == 0, errors
    assert stored(out) == contents(tmp_path / "out")
    assert f"files of {out}" in said
    assert faults.happened == {"cut": 4, "error": 4, "slow": 1}
    # Copies are deleted.
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_features_are_read_from_a_copy(faults, embedded, bags, tmp_path):
    out = f"s3://lab/{tmp_path.name}/out"
    assert embedded(bags / "one", "--out", out)[0] == 0
    with pytest.raises(InvalidValue, match=r"(?s)is on object storage; accepted.*hint: .*fetch_fo"):
        FeatureFiles(out)
    files = len(stored(out))
    assert fetch_folder(folder_of(out), tmp_path / "copy") == files
    (tmp_path / "copy/journal.jsonl").write_text("")
    assert fetch_folder(folder_of(out), tmp_path / "copy") == 1
    features = FeatureFiles(tmp_path / "copy")
    features.verify()
    assert len(features) == 20


def test_an_interrupted_run_continues_and_a_finished_one_stays(
    faults, embedded, bags, tmp_path, monkeypatch
):
    assert embedded(bags, "--out", tmp_path / "out")[0] == 0
    out = f"s3://lab/{tmp_path.name}/out"
    faults.planned = [Fault("PUT", "error", 1000, "features_000001")]
    status, _, errors = embedded(PREFIX, "--out", out)
    assert status == 1 and "features_000001.parquet: the storage has an internal error" in errors
    assert "run the same command again" in errors
    faults.planned = []
    # What a killed run has put there without its line.
    folder_of(out).commit_bytes(b"half", "features_000001.parquet")
    folder_of(out).commit_bytes(b"half", "features_000009.parquet")
    assert embedded(PREFIX, "--out", out)[0] == 0
    finished = stored(out)
    assert finished == contents(tmp_path / "out")
    assert embedded(PREFIX, "--out", out)[0] == 0
    assert stored(out) == finished


def test_a_folder_of_another_run_or_of_other_files_is_refused(faults, embedded, bags, tmp_path):
    out = f"s3://lab/{tmp_path.name}/out"
    assert embedded(bags / "one", "--out", out)[0] == 0
    status, _, errors = embedded(bags / "two", "--out", out)
    assert status == 1 and f"--out: {out} was begun with other settings" in errors
    status, _, errors = embedded(bags / "one", "--out", PREFIX)
    assert status == 1 and f"--out: {PREFIX} holds other files (one/metadata.yaml" in errors
    status, _, errors = embedded(bags / "one", "--out", "s3://nob/x")
    assert status == 1 and "s3://nob/x: there is no such bucket" in errors


def test_two_processes_that_write_one_folder_are_noticed(faults, tmp_path):
    from vit_perception.datasets.embed_journal import Entry

    run_of = {"columns_version": 1, "graph_version": 1, "file_format": "parquet"}
    folder = folder_of(f"s3://lab/{tmp_path.name}/out")
    first, second = (StoredJournal(folder, run_of) for _ in range(2))
    first.append(Entry(0, 0, 1))
    with pytest.raises(InvalidValue, match="is being written by another process"):
        second.append(Entry(0, 0, 1))
    first.append(Entry(0, 1, 2))
    for journal in (first, second):
        journal.close()
    assert len(stored(folder.url)["journal.jsonl"].splitlines()) == 2


def test_a_bag_that_changes_is_noticed(faults, embedded, bags, tmp_path, monkeypatch):
    prefix = f"s3://lab/{tmp_path.name}/bag"
    for path in (bags / "one").iterdir():
        folder_of(prefix).commit_bytes(path.read_bytes(), path.name)
    from vit_perception.datasets.stored import stored_bag

    fetch = stored_bag._fetch

    def changed(bag, folder, tags):
        folder_of(prefix).commit_bytes(b"another", "one.mcap")
        fetch(bag, folder, tags)

    monkeypatch.setattr(stored_bag, "_fetch", changed)
    monkeypatch.setattr(stored_bag.BagCache, "close", lambda self: None)
    params = Path("config/demo.yaml").resolve()
    status, _, errors = embedded(prefix, "--out", tmp_path / "out", "--params", params)
    assert status == 1 and f"{prefix}/one.mcap was written again since this run began" in errors
    assert FileChanged.__name__ not in errors
    assert not json.loads((tmp_path / "out/manifest.json").read_text())["complete"]
