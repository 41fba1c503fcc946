"""Which calibration an image has: the latest CameraInfo at or before its stamp."""

import threading

import pytest

from test.image.camera_infos import camera_info
from vit_perception.config.settings import CameraSettings
from vit_perception.image.camera_info import calibration_of
from vit_perception.streams import calibrations, pairing
from vit_perception.streams.calibrations import (
    MOST_CHANGES,
    CalibrationHistory,
    CalibrationInputs,
    Calibrations,
)
from vit_perception.wire.records import BadInput

SECOND_NS = 1_000_000_000
INFOS = [camera_info(size_px=(48, 64 + 2 * k)) for k in range(4)]
A, B, C, D = (calibration_of(info) for info in INFOS)


def history(*entries):
    made = CalibrationHistory()
    for stamp_ns, calibration in entries:
        made.add(stamp_ns, calibration)
    return made


def test_the_latest_at_or_before_the_stamp_is_in_force_and_the_first_one_before_it():
    made = history((100, A), (200, A), (300, B), (400, C))
    stamps = (1, 100, 299, 300, 399, 400, 10**12)
    assert [made.at(s) for s in stamps] == [A, A, A, B, B, C, C]
    assert CalibrationHistory().at(5) is None


def test_a_latched_one_without_a_stamp_is_before_everything():
    made = history((0, A))
    assert made.at(1) == A and not made.covers(1)
    made.add(50, B)
    assert (made.at(49), made.at(50)) == (A, B)
    made.add(0, C)
    assert (made.at(49), made.at(50)) == (C, B)


def test_one_that_comes_late_or_twice_takes_its_place():
    made = history((100, A), (300, C), (200, B), (200, B), (100, A), (300, D))
    assert [made.at(s) for s in (150, 200, 299, 300)] == [A, B, B, D]
    assert made.covers(300) and not made.covers(301)


def test_changes_are_bounded():
    made = CalibrationHistory()
    for k in range(3 * MOST_CHANGES):
        made.add(k + 1, (A, B)[k % 2])
    assert len(made._since_ns) == MOST_CHANGES and made.at(10**9) == B


def test_a_clock_that_is_set_back_forgets_what_is_later():
    made = history((10 * SECOND_NS, A), (20 * SECOND_NS, B), (10 * SECOND_NS + 5, C))
    assert made.at(20 * SECOND_NS) == C and made.at(10 * SECOND_NS) == A
    assert made.covers(10 * SECOND_NS + 5) and not made.covers(10 * SECOND_NS + 6)


def test_images_that_jump_back_keep_one_calibration():
    made = history((10 * SECOND_NS, A), (20 * SECOND_NS, B))
    made.forget_after(19 * SECOND_NS + 1)
    assert made.at(30 * SECOND_NS) == B, "no jump: a late image"
    made.forget_after(10 * SECOND_NS)
    assert made.at(30 * SECOND_NS) == A and not made.covers(1)
    latched = history((50 * SECOND_NS, A), (60 * SECOND_NS, B))
    latched.forget_after(SECOND_NS)
    assert latched.at(70 * SECOND_NS) == A


def cameras():
    return (
        CameraSettings("left", "/l/image_raw", rectify=True),
        CameraSettings("plain", "/p/image_raw"),
        CameraSettings("right", "/r/image", rectify=True, camera_info_topic="/l/camera_info"),
    )


def test_cameras_that_are_rectified_share_a_topic_and_books():
    made = Calibrations(cameras())
    assert made.by_topic == {"/l/camera_info": ["left", "right"]}
    refused = made.at({"left": 5, "plain": 5})
    assert list(refused) == ["left"] and refused["left"].reason == "no_camera_info"
    assert "on /l/camera_info; accepted" in str(refused["left"])
    with pytest.raises(BadInput, match="k of the CameraInfo"):
        made.add(["left", "right"], camera_info(k=[0.0] * 9))
    assert "the latest one was refused: k of the CameraInfo" in str(made.at({"right": 5})["right"])
    made.add(["left", "right"], INFOS[0])
    assert made.at({"left": 5, "right": 9, "plain": 5}) == {"left": A, "right": A}
    with pytest.raises(BadInput, match="distortion_model"):
        made.add(["left", "right"], camera_info("fov"))
    assert made.at({"left": 5}) == {"left": A}, "what was in force stays"
    account = made.accounts["left"]
    assert (account.received, account.refused) == (3, {"camera_info": 2})


def test_the_node_waits_for_the_camera_info_of_the_image_itself(monkeypatch):
    """Drivers send both at once; a change holds from the very image on."""
    monkeypatch.setattr(calibrations, "WAIT_S", 60.0)
    inputs = CalibrationInputs(cameras(), threading.Condition())
    inputs.add("left", camera_info(size_px=(48, 64), stamp_ns=100))
    found = []
    taker = threading.Thread(target=lambda: found.append(inputs.at({"left": 200})))
    taker.start()
    inputs.add("left", camera_info(size_px=(48, 66), stamp_ns=200))
    taker.join(60)
    assert found == [{"left": B}]
    assert inputs.at({"left": 150}) == {"left": A}


def test_a_slow_one_is_not_waited_for_once_that_is_known(monkeypatch):
    """A CameraInfo of 5 Hz delayed each image of 30 Hz by 20 ms."""
    monkeypatch.setattr(pairing, "SILENT_S", 3600.0)
    monkeypatch.setattr(calibrations, "WAIT_S", 0.0)
    inputs = CalibrationInputs(cameras(), threading.Condition())
    inputs.add("left", camera_info(size_px=(48, 64), stamp_ns=90))
    assert inputs.at({"left": 100}) == {"left": A}
    monkeypatch.setattr(calibrations, "WAIT_S", 3600.0)
    assert [inputs.at({"left": stamp_ns})["left"] for stamp_ns in (200, 300, 400)] == [A] * 3
    inputs.add("left", camera_info(size_px=(48, 66), stamp_ns=450))
    assert [inputs.at({"left": stamp_ns})["left"] for stamp_ns in (440, 500)] == [A, B]
    account = inputs.accounts["left"]
    assert (account.received, account.waited, account.used, account.missing) == (2, 1, 6, 0)


def test_a_topic_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(calibrations, "WAIT_S", 3600.0)
    monkeypatch.setattr(pairing, "SILENT_S", -1.0)
    inputs = CalibrationInputs(cameras(), threading.Condition())
    inputs.add("left", camera_info(size_px=(48, 64), stamp_ns=0))
    assert inputs.at({"left": 10**15, "plain": 10**15}) == {"left": A}
