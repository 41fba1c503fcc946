"""Rectified images against OpenCV's own functions, against the formulas of the lens models, and
against image_pipeline's way with binning and roi. What a hostile CameraInfo does.
"""

import math

import cv2
import numpy as np
import pytest

from test.image.camera_infos import DISTORTIONS, camera_info, region, rotation
from vit_perception.image import rectify
from vit_perception.image.camera_info import calibration_of, info_stamp_ns
from vit_perception.image.rectify import Rectifier
from vit_perception.wire.records import BadInput, RgbImage

SIZE_PX = (97, 131)
TURN = rotation(0.04, -0.06, 0.1)


def smooth(size_px=SIZE_PX, seed=0) -> np.ndarray:
    """A picture without hard edges: a rounding by 1/32 px changes it by less than one level."""
    height, width = size_px
    noise = np.random.default_rng(seed).uniform(40, 215, (6, 7, 3))
    return np.clip(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def rgb(pixels) -> RgbImage:
    return RgbImage(pixels, 7, "optical")


def rectified(pixels, info) -> np.ndarray:
    return Rectifier()(rgb(pixels), calibration_of(info)).pixels


def levels_apart(one, other) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def by_formula(picture: np.ndarray, info) -> np.ndarray:
    """Each pixel of the rectified picture, from the lens's formula and bilinear interpolation in
    floating point; black outside. ``picture`` is float.
    """
    height, width = picture.shape[:2]
    k, p, r = (np.reshape(m, (3, -1)) for m in (info.k, info.p, info.r))
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack(
        [(columns - p[0, 2]) / p[0, 0], (rows - p[1, 2]) / p[1, 1], np.ones((height, width))]
    )
    x, y, z = np.einsum("ij,jhw->ihw", r.T, rays)
    x, y = x / z, y / z
    d = np.zeros(8)
    d[: len(info.d)] = info.d
    radius2 = x * x + y * y
    if info.distortion_model == "equidistant":
        radius = np.sqrt(radius2)
        angle = np.arctan(radius)
        bent = angle * (1 + sum(d[i] * angle ** (2 * i + 2) for i in range(4)))
        factor = np.where(radius > 0, bent / np.maximum(radius, 1e-12), 1.0)
        u, v = x * factor, y * factor
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = d
        factor = (1 + radius2 * (k1 + radius2 * (k2 + radius2 * k3))) / (
            1 + radius2 * (k4 + radius2 * (k5 + radius2 * k6))
        )
        u = x * factor + 2 * p1 * x * y + p2 * (radius2 + 2 * x * x)
        v = y * factor + p1 * (radius2 + 2 * y * y) + 2 * p2 * x * y
    u, v = k[0, 0] * u + k[0, 2], k[1, 1] * v + k[1, 2]
    framed = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    left, top = np.floor(u), np.floor(v)
    result = np.zeros_like(picture)
    for step_y in (0, 1):
        for step_x in (0, 1):
            weight = (1 - np.abs(u - left - step_x)) * (1 - np.abs(v - top - step_y))
            column = np.clip(left + step_x + 1, 0, width + 1).astype(int)
            row = np.clip(top + step_y + 1, 0, height + 1).astype(int)
            result += weight[..., None] * framed[row, column]
    return result


@pytest.mark.parametrize("turned", [False, True], ids=["single", "of a stereo pair"])
@pytest.mark.parametrize("model", DISTORTIONS)
def test_it_is_the_formula_of_the_lens_to_one_level(model, turned):
    info = camera_info(model, SIZE_PX)
    if turned:
        info.r = TURN
        info.p[[0, 5]] *= 0.9
        info.p[[2, 6]] += (3.0, -2.0)
        info.p[3] = -25.0  # the stereo baseline moves no pixel
    picture = smooth()
    wanted = by_formula(picture, info)
    found = rectified(np.round(picture).astype(np.uint8), info)
    # Where it borders on the black outside, 1/32 px is up to 7 levels.
    inside = by_formula(np.full_like(picture, 255), info).min(axis=2) > 254.99
    assert inside.mean() > 0.5
    assert np.abs(found[inside] - wanted[inside]).max() < 2.0
    assert np.abs(found[inside] - wanted[inside]).mean() < 0.4
    assert np.abs(found - wanted).max() < 12.0
    assert np.abs(found[inside] - picture[inside]).max() > 15.0, "the lens bends the picture"


def test_a_single_camera_is_cv2_undistort_to_one_level():
    pixels = np.round(smooth(seed=1)).astype(np.uint8)
    for model in ("plumb_bob", "rational_polynomial"):
        info = camera_info(model, SIZE_PX)
        theirs = cv2.undistort(pixels, info.k.reshape(3, 3), info.d)
        assert levels_apart(rectified(pixels, info), theirs) <= 1
    info = camera_info("equidistant", SIZE_PX)
    camera = info.k.reshape(3, 3)
    theirs = cv2.fisheye.undistortImage(pixels, camera, info.d, Knew=camera)
    assert levels_apart(rectified(pixels, info), theirs) <= 1


@pytest.mark.parametrize("model", DISTORTIONS)
@pytest.mark.parametrize(
    "binning, window",
    [((1, 1), None), ((2, 2), None), ((1, 1), (24, 16, 64, 80)), ((2, 2), (24, 16, 64, 80))],
)
def test_binning_and_roi_are_those_of_image_pipeline(model, binning, window):
    """Its PinholeCameraModel makes the map of the whole binned sensor, cuts it, and moves it by the
    roi's offset. Written down here from that description, with OpenCV's functions.
    """
    full_px = (144, 192)
    info = camera_info(model, full_px, binning_x=binning[0], binning_y=binning[1], r=TURN)
    x, y, height, width = window or (0, 0, *full_px)
    info.roi = region(x, y, height, width) if window else region()
    camera, projection = info.k.reshape(3, 3).copy(), info.p.reshape(3, 4).copy()
    for matrix in (camera, projection):
        matrix[0] /= binning[0]
        matrix[1] /= binning[1]
    make = cv2.fisheye if model == "equidistant" else cv2
    size = (full_px[1] // binning[0], full_px[0] // binning[1])
    places, fractions = make.initUndistortRectifyMap(
        camera, info.d, TURN.reshape(3, 3), projection[:, :3].copy(), size, cv2.CV_16SC2
    )
    left, top = x // binning[0], y // binning[1]
    cut = (slice(top, top + height // binning[1]), slice(left, left + width // binning[0]))
    places = places[cut] - np.array([left, top], np.int16)
    pixels = np.round(smooth(places.shape[:2], 2)).astype(np.uint8)
    theirs = cv2.remap(pixels, places, fractions[cut], cv2.INTER_LINEAR)
    assert levels_apart(rectified(pixels, info), theirs) <= 1


def test_the_image_keeps_its_size_stamp_and_frame_and_its_channels():
    pixels = np.round(smooth()).astype(np.uint8)
    pixels[..., 2] = 0
    info = camera_info(size_px=SIZE_PX)
    made = Rectifier()(rgb(pixels), calibration_of(info))
    assert (made.size, made.stamp_ns, made.frame_id) == (SIZE_PX, 7, "optical")
    assert not made.pixels[..., 2].any() and made.pixels[..., 0].any()
    of_bgr = rectified(np.ascontiguousarray(pixels[..., ::-1])[..., ::-1], info)
    np.testing.assert_array_equal(of_bgr, made.pixels)
    padded = np.concatenate([pixels, pixels], axis=1)[:, : SIZE_PX[1]]
    padded.flags.writeable = False
    np.testing.assert_array_equal(rectified(padded, info), made.pixels)


def test_without_distortion_the_image_is_untouched_unless_r_or_p_say_otherwise():
    pixels = np.round(smooth()).astype(np.uint8)
    for zeros in ((), (0.0,) * 5):
        image = rgb(pixels)
        info = camera_info(size_px=SIZE_PX, d=np.array(zeros))
        assert Rectifier()(image, calibration_of(info)) is image
        info.p[[0, 5]] *= 2.0
        wanted = by_formula(pixels.astype(float), info)
        assert np.abs(rectified(pixels, info) - wanted)[5:-5, 5:-5].max() < 2.0
    # An equidistant lens without coefficients still bends.
    info = camera_info("equidistant", SIZE_PX, d=np.zeros(4))
    assert levels_apart(rectified(pixels, info), pixels) > 15


def test_maps_are_made_once_a_calibration(monkeypatch):
    made = []
    real = rectify._made
    monkeypatch.setattr(rectify, "_made", lambda c: made.append(c) or real(c))
    rectifier, image = Rectifier(), rgb(np.round(smooth()).astype(np.uint8))
    first, second = camera_info(size_px=SIZE_PX), camera_info("equidistant", SIZE_PX)
    for info in (first, first, camera_info(size_px=SIZE_PX, stamp_ns=99), second, second, first):
        rectifier(image, calibration_of(info))
    assert made == [calibration_of(info) for info in (first, second, first)]


@pytest.mark.parametrize(
    "model, changes",
    [
        # Coordinates that 16 bits do not hold, and NaN, would come from other places.
        ("plumb_bob", {"d": np.array([1e8, 0, 0, 0, 0])}),
        ("plumb_bob", {"d": np.array([1e300, -1e300, 0, 0, 1e300])}),
        ("rational_polynomial", {"d": np.array([0, 0, 0, 0, 0, -9.0, 0, 0])}),
        ("equidistant", {"r": rotation(1.2, 0, 0)}),
    ],
)
def test_what_the_formula_puts_nowhere_is_black(model, changes):
    white = np.full((*SIZE_PX, 3), 255, np.uint8)
    info = camera_info(model, SIZE_PX, **changes)
    with np.errstate(all="ignore"):
        wanted = by_formula(white.astype(float), info)
    try:
        found = rectified(white, info)
    except BadInput as error:
        assert error.reason == "camera_info" and not np.nan_to_num(wanted).any()
        return
    sure = np.isfinite(wanted) & ((wanted == 0) | (wanted == 255))
    assert sure.mean() > 0.5
    assert np.abs(found.astype(int) - np.nan_to_num(wanted))[sure].max() <= 255 / 16


HOSTILE = {
    "no model": ({"distortion_model": ""}, "distortion_model of the CameraInfo is ''"),
    "another model": ({"distortion_model": "thin_prism"}, "'thin_prism'; accepted: one of plumb_"),
    "a model of megabytes": ({"distortion_model": "x" * 5_000_000}, "5000000 characters"),
    "too few": ({"d": np.zeros(3)}, "d of the CameraInfo is 3 numbers; accepted: 0 or 4 or 5"),
    "a million": ({"d": np.zeros(1_000_000)}, "1000000 numbers"),
    "NaN in D": ({"d": np.array([0, 0, 0, 0, math.nan])}, "nan.*; accepted: finite numbers"),
    "infinite K": ({"k": np.full(9, math.inf)}, "k of the CameraInfo is .*inf"),
    "not calibrated": ({"k": np.zeros(9)}, "k of the CameraInfo is .*; accepted: .*above 0 px"),
    "negative focal length": ({"k": np.diag([-50.0, 50, 1]).ravel()}, "k of the CameraInfo"),
    "skew": ({"k": np.array([50.0, 1, 20, 0, 50, 20, 0, 0, 1])}, "k of the CameraInfo"),
    "no P": ({"p": np.zeros(12)}, "p of the CameraInfo is .*; accepted"),
    "NaN in P": ({"p": np.full(12, math.nan)}, "p of the CameraInfo.*finite"),
    "no R": ({"r": np.zeros(9)}, "r of the CameraInfo is .*; accepted: a rotation matrix"),
    "a mirror": ({"r": np.diag([1.0, 1, -1]).ravel()}, "a rotation matrix"),
    "no size": ({"height": 0, "width": 0}, "height and width of the CameraInfo is 0 x 0 px"),
    "a huge size": ({"height": 2**32 - 1, "width": 2**32 - 1}, "accepted: 1 to 65535 px"),
    "a huge binning": ({"binning_x": 2**32 - 1}, "binning_x and binning_y .*; accepted: 0 to 64"),
    "more binning than pixels": (
        {"height": 8, "width": 8, "binning_x": 9},
        "binning_x and binning_y",
    ),
    "a roi outside": ({"roi": region(60, 0, 48, 64)}, "roi of the CameraInfo is x_offset 60"),
    "half a roi": ({"roi": region(0, 0, 10, 0)}, "roi of the CameraInfo"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_camera_info_is_refused_by_the_name_of_its_field(case):
    changes, said = HOSTILE[case]
    with pytest.raises(BadInput, match=said) as refused:
        calibration_of(camera_info(**changes))
    assert refused.value.reason == "camera_info" and len(str(refused.value)) < 600


def test_a_camera_info_of_another_size_is_refused():
    with pytest.raises(BadInput, match=r"the image is 48 x 60 px, and the CameraInfo is for 48 x"):
        rectified(np.zeros((48, 60, 3), np.uint8), camera_info())


def test_a_calibration_that_leaves_nothing_is_refused_each_time_and_makes_no_maps_again():
    info = camera_info()
    info.p[2] = 1e7
    rectifier, image = Rectifier(), rgb(np.zeros((48, 64, 3), np.uint8))
    for _ in range(2):
        with pytest.raises(BadInput, match="leave no pixel") as refused:
            rectifier(image, calibration_of(info))
    assert refused.value.reason == "camera_info"


def test_an_image_that_is_too_large_is_refused_before_its_maps(monkeypatch):
    monkeypatch.setattr(rectify, "MAX_RECTIFIED_PX", 48 * 64 - 1)
    with pytest.raises(BadInput, match="48 x 64 px is not rectified") as refused:
        rectified(np.zeros((48, 64, 3), np.uint8), camera_info())
    assert refused.value.reason == "size"


def test_the_stamp_of_a_latched_one_may_be_zero_and_no_stamp_is_below():
    assert info_stamp_ns(camera_info(stamp_ns=0)) == 0
    assert info_stamp_ns(camera_info(stamp_ns=1_500_000_000)) == 1_500_000_000
    broken = camera_info()
    for sec, nanosec in ((-1, 0), (1, 1_000_000_000)):
        broken.header.stamp.sec, broken.header.stamp.nanosec = sec, nanosec
        with pytest.raises(BadInput, match="header.stamp of the CameraInfo"):
            info_stamp_ns(broken)
