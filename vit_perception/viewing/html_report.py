"""A recording as one HTML file that needs no other file: contact sheet, and charts as SVG."""

import base64
import html
import io
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vit_perception.datasets.encode_recording import Dropped, SkippedMessages
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.viewing.inspect_frames import InspectedFrame
from vit_perception.viewing.pose_map import ArmPath

# Okabe and Ito's palette: colour-blind people can tell the colours apart, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MOST_POINTS = 2000
MOST_KEPT = 2 * MOST_POINTS
LARGEST_DRAWN = 1e30
CHART_IN = (11.0, 2.3)
# (left, bottom, width, height) of the axes, as shares of the chart. No layout is computed: that
# would take as long as the drawing.
AXES_PLACE = (0.06, 0.14, 0.93, 0.82)
SVG_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vit_perception",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "path.simplify_threshold": 0.3,
}
STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:1160px;margin:24px auto;color:#191920}"
    "img{max-width:100%}svg{width:100%;height:auto}"
    "table{border-collapse:collapse}td,th{padding:2px 14px 2px 0;text-align:left}"
    "h2{margin:28px 0 6px}.key{margin-right:16px}"
)


class Line:
    """Numbers over time, of which at most ``MOST_KEPT`` are kept, evenly spread.

    A chart shows no more of a long day.
    """

    def __init__(self) -> None:
        self.times_s = array("d")
        self.values = array("d")
        # Of all numbers, also those that are not kept.
        self.low = math.inf
        self.high = -math.inf
        self._every = 1
        self._count = 0

    def add(self, time_s: float, value: float) -> None:
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        if self._count % self._every == 0:
            if len(self.values) == MOST_KEPT:
                self.times_s = self.times_s[::2]
                self.values = self.values[::2]
                self._every *= 2
            self.times_s.append(time_s)
            self.values.append(value)
        self._count += 1


@dataclass
class Curves:
    """The lines of one chart."""

    # Heading of the chart.
    title: str
    # The unit of all values; may be empty.
    unit: str
    # By name.
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
        """Add the numbers of one frame."""
        self.frames += 1
        for camera, scores in frame.scores.items():
            for label, score in scores.items():
                self._add(f"{camera}: classification", "score", label, frame.time_s, score)
        for camera, change in frame.changes.items():
            for unit, numbers in change.drawn().items():
                title = f"{camera}: {'novelty' if unit == 'score' else f'camera shift in {unit}'}"
                for name, value in numbers.items():
                    self._add(title, unit, name, frame.time_s, value)
        for arm, (position_m, _) in frame.poses.items():
            for axis, value in zip("xyz", position_m):
                self._add(_position_title(arm), "m", axis, frame.time_s, value)
        for name, numbers in frame.states.items():
            for k, number in enumerate(numbers):
                self._add(f"{name}: joints at the image", "", str(k), frame.time_s, number)
        for stage, value in frame.latency_ms.items():
            title = "latency" if stage != "record" else "recorded after the stamp"
            self._add(title, "ms", stage, frame.time_s, value)

    def paths(self, arms: Iterable[str]) -> dict[str, ArmPath]:
        """Return the path of each of ``arms`` that had a pose, thinned out as in the charts."""
        lines = {arm: self.curves[_position_title(arm)].lines for arm in arms if self._knows(arm)}
        return {
            arm: ArmPath(
                times_s=np.array(of_axis["x"].times_s),
                positions_m=np.stack([of_axis[axis].values for axis in "xyz"], axis=1),
            )
            for arm, of_axis in lines.items()
        }

    def _knows(self, arm: str) -> bool:
        return _position_title(arm) in self.curves

    def drop(self, dropped: Dropped) -> None:
        """Count what gave no frame."""
        self.dropped[dropped.reason] = self.dropped.get(dropped.reason, 0) + 1
        self.drop_texts.setdefault(dropped.reason, dropped.text)

    def _add(self, title: str, unit: str, name: str, time_s: float, value: float) -> None:
        curves = self.curves.setdefault(title, Curves(title=title, unit=unit))
        curves.add(name, time_s, float(value))


def _position_title(arm: str) -> str:
    return f"{arm}: position at the image"


def write_report(
    path: Path, title: str, facts: dict[str, str], data: ReportData, sheet: Image.Image
) -> None:
    """Write the report; ``facts`` become a table, by the name of each row.

    Raises:
        ImportError: matplotlib is not installed.
    """
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


def require_charts() -> None:
    """Check that charts can be drawn, before a recording is read for them.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib  # noqa: F401


def png_uri(picture: Image.Image) -> str:
    """Return an image as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def chart(curves: Curves) -> str:
    """Draw lines over seconds as SVG, with a key below; long recordings are thinned out.

    It takes about 0.15 s.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    svg = io.StringIO()
    keys = []
    with rc_context(SVG_SETTINGS):
        # Without pyplot: no window system is looked for, and nothing global is left behind.
        figure = Figure(figsize=CHART_IN)
        axes = figure.add_axes(AXES_PLACE, facecolor="#fafaf8")
        for k, (name, line) in enumerate(curves.lines.items()):
            colour = COLOURS[k % len(COLOURS)]
            step = max(1, len(line.values) // MOST_POINTS)
            values = np.array(line.values[::step])
            # matplotlib fails on the largest float64; what is larger leaves a gap, like NaN.
            values[np.abs(values) > LARGEST_DRAWN] = np.nan
            axes.plot(line.times_s[::step], values, color=colour, linewidth=1.2)
            # Names come from strangers: they are in the HTML alone, where they are escaped.
            keys.append(
                f"<span class=key style='color:{colour}'>&#9632; {_html(name)}"
                f" (median {np.median(line.values):.3g})</span>"
            )
        low = min(line.low for line in curves.lines.values())
        high = max(line.high for line in curves.lines.values())
        if -LARGEST_DRAWN <= low <= high <= LARGEST_DRAWN:
            margin = 0.04 * (high - low) or 0.5
            axes.set_ylim(low - margin, high + margin)
        axes.margins(x=0.0)
        axes.set_ylabel(curves.unit)
        axes.xaxis.set_major_formatter("{x:g} s")
        axes.grid(color="#e6e4df")
        axes.spines[:].set_color("#dddddd")
        axes.tick_params(length=0, labelcolor="#6e6e76")
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    drawn = svg.getvalue()
    # An HTML file takes the element without the declarations of an XML file.
    return f"{drawn[drawn.index('<svg') :]}<div>{''.join(keys)}</div>"


def _html(text: str) -> str:
    """Return a stranger's text for HTML: escaped, printable and cut."""
    return html.escape(printable(text, MOST_SHOWN, keep=""))
