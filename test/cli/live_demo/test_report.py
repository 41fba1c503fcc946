"""The demo's numbers and verdict, by hand."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from vit_perception.cli.live_demo.report import (
    DemoRun,
    SentLog,
    accuracy_of,
    best_class,
    failures,
    hand_of,
    paths_of,
    sheet_title,
    summarise,
)
from vit_perception.viewing.contact_sheet import CameraPanel, SheetRow, draw_sheet

GOOD = {
    "frames_sent": 100,
    "frames_received": 100,
    "frames_published": 60,
    "frames_dropped": {"superseded": 39},
    "frames_pending": 1,
    "groups_published": 30,
    "classification": {"accuracy": 0.95},
}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, None),
        ({"frames_received": 98}, "98 of 100"),
        ({"frames_published": 59}, "99 accounted for"),
        ({"groups_published": 0}, "no tokens"),
        ({"classification": {"accuracy": 0.89}}, "0.89"),
        ({"classification": {"accuracy": None}}, "None"),
    ],
)
def test_a_broken_promise_is_said(changes, said):
    found = failures(GOOD | changes)
    assert (not found) if said is None else any(said in text for text in found)


def test_the_stage_is_the_best_of_the_mean_of_the_cameras():
    assert best_class({"a": {"x": 0.6, "y": 0.4}, "b": {"y": 0.9, "x": 0.1}}) == (
        "y",
        pytest.approx(0.65),
    )


def test_summary_counts_by_hand(tmp_path):
    log = SentLog(tmp_path / "sent.jsonl")
    with open(log.path, "w") as file:
        for stamp_ns, sent_ns in ((100, 5_000_000), (200, 6_000_000)):
            for topic in ("/a/image/compressed", "/b/image/compressed", "/ee_pose"):
                file.write(
                    json.dumps({"topic": topic, "stamp_ns": stamp_ns, "sent_ns": sent_ns}) + "\n"
                )
        file.write('{"topic": "/a/im')  # still being written
    first = {"a": {"x": 0.9, "y": 0.1}, "b": {"y": 0.6, "x": 0.4}}
    second = {"a": {"y": 0.8, "x": 0.2}, "b": {"x": 0.9, "y": 0.1}}
    frames = {
        100: SimpleNamespace(received_ns=15_000_000, classes=first),
        200: SimpleNamespace(received_ns=36_000_000, classes=second),
    }
    cameras = [SimpleNamespace(name=n, labels=("x", "y")) for n in "ab"]
    layout = SimpleNamespace(cameras=cameras, runtime="r 1", precision="p", min_cosine=0.9999)
    books = {n: Counter({"received": 2, "published": 2, "pending": 0}) for n in "ab"}
    demo = DemoRun(
        tmp_path, log, [], 0, 1.0, {100: "x", 200: "y"}, frames, layout, books, "3.00 / 7.00"
    )
    summary = summarise(demo)
    assert (
        summary["frames_sent"] == 4
        and summary["frames_published"] == 4
        and summary["groups_published"] == 2
    )
    assert summary["latency_ms"] == {"p50": 20.0, "p99": 29.8}
    assert summary["classification"] == {
        "accuracy": 0.5,
        "accuracy_by_camera": {"a": 1.0, "b": 0.0},
        "labels": ["x", "y"],
    }
    assert summary["pose_skew_ms"] == {"p50": 3.0, "max": 7.0} and accuracy_of(demo, ["a"]) == 1.0


def test_the_sheet_shows_each_camera_thrice():
    rng = np.random.default_rng(0)
    rgb, attention = np.full((56, 56, 3), 200, np.uint8), np.full((56, 56, 3), 30, np.uint8)
    panels = [
        CameraPanel(n, rgb, rng.normal(size=(16, 8)), (4, 4), attention, "x", 0.5)
        for n in ("left", "right")
    ]
    rows = [
        SheetRow(1.0, "x", "x", 0.7, tuple(panels)),
        SheetRow(2.0, "y", "x", 0.6, tuple(panels)),
    ]
    sheet = np.asarray(draw_sheet(rows, "t"))
    for colour in (200, 30):
        cells = np.all(sheet == colour, axis=-1).sum() / 200**2
        assert 3.9 < cells < 4.3  # two cameras in two rows
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet([], "t")


def test_the_sheet_of_the_demo_has_its_source_and_the_path_of_each_arm(tmp_path):
    def pose(x):
        position = SimpleNamespace(x=x, y=0.5, z=1.0)
        orientation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        return SimpleNamespace(pose=SimpleNamespace(position=position, orientation=orientation))

    frames = {
        3_000_000_000: SimpleNamespace(poses={"arm": pose(0.3)}),
        1_000_000_000: SimpleNamespace(poses={"arm": pose(0.1), "other": pose(9.0)}),
        2_000_000_000: SimpleNamespace(poses={}),
    }
    layout = SimpleNamespace(model="m", runtime="r 1", precision="p")
    demo = DemoRun(tmp_path / "my_bag", None, [], 500_000_000, 1.0, {}, frames, layout)
    assert sheet_title(demo) == "What the robot sees: my_bag, m on r 1, p"
    paths = paths_of(demo)
    assert list(paths) == ["arm", "other"]
    assert paths["arm"].times_s.tolist() == [0.5, 2.5]
    assert paths["arm"].positions_m.tolist() == [[0.1, 0.5, 1.0], [0.3, 0.5, 1.0]]
    hand = hand_of(pose(0.3))
    assert hand.position_m.tolist() == [0.3, 0.5, 1.0]
    assert hand.quaternion_xyzw.tolist() == [0.0, 0.0, 0.0, 1.0]
