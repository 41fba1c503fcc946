"""A log that is never long silent: what the operation is at comes again, with the time so far."""

import threading

import pytest

from test.waiting import wait_until
from vit_perception.files.heartbeat import Heartbeat


class Heard:
    """All that a log is told."""

    def __init__(self):
        self.told = []

    def info(self, text):
        self.told.append(text)

    def warning(self, text):
        self.told.append(f"! {text}")

    def progress(self, what, fraction, text=""):
        self.told.append((what, fraction, text))


def test_what_the_operation_is_at_comes_again_with_the_time_so_far():
    heard = Heard()
    with Heartbeat(heard, period_s=0.01) as log:
        log.info("loading")
        wait_until(lambda: heard.told.count("loading: 0 s so far") > 2, "three beats")
        log.warning("it is slow")
        log.progress("loading", 0.5, "half")
        log.info("opening")
        wait_until(lambda: "opening: 0 s so far" in heard.told, "a beat of the next step")
    assert heard.told[0] == "loading"
    assert "! it is slow" in heard.told and ("loading", 0.5, "half") in heard.told
    later = heard.told[heard.told.index("opening") :]
    assert not any(text == "loading: 0 s so far" for text in later)


def test_before_anything_is_said_and_after_the_end_it_is_silent():
    heard = Heard()
    with Heartbeat(heard, period_s=0.01):
        pass
    assert heard.told == []
    with Heartbeat(heard, period_s=0.01, what="starting"):
        wait_until(lambda: "starting: 0 s so far" in heard.told, "a beat before the first word")
    heard.told.clear()
    with Heartbeat(heard, period_s=3600.0) as log:
        log.info("loading")
    assert heard.told == ["loading"]
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_listener_that_raises_ends_the_beats_and_the_operation_meets_the_same():
    class Ended(Heard):
        def info(self, text):
            super().info(text)
            if len(self.told) > 1:
                raise RuntimeError("shut down")

    heard = Ended()
    with Heartbeat(heard, period_s=0.01) as log:
        log.info("loading")
        wait_until(lambda: not log._thread.is_alive(), "the end of the thread")
        with pytest.raises(RuntimeError, match="shut down"):
            log.info("opening")
    assert len(heard.told) == 3
