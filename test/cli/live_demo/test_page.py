"""The demo's page: what stands in it, and that it needs nothing else and trusts no text."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from test.cli.live_demo.test_report import GOOD
from vit_perception.cli.live_demo.page import REASONS, rows_of, strip, write_page
from vit_perception.cli.live_demo.report import DemoRun, SentLog

EVIL = "<script>alert('x')</script>\x1b[31m"
SUMMARY = GOOD | {
    "latency_ms": {"p50": 40.5, "p99": None},
    "engine": {"runtime": EVIL, "precision": "float32", "min_cosine": 0.9999},
    "classification": {
        "accuracy": 0.75,
        "accuracy_by_camera": {"wrist": None},
        "labels": ["reach", EVIL],
    },
    "pose_skew_ms": {"p50": 3.0, "max": 7.0},
}


class Page(HTMLParser):
    """Tags, what they point to, and the text between them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data):
        self.text += data


def demo_of(tmp_path, frames: dict) -> DemoRun:
    log = SentLog(tmp_path / "sent.jsonl")
    log.path.write_text(
        "".join(
            f'{{"topic": "/a/image/compressed", "stamp_ns": {s}, "sent_ns": {s}}}\n' for s in frames
        )
    )
    return DemoRun(
        bag_path=tmp_path / "a<b>&c",
        sent=log,
        topics=[],
        start_ns=0,
        duration_s=1.0,
        stages=dict.fromkeys(frames, "reach") | {300_000_000: EVIL},
        frames=frames,
    )


def frame(received_ns: int, **scores: float) -> SimpleNamespace:
    return SimpleNamespace(
        received_ns=received_ns, classes={"wrist": {**scores, EVIL: 0.25}, "top": scores}
    )


@pytest.fixture
def page(tmp_path):
    def write(frames: dict, failed: list[str], with_sheet: bool = True) -> tuple[str, Page]:
        sheet = tmp_path / "sheet.png"
        if with_sheet:
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(sheet)
        write_page(
            demo=demo_of(tmp_path, frames),
            summary=SUMMARY,
            failed=failed,
            sheet=sheet,
            steps="vit-perception embed BAG > here",
            path=tmp_path / "report.html",
        )
        text = (tmp_path / "report.html").read_text("utf-8")
        return text, Page(text)

    return write


FRAMES = {
    100_000_000: frame(140_500_000, reach=0.75),
    200_000_000: frame(240_500_000, reach=0.5),
    300_000_000: frame(340_500_000, reach=0.25),
}


def test_the_page_has_pictures_numbers_classes_and_next_steps(page):
    _, shown = page(FRAMES, [])
    assert "What the robot sees: a<b>&c" in shown.text and "It worked." in shown.text
    assert shown.tags.count("img") == 1 and shown.tags.count("svg") == 2
    # The third frame's true stage has 0.125 in the mean of both cameras, reach has 0.25.
    assert "2 of 3 frames are right" in shown.text
    assert "(median 40.5)" in shown.text and "(median 0.5)" in shown.text
    for words in ("100 sent, 100 received, 60 published in 30 pairs", "39 superseded (a newer"):
        assert words in shown.text
    for words in ("75.0 % with both cameras; wrist alone unknown", "99 of 100 within unknown ms"):
        assert words in shown.text
    assert "vit-perception embed BAG > here" in shown.text


def test_nothing_is_loaded_from_elsewhere_and_no_text_becomes_html(page):
    text, shown = page(FRAMES, [f"accuracy of {EVIL}"])
    assert "script" not in shown.tags and "\x1b" not in text
    assert "<script>alert('x')</script>" in shown.text  # as it was written, as text
    assert not re.search(r"(src|href)=[\"']?http|url\([\"']?http|@import", text)
    assert shown.links and all(link.startswith(("data:image/png;", "#")) for link in shown.links)
    assert "Something is not as it should be" in shown.text and "It worked" not in shown.text


def test_a_demo_without_results_still_has_its_page(page):
    _, shown = page({}, ["no tokens came"], with_sheet=False)
    for words in ("There is no picture", "No classification came", "No tokens came"):
        assert words in shown.text
    assert "img" not in shown.tags and "svg" not in shown.tags


def test_stages_are_as_wide_as_they_are_long():
    shown = strip(["a", "a", "a", "b"], {"a": "#111", "b": "#222"})
    assert re.findall(r"flex:(\d);background:(#\d+)'>(\w)<", shown) == [
        ("3", "#111", "a"),
        ("1", "#222", "b"),
    ]


def test_every_known_reason_is_explained():
    dropped = SUMMARY | {"frames_dropped": dict.fromkeys(REASONS, 2) | {"odd": 1}}
    said = rows_of(dropped)["images not published"]
    assert said.count("2 ") == len(REASONS) and said.endswith("; 1 odd")
