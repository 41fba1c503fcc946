"""Where a CameraInfo with distortion lies beside images, the file rectifies them."""

import numpy as np
import pytest

from test.image.camera_infos import camera_info
from test.ros.suggest.test_choice import written
from test.ros.suggest.topics import graph, image, info, jpeg, refused
from vit_perception.image.camera_info import INFO_TYPE, calibration_of

LENS = calibration_of(camera_info(size_px=(480, 640)))
STRAIGHT = calibration_of(camera_info(size_px=(480, 640), d=np.zeros(5)))
SMALL = calibration_of(camera_info(size_px=(48, 64)))
BESIDE = "/wrist/camera_info"


def camera_of(tmp_path, images, *infos):
    text, settings = written(graph(images, infos=infos), tmp_path)
    (camera,) = settings.cameras
    return text, camera


@pytest.mark.parametrize("make", [image, jpeg])
def test_a_lens_with_distortion_is_rectified(make, tmp_path):
    name = "/wrist/image_raw" + ("/compressed" if make is jpeg else "")
    text, camera = camera_of(
        tmp_path, make(name), info(BESIDE, LENS), info("/top/camera_info", LENS)
    )
    assert camera.rectify and camera.camera_info_topic == "/wrist/camera_info"
    (line,) = [each for each in text.splitlines() if ".rectify:" in each]
    assert "plumb_bob" in line and "false if your policy was trained" in line
    assert "published by /driver" in text.split("camera_info_topic: wrist/camera_info")[1][:80]


def test_a_fisheye_without_coefficients_has_distortion_too(tmp_path):
    fisheye = calibration_of(camera_info("equidistant", size_px=(480, 640), d=np.zeros(4)))
    assert camera_of(tmp_path, image("/wrist/image_raw"), info(BESIDE, fisheye))[1].rectify


@pytest.mark.parametrize(
    "name, calibration",
    [("/wrist/image_raw", STRAIGHT), ("/wrist/image_rect", LENS), ("/top/image_raw", LENS)],
)
def test_without_distortion_or_beside_other_images_nothing_is_said(name, calibration, tmp_path):
    text, camera = camera_of(tmp_path, image(name), info(BESIDE, calibration, frame_id="other"))
    assert not camera.rectify and "camera_info" not in text


def test_elsewhere_it_is_the_only_one_of_the_images_frame_and_size(tmp_path):
    images = image("/top/image_raw", frame_id="top_optical")
    there = info("/calibration/top", LENS, frame_id="top_optical")
    others = info("/calibration/a", LENS, frame_id="a"), info("/b", SMALL, frame_id="top_optical")
    camera = camera_of(tmp_path, images, there, *others)[1]
    assert camera.rectify and camera.camera_info_topic == "/calibration/top"
    twice = info("/calibration/top_2", LENS, frame_id="top_optical")
    assert not camera_of(tmp_path, images, there, twice)[1].rectify


def test_what_cannot_rectify_is_said(tmp_path):
    text, camera = camera_of(tmp_path, image("/wrist/image_raw"), info(BESIDE, SMALL))
    assert not camera.rectify and "/wrist/camera_info is for 64×48 px" in text
    uncalibrated = refused(BESIDE, INFO_TYPE, "k of the CameraInfo is zero")
    text, camera = camera_of(tmp_path, image("/wrist/image_raw"), uncalibrated)
    assert not camera.rectify and "cannot be used to rectify: k of the CameraInfo is zero" in text
