"""Trials with images between processes, over real DDS."""

import math
import os

import pytest

from vit_perception.files.errors import OperationFailed
from vit_perception.ros.health import image_trial
from vit_perception.ros.health.image_trial import ImageTrial, run_trial

SMALL = ImageTrial(width_px=64, height_px=48, rate_hz=20.0, count=10, reliable=True, senders=2)


def test_reliable_images_of_two_senders_all_arrive():
    result = run_trial(SMALL)
    assert (result.sent, result.arrived) == (20, 20)
    assert 0.0 < result.median_ms <= result.largest_ms


def test_images_to_another_domain_never_arrive_and_the_sender_says_so(monkeypatch):
    """The trial counts what arrives, not what was sent."""
    started = image_trial._start
    monkeypatch.setattr(
        image_trial,
        "_start",
        lambda command, environment: started(
            command, os.environ | {"ROS_DOMAIN_ID": "101"} if command[0] == "send" else None
        ),
    )
    with pytest.raises(OperationFailed, match="a trial with images failed: the receiver was not"):
        run_trial(ImageTrial(count=1))


def test_a_middleware_that_is_not_there_is_named():
    with pytest.raises(OperationFailed, match="a trial with images failed: .*rmw_of_nobody"):
        run_trial(SMALL, os.environ | {"RMW_IMPLEMENTATION": "rmw_of_nobody"})


def test_a_trial_that_does_not_end_leaves_no_process(monkeypatch):
    begun = []
    started = image_trial._start

    def start(command, environment):
        begun.append(started(command, environment))
        return begun[-1]

    monkeypatch.setattr(image_trial, "_start", start)
    with pytest.raises(OperationFailed, match="did not end in time"):
        run_trial(SMALL, most_s=0.2)
    assert len(begun) == 3 and all(process.returncode is not None for process in begun)


def test_without_an_image_there_is_no_median(monkeypatch):
    monkeypatch.setattr(
        image_trial, "_result", lambda process, deadline_s: "[]" if process is begun[0] else ""
    )
    begun = []
    started = image_trial._start

    def start(command, environment):
        begun.append(started(command, environment))
        return begun[-1]

    monkeypatch.setattr(image_trial, "_start", start)
    result = run_trial(ImageTrial(count=3))
    assert (result.sent, result.arrived) == (3, 0)
    assert math.isnan(result.median_ms) and math.isnan(result.largest_ms)


def test_the_size_of_an_image():
    assert ImageTrial(width_px=640, height_px=480).megabytes == pytest.approx(0.9216)
