"""Trace points: each stage of each frame, in order, where somebody listens; nothing else."""

import logging
import re
import sys

from test.pipeline.test_frames import STAMP_NS, pipeline, running  # noqa: F401
from vit_perception.pipeline.timing import trace


class Said:
    """A log that keeps its warnings."""

    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


def test_each_stage_of_a_frame_is_a_point_with_its_stamp_and_duration(running, caplog):
    with caplog.at_level(logging.DEBUG, logger=trace.NAME):
        running.show(0)
        running.until(lambda: running.account.published == 1, "the frame")
    points = [record.getMessage() for record in caplog.records if record.name == trace.NAME]
    parts = [re.fullmatch(r"(\w+) stamp_ns=(\d+) ms=([\d.]+) camera=(a?)", each) for each in points]
    assert [part[1] for part in parts] == ["decode", "preprocess", "infer", "publish"]
    assert {int(part[2]) for part in parts} == {STAMP_NS}
    assert all(float(part[3]) >= 0 for part in parts) and float(parts[2][3]) > 0
    assert [part[4] for part in parts] == ["a", "a", "", ""]


def test_nothing_is_traced_where_nobody_listens(running, caplog):
    running.show(0)
    running.until(lambda: running.account.published == 1, "the frame")
    assert not [record for record in caplog.records if record.name == trace.NAME]


def test_the_agent_is_loaded_only_where_it_is_asked_for(monkeypatch):
    said = Said()
    monkeypatch.setitem(sys.modules, "lttngust", None)  # an import of it fails
    monkeypatch.delenv(trace.VARIABLE, raising=False)
    trace.follow(said)
    assert said.warnings == []
    monkeypatch.setenv(trace.VARIABLE, "1")
    trace.follow(said)
    (text,) = said.warnings
    assert "nothing is traced" in text and "python3-lttngust" in text
