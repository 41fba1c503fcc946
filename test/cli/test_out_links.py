"""Links that lie in an output folder: every subcommand leaves what they point to as it is."""

import os

import cv2
import numpy as np
import pytest

from test.cli.fitting import finetune
from test.conftest import DEMO_BAG, ROOT
from vit_perception.cli.demo import WRITTEN, make_room
from vit_perception.cli.main import main
from vit_perception.cli.processes import Child
from vit_perception.datasets.embed_journal import Entry, Journal
from vit_perception.datasets.shards import FORMATS, ShardPlace
from vit_perception.files.atomic import NotPlain, kind_of
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

PICTURE = ROOT / "vit_perception/engines/parity_pictures/coffee.jpg"
RUN = {"file_format": "parquet"}


@pytest.fixture
def planted(tmp_path):
    """``planted(folder, names)`` puts links there; afterwards their targets have to be as they
    were.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    targets = []

    def plant(folder, *names, content="somebody else's"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            target = elsewhere / name.lstrip(".")
            target.write_text(content)
            targets.append((target, content))
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)
        return folder

    yield plant
    assert targets and all(target.read_text() == content for target, content in targets)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    for label, level in (("dark", 30), ("bright", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for k in range(4):
            cv2.imwrite(
                str(tmp_path / "pictures" / label / f"{k}.png"),
                np.full((32, 32, 3), level + k, np.uint8),
            )
    return tmp_path / "pictures"


@pytest.mark.parametrize("file_format", ["html", "both"])
def test_inspect(planted, tmp_path, tiny_checkpoint, file_format):
    if file_format == "both":
        pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "short") as short:
        for message in bag.raw(["/wrist/image/compressed"], stop_ns=bag.start_ns + 300_000_000):
            short.write(message.topic, message.type_name, message.data, message.stamp_ns)
    out = planted(
        tmp_path / "out",
        "report.html",
        "contact_sheet.png",
        ".report.html.partial",
        *(("short.rrd", ".short.rrd.partial") if file_format == "both" else ()),
    )
    assert (
        main(
            [
                "inspect",
                str(tmp_path / "short"),
                "--out",
                str(out),
                "--checkpoint",
                str(tiny_checkpoint),
                "--backend",
                "torch",
                "--precision",
                "float32",
                "--format",
                file_format,
            ]
        )
        == 0
    )
    assert kind_of(out / "report.html") == kind_of(out / "contact_sheet.png") == "a file"
    assert file_format == "html" or kind_of(out / "short.rrd") == "a file"
    assert "<!doctype html>" in (out / "report.html").read_text()


def test_explain(planted, tmp_path, tiny_classifier):
    out = planted(tmp_path / "out", "figure.png") / "figure.png"
    assert (
        main(["explain", str(PICTURE), "--checkpoint", str(tiny_classifier), "--out", str(out)])
        == 0
    )
    assert kind_of(out) == "a file" and cv2.imread(str(out)) is not None


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_explain_says_at_once_that_a_pipe_or_a_folder_is_no_picture(tmp_path, capsys, kind):
    out = tmp_path / "figure.png"
    os.mkfifo(out) if kind == "a pipe" else out.mkdir()
    assert main(["explain", str(PICTURE), "--checkpoint", "/nowhere", "--out", str(out)]) == 1
    assert (
        f"--out is {out}, {kind}; accepted: a file" in capsys.readouterr().err
        and kind_of(out) == kind
    )


def test_fit_that_is_refused_does_not_empty_what_its_lock_points_to(
    planted, tmp_path, pictures, capsys
):
    out = planted(tmp_path / "out", "run.lock")
    assert main(["fit", *finetune("--images", pictures, out=out, epochs=1)]) == 1
    assert (
        f"--out: {out} cannot be written: {out}/run.lock is a symbolic link"
        in capsys.readouterr().err
    )
    assert [p.name for p in out.iterdir()] == ["run.lock"]


def test_fit_of_a_head_over_a_head_whose_files_are_links(
    planted, tmp_path, pictures, tiny_checkpoint
):
    arguments = [
        "fit",
        "--images",
        str(pictures),
        "--checkpoint",
        str(tiny_checkpoint),
        "--backend",
        "torch",
        "--out",
        str(tmp_path / "head"),
    ]
    assert main(arguments) == 0
    for name in ("labels.json", "report.json"):
        planted(tmp_path / "head", name, content=(tmp_path / "head" / name).read_text())
    assert main(arguments) == 0
    assert {kind_of(tmp_path / "head" / name) for name in ("labels.json", "report.json")} == {
        "a file"
    }


def test_the_folder_that_the_user_names_may_be_a_link(tmp_path, pictures, tiny_checkpoint):
    (tmp_path / "disk").mkdir()
    (tmp_path / "head").symlink_to(tmp_path / "disk")
    assert (
        main(
            [
                "fit",
                "--images",
                str(pictures),
                "--checkpoint",
                str(tiny_checkpoint),
                "--backend",
                "torch",
                "--out",
                str(tmp_path / "head"),
            ]
        )
        == 0
    )
    assert (
        kind_of(tmp_path / "head") == "a symbolic link"
        and (tmp_path / "disk/head.safetensors").is_file()
    )


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_embed_appends_to_no_journal_that_lies_elsewhere(tmp_path, kind):
    journal = Journal(tmp_path / "out", RUN)
    journal.append(Entry(0, 0, 0))
    file, target = journal.out / "journal.jsonl", tmp_path / "elsewhere"
    os.link(file, target)
    if kind == "link":
        file.unlink()
        file.symlink_to(target)
    content = target.read_text()
    with pytest.raises(NotPlain, match=f"{file} is a .*link.*; accepted: a file"):
        journal.append(Entry(0, 0, 1))
    journal.close()
    assert target.read_text() == content


@pytest.mark.parametrize("name", ["manifest.json", "journal.jsonl"])
def test_embed_reads_no_book_through_a_link_or_from_a_pipe(tmp_path, name):
    journal = Journal(tmp_path / "out", RUN)
    journal.append(Entry(0, 0, 0))
    journal.close()
    file = journal.out / name
    for make in (lambda: file.symlink_to(tmp_path / "moved"), lambda: os.mkfifo(file)):
        file.rename(tmp_path / "moved")
        make()
        with pytest.raises(OSError, match=f"{name} is a (symbolic link|pipe); accepted: a file"):
            Journal(journal.out, RUN)
        file.unlink()
        (tmp_path / "moved").rename(file)
    Journal(journal.out, RUN).close()


def test_embed_writes_its_shards_over_links(planted, tmp_path):
    pytest.importorskip("pyarrow")
    out = planted(tmp_path / "out", "features_000000.parquet", ".features_000000.parquet.partial")
    place = ShardPlace(
        folder=out, name="features_000000", columns=None, messages=None, dense=None, basis=None
    )
    shard = FORMATS["parquet"].new_shard(place)
    shard._rows = [{"index": np.int64(0), "stamp_ns": np.int64(1)}]
    shard.write(out / "features_000000.parquet")
    assert (out / "features_000000.parquet").read_bytes()[:4] == b"PAR1"


def test_demo_removes_links_and_nothing_that_they_point_to(planted, tmp_path):
    out = planted(tmp_path / "out", "summary.json", "node.log")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("three years of work")
    for name in ("heads", "outputs"):
        (out / name).symlink_to(kept)
    assert {p.name for p in out.iterdir()} <= set(WRITTEN)
    make_room(out)
    assert not list(out.iterdir()) and (kept / "thesis.txt").read_text() == "three years of work"


def test_the_log_of_a_process_is_no_link(planted, tmp_path):
    out = planted(tmp_path / "out", "node.log")
    with pytest.raises(NotPlain, match="node.log is a symbolic link"):
        Child(["true"], out / "node.log")
