"""`vit-perception search` as a user types it, on features of the demo bags."""

import csv
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from test.conftest import DEMO_BAG, ROOT
from test.datasets.search.stored import clustered, demo_features, hand_made  # noqa: F401
from vit_perception.cli.main import main

BAGS = str(DEMO_BAG.parent)


def asked(capsys, *arguments, status=0):
    assert main(["search", *map(str, arguments)]) == status
    done = capsys.readouterr()
    assert not (status and done.out), done.out
    return done.err if status else done.out


def test_like_a_frame_with_table_files_and_sheet(demo_features, tmp_path, capsys):
    given = ["--frame", "pick_place_demo@3.2", "--count", "6", "--apart-s", "0.5"]
    files = ["--csv", tmp_path / "f.csv", "--json", tmp_path / "f.json"]
    files += ["--sheet", tmp_path / "f.png", "--bags", BAGS]
    said = asked(capsys, demo_features, *given, *files)
    assert "6 results; exact scan of the CLS vectors of 450 frames; results of one" in said
    assert "no picture" not in said
    with open(tmp_path / "f.csv") as file:
        rows = list(csv.DictReader(file))
    written = json.loads((tmp_path / "f.json").read_text())
    assert [row["stamp_ns"] for row in rows] == [str(r["stamp_ns"]) for r in written["rows"]]
    assert "exact scan" in written["how"] and len(rows) == 6
    distances = [float(row["distance"]) for row in rows]
    assert distances == sorted(distances)
    asked_ns = 2_003_200_000_000
    assert all(abs(int(row["stamp_ns"]) - asked_ns) >= 500_000_000 for row in rows)
    assert {row["recording"] for row in rows} == {"pick_place_train", "pick_place_demo"}
    for row in rows:
        assert row["stamp_ns"] in said
    with Image.open(tmp_path / "f.png") as sheet:
        assert sheet.size[0] > 1000 and (tmp_path / "f.png").stat().st_size < 200_000
    assert "accepted: " in asked(capsys, demo_features, *given, *files, status=1)
    asked(capsys, demo_features, *given, *files, "--force")


def test_the_index_and_the_scan_say_the_same_and_which_ran(demo_features, tmp_path, capsys):
    given = [demo_features, "--frame", "pick_place_demo@3.2", "--count", "8"]
    indexed = [*given, "--method", "lancedb", "--index", tmp_path / "index"]
    exact, found = asked(capsys, *given), asked(capsys, *indexed)
    assert "LanceDB index of 900 CLS vectors of 450 frames" in found
    assert "building the index" in found

    def stamps(text):
        return [word for word in text.split() if word.isdigit() and len(word) == 13]

    assert stamps(found) == stamps(exact) and len(stamps(exact)) > 2
    assert "building" not in asked(capsys, *indexed)


def test_regions_of_a_part_and_a_list_of_frames(demo_features, tmp_path, capsys):
    box = ["--regions", "--box", "120", "80", "40", "40", "--camera", "wrist"]
    said = asked(capsys, demo_features, "--frame", "pick_place_demo@2", *box, "--count", "3")
    assert "box_px" in said and "exact scan of the patch tokens of 450 frames" in said
    (tmp_path / "list").write_text("pick_place_demo@2\npick_place_train@4\n")
    said = asked(capsys, demo_features, "--frames", tmp_path / "list", "--count", "2")
    assert "pick_place_demo@2" in said or "pick_place_train@4" in said


def test_a_picture_is_found_in_its_recording(demo_features, tmp_path, capsys):
    picture = ROOT / "vit_perception/engines/parity_pictures/coffee.jpg"
    # A folder without bags: the sheet says so, and the search goes on.
    os.makedirs(tmp_path / "nothing")
    given = ["--image", picture, "--count", "2", "--backend", "torch", "--precision", "float32"]
    sheet = ["--sheet", tmp_path / "s.png", "--bags", tmp_path / "nothing"]
    said = asked(capsys, demo_features, *given, *sheet)
    assert "was not found; accepted: --bags with the folder" in said and "coffee.jpg" in said


