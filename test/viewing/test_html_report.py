"""Lines of a report: of a recording of any length, as much as a chart shows."""

import html
import tracemalloc
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from vit_perception.datasets.encode_recording import Dropped
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.heads.classification import distinct_names
from vit_perception.viewing.contact_sheet import CameraPanel, draw_sheet
from vit_perception.viewing.html_report import (
    MOST_KEPT,
    Curves,
    Line,
    ReportData,
    chart,
    write_report,
)
from vit_perception.viewing.inspect_frames import InspectedFrame
from vit_perception.viewing.rerun_log import RerunLog
from vit_perception.wire.layout import Layout, LayoutCamera, LayoutGroup


def test_a_line_of_a_long_day_keeps_its_ends_and_a_bounded_number_of_points():
    line, count = Line(), 10 * MOST_KEPT + 3
    tracemalloc.start()
    for k in range(count):
        line.add(k / 30, float(k == 12345) - float(k == 777))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 40 * MOST_KEPT, f"{held} bytes"
    assert MOST_KEPT // 2 < len(line.times_s) == len(line.values) <= MOST_KEPT
    assert (line.low, line.high) == (-1.0, 1.0)  # also of what is not kept
    assert len(set(np.round(np.diff(line.times_s) * 30))) == 1 and line.times_s[0] == 0.0


def test_a_short_recording_is_kept_whole():
    curves = Curves("latency", "ms")
    for k in range(MOST_KEPT):
        curves.add("infer", float(k), float(k))
    assert list(curves.lines["infer"].values) == list(range(MOST_KEPT))
    assert f"median {(MOST_KEPT - 1) / 2:.3g}" in chart(curves)


@pytest.mark.parametrize("values", [[1.0, 1.0], [float("nan"), 1.0], [-1e308, 1e308], [2.0]])
def test_numbers_of_any_range_are_drawn(values):
    curves = Curves("latency", "ms")
    for k, value in enumerate(values):
        curves.add("infer", float(k), value)
    svg = ElementTree.fromstring(chart(curves).partition("</svg>")[0] + "</svg>")
    texts = ["".join(each.itertext()) for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "ms" in texts and any(text.endswith(" s") for text in texts)


HOSTILE = (
    "null\0byte",
    "half \ud800 of a pair",
    "m" * 1_000_000,
    "\x1b[2J\x1b]0;owned\x07",
    "\u202etxt.exe",
    "<script>alert(1)</script>",
    "'><img src=x onerror=alert(1)>",
    "a/b\n&amp;",
)


def hostile_frame(labels):
    rgb = np.zeros((28, 28, 3), np.uint8)
    panel = CameraPanel("wrist", rgb, np.ones((4, 8), np.float32), (2, 2), rgb, labels[0], 0.5)
    return InspectedFrame(
        5_000_000_000,
        0.0,
        {"wrist": panel},
        {"wrist": dict.fromkeys(labels, 0.5)},
        {},
        {},
        {},
    )


@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_label_neither_breaks_the_report_nor_gets_into_it(tmp_path, label):
    data, frame = ReportData(), hostile_frame([label])
    data.add(frame)
    data.drop(Dropped("size", label))
    sheet = draw_sheet([frame.sheet_row()], label)
    write_report(tmp_path / "report.html", label, {"cameras": label, label: "dropped"}, data, sheet)
    written = (tmp_path / "report.html").read_bytes()
    text = written.decode("utf-8")
    assert len(written) < 100_000 and text.replace("\n", "").isprintable()
    assert "<script" not in text and "<img src=x" not in text and text.count("<img") == 1
    shown = html.escape(printable(label, MOST_SHOWN, keep=""))
    assert f"&#9632; {shown} (median 0.5)" in text and f"<title>{shown}</title>" in text


def test_hostile_labels_do_not_break_the_log_of_rerun(tmp_path):
    pytest.importorskip("rerun.chunk", reason="no rerun-sdk of 0.40 or newer: no .rrd to read back")
    from rerun.chunk import RrdReader

    with RerunLog(tmp_path / "out.rrd", "name \ud800\0") as log:
        log.add(hostile_frame(HOSTILE))
    paths = {
        str(chunk.entity_path)
        for chunk in RrdReader(str(tmp_path / "out.rrd")).stream().to_chunks()
    }
    scores = [path for path in paths if path.startswith("/wrist/score/")]
    assert (
        len(scores) == len(HOSTILE) and max(map(len, paths)) < 1000 and "".join(paths).isprintable()
    )


def test_hostile_labels_go_through_the_layout_as_names_that_print():
    names = distinct_names(HOSTILE)
    camera = LayoutCamera("wrist", "optical", "crop", (28, 28), 14, labels=names)
    layout = Layout(
        (LayoutGroup("wrist/cls", "cls", "wrist", 0, 1),),
        (camera,),
        width=4,
        dtype="float32",
        model="tiny",
        weights_sha256="aa",
        encoder_sha256="bb",
        block=1,
        runtime="torch",
        precision="float32",
        min_cosine=1.0,
        fusion="concat",
        embedding_width=4,
    )
    text = layout.to_json()
    assert (
        len(text) < 10_000
        and text.isascii()
        and text.isprintable()
        and Layout.from_json(text) == layout
    )
    assert all(name.isprintable() for name in names) and len(set(names)) == len(HOSTILE)


def test_the_paths_of_the_sheet_are_those_of_the_charts():
    data, frame = ReportData(), hostile_frame(["x"])
    for k in range(3):
        pose = (np.array([k, 2.0 * k, 3.0]), np.array([0.0, 0.0, 0.0, 1.0]))
        data.add(replace(frame, time_s=0.5 * k, poses={"arm": pose}))
    paths = data.paths(["arm", "never seen"])
    assert list(paths) == ["arm"]
    assert paths["arm"].times_s.tolist() == [0.0, 0.5, 1.0]
    assert paths["arm"].positions_m.tolist() == [[0, 0, 3], [1, 2, 3], [2, 4, 3]]
    shown = replace(frame, poses={"arm": pose}).sheet_row()
    assert shown.hands["arm"].position_m.tolist() == [2, 4, 3]
