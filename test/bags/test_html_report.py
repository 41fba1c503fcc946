"""Lines of a report: of a recording of any length, as much as a chart shows."""

import tracemalloc

import numpy as np

from vit_perception.bags.html_report import MOST_KEPT, Curves, Line, chart


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
