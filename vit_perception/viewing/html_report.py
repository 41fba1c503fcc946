"""A recording as one HTML file that needs nothing else: contact sheet, poses, classes and latencies
as SVG.
"""

import base64
import html
import io
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vit_perception.datasets.encode_recording import Dropped, SkippedMessages
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.viewing.inspect_frames import InspectedFrame

WIDTH_PX, HEIGHT_PX, LEFT_PX, BOTTOM_PX = 1100, 200, 60, 24
# Okabe and Ito's palette: told apart by colour-blind people too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MOST_POINTS = 2000
MOST_KEPT = 2 * MOST_POINTS
STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:1160px;margin:24px "
    "auto;color:#191920}img{max-width:100%}"
    "table{border-collapse:collapse}td,th{padding:2px 14px 2px 0;text-align:left}h2{margin:28px 0 "
    "6px}"
    "svg text{font:12px system-ui,sans-serif;fill:#6e6e76}.key{margin-right:16px}"
)


class Line:
    """Numbers over time, of which at most ``MOST_KEPT`` stay, evenly spread: a chart shows no more
    of a long day.

    ``low`` and ``high`` are those of all numbers; the median is that of the ones that stay.
    """

    def __init__(self) -> None:
        self.times_s, self.values = array("d"), array("d")
        self.low, self.high = math.inf, -math.inf
        self._every, self._count = 1, 0

    def add(self, time_s: float, value: float) -> None:
        self.low, self.high = min(self.low, value), max(self.high, value)
        if self._count % self._every == 0:
            if len(self.values) == MOST_KEPT:
                self.times_s, self.values = self.times_s[::2], self.values[::2]
                self._every *= 2
            self.times_s.append(time_s)
            self.values.append(value)
        self._count += 1


@dataclass
class Curves:
    """Numbers over time, a line a name: only what a chart needs is kept of a recording."""

    title: str
    unit: str
    lines: dict[str, Line] = field(default_factory=dict)

    def add(self, name: str, time_s: float, value: float) -> None:
        self.lines.setdefault(name, Line()).add(time_s, value)


class ReportData:
    """What the report shows, collected frame by frame."""

    def __init__(self) -> None:
        self.curves: dict[str, Curves] = {}
        self.frames = 0
        self.dropped: dict[str, int] = {}
        self.drop_texts: dict[str, str] = {}  # the first one's, by reason
        self.skips = SkippedMessages()

    def add(self, frame: InspectedFrame) -> None:
        """Take one frame's numbers."""
        self.frames += 1
        for camera, scores in frame.scores.items():
            for label, score in scores.items():
                self._curve(f"{camera}: classification", "score", label, frame.time_s, score)
        for arm, (position_m, _) in frame.poses.items():
            for axis, value in zip("xyz", position_m):
                self._curve(f"{arm}: position at the image", "m", axis, frame.time_s, value)
        for name, numbers in frame.states.items():
            for k, number in enumerate(numbers):
                self._curve(f"{name}: joints at the image", "", str(k), frame.time_s, number)
        for stage, value in frame.latency_ms.items():
            title = "latency" if stage != "record" else "recorded after the stamp"
            self._curve(title, "ms", stage, frame.time_s, value)

    def drop(self, dropped: Dropped) -> None:
        """Take note of what gave no frame."""
        self.dropped[dropped.reason] = self.dropped.get(dropped.reason, 0) + 1
        self.drop_texts.setdefault(dropped.reason, dropped.text)

    def _curve(self, title: str, unit: str, name: str, time_s: float, value: float) -> None:
        self.curves.setdefault(title, Curves(title, unit)).add(name, time_s, float(value))


def write_report(
    path: Path, title: str, facts: dict[str, str], data: ReportData, sheet: Image.Image
) -> None:
    """Write the report, whole. ``facts`` are shown as a table, each text as it is."""
    rows = "".join(
        f"<tr><th>{_html(k)}</th><td>{html.escape(printable(v))}</td></tr>"
        for k, v in facts.items()
    )
    charts = "".join(f"<h2>{_html(c.title)}</h2>{chart(c)}" for c in data.curves.values())
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_html(title)}</title>"
        f"<style>{STYLE}</style><h1>{_html(title)}</h1><table>{rows}</table>"
        "<h2>what the encoder sees</h2><img alt='contact sheet' "
        f"src='{png_uri(sheet)}'>{charts}</html>\n"
    )
    write_whole(path, lambda file: file.write_text(text, "utf-8"))


def png_uri(picture: Image.Image) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def chart(curves: Curves) -> str:
    """Lines over seconds as SVG, with the range of both axes and a key. Long recordings are thinned
    out.
    """
    ends_s = [t for line in curves.lines.values() for t in (min(line.times_s), max(line.times_s))]
    low, high = (
        min(line.low for line in curves.lines.values()),
        max(line.high for line in curves.lines.values()),
    )
    begin_s, length_s = min(ends_s), max(max(ends_s) - min(ends_s), 1e-9)
    span = max(high - low, 1e-9)
    lines, key = [], []
    for k, (name, line) in enumerate(curves.lines.items()):
        colour, step = COLOURS[k % len(COLOURS)], max(1, len(line.values) // MOST_POINTS)
        points = " ".join(
            f"{LEFT_PX + (t - begin_s) / length_s * (WIDTH_PX - LEFT_PX):.1f},"
            f"{(high - v) / span * (HEIGHT_PX - 10) + 5:.1f}"
            for t, v in zip(line.times_s[::step], line.values[::step])
        )
        lines.append(
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
        )
        key.append(
            f"<span class=key style='color:{colour}'>&#9632; {_html(name)}"
            f" (median {np.median(line.values):.3g})</span>"
        )
    labels = _labels(
        [
            (0, 12, f"{high:.3g} {curves.unit}"),
            (0, HEIGHT_PX, f"{low:.3g} {curves.unit}"),
            (LEFT_PX, HEIGHT_PX + BOTTOM_PX - 4, f"{begin_s:.2f} s"),
            (WIDTH_PX - 60, HEIGHT_PX + BOTTOM_PX - 4, f"{begin_s + length_s:.2f} s"),
        ]
    )
    frame = (
        f"<rect x='{LEFT_PX}' y='0' width='{WIDTH_PX - LEFT_PX}' height='{HEIGHT_PX}' "
        "fill='#fafaf8' "
        "stroke='#ddd'/>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH_PX} {HEIGHT_PX + BOTTOM_PX}' "
        f"width='100%'>{frame}{''.join(lines)}{labels}</svg>"
        f"<div>{''.join(key)}</div>"
    )


def _html(text: str) -> str:
    """``text`` of a stranger as HTML shows it: no markup, nothing that a file cannot hold, and not
    endless.
    """
    return html.escape(printable(text, MOST_SHOWN, keep=""))


def _labels(texts: Sequence[tuple[int, int, str]]) -> str:
    return "".join(f"<text x='{x}' y='{y}'>{_html(text)}</text>" for x, y, text in texts)