def test_copies_a_choice_and_episodes(demo_features, tmp_path, capsys):
    said = asked(capsys, demo_features, "--dedup", "--within", "2e-3", "--csv", tmp_path / "c.csv")
    with open(tmp_path / "c.csv") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row["frame"] == row["like_frame"]]
    assert len(rows) == 450 and f"{len(kept)} of 450 frames are left" in said
    assert sum(int(row["frames"]) for row in rows) == 450
    chosen = ["--diverse", "7", "--sheet", tmp_path / "d.png", "--bags", BAGS]
    said = asked(capsys, demo_features, *chosen)
    assert "7 of 450 frames, the most different first" in said
    assert (tmp_path / "d.png").stat().st_size > 20_000
    said = asked(capsys, demo_features, "--episodes", "--json", tmp_path / "e.json")
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [row["recording"] for row in rows] == ["pick_place_train", "pick_place_demo"]
    assert [row["frames"] for row in rows] == [300, 150] and rows[0]["rate_hz"] == 20.0
    assert "2 episodes, 450 frames" in said


def test_fewer_results_than_asked_for_are_said(tmp_path, capsys):
    folder = hand_made(tmp_path / "f", clustered(50))
    said = asked(capsys, folder, "--frame", "first@1", "--count", "9")
    assert " results of 9 asked for: no other frame passes the rule" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "none of them given; accepted: one of --image"),
        (["--text", "a", "--dedup"], "--text and --dedup given; accepted: one of"),
        (["--text", "a", "--frame", "a@1"], "--frame and --text given"),
        (["--dedup", "--regions"], "--regions has no meaning with --dedup"),
        (["--episodes", "--checkpoint", "x"], "--checkpoint has no meaning with --episodes"),
        (["--text", "a", "--regions"], "--regions has no meaning with --text"),
        (["--frame", "first@1", "--box", "0", "0", "9", "9"], "--box is given without --regions"),
        (["--frame", "first@1", "--bags", "."], "--bags is given without --sheet"),
        (["--frame", "first@1", "--regions", "--box", "0", "0", "0", "9"], "--box is 0 0 0 9"),
        (["--frame", "first@1", "--count", "0"], "--count is 0; accepted: 1 to 1000"),
        (["--frame", "first@1", "--apart-s", "nan"], "--apart-s is nan"),
        (["--frame", "first@99"], "have no frame of first within 0.5 s"),
        (["--frame", "other@1"], "no recording other in the features or at that path"),
        (["--dedup", "--within", "3"], "--within is 3.0; accepted: 0 to below 2"),
        (["--diverse", "99"], "--diverse is 99; accepted: 1 to 10"),
        (["--diverse", "0"], "--diverse is 0; accepted: 1 to 10"),
        (["--frames", "nowhere.txt"], "--frames: nowhere.txt cannot be read"),
        (["--text", ""], "--text is ''; accepted: words"),
        (["--frame", "first@0", "--encoder", "x"], "--encoder is 'x'"),
        (["--frame", "first@0", "--camera", "x"], "--camera is 'x'; the features have wrist"),
        (["--frame", "first@0", "--regions"], "has no patch tokens"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, arguments, said):
    folder = hand_made(tmp_path / "f", clustered(10))
    error = asked(capsys, folder, *arguments, status=1)
    assert said in error and "Traceback" not in error
    assert len([line for line in error.splitlines() if not line.startswith("hint: ")]) == 1


def test_without_lancedb_a_large_set_says_what_to_install(tmp_path, capsys, monkeypatch):
    folder = hand_made(tmp_path / "f", np.ones((10, 1, 8)))
    monkeypatch.setattr("vit_perception.datasets.search.find.EXACT_FRAMES", 9)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    error = asked(capsys, folder, "--frame", "first@0", status=1)
    assert "pip install 'lancedb>=0.40'" in error and "--method exact" in error
    assert "exact scan" in asked(capsys, folder, "--frame", "first@0", "--method", "exact")
