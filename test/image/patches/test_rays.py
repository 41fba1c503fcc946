"""Pixels and rays of patches, against numbers computed by hand."""

import math

import numpy as np
import pytest

from test.image.camera_infos import DISTORTIONS, camera_info, rotation
from vit_perception.files.errors import InvalidValue
from vit_perception.image.camera_info import calibration_of
from vit_perception.image.patch_geometry import PatchGeometry, ResizeRule, plan_resize
from vit_perception.image.patches.rays import PatchView, patch_rays, plucker
from vit_perception.wire.layout import Layout, LayoutCamera, LayoutGroup
from vit_perception.wire.records import BadInput, Roi

NAN = math.nan


def view_of(rule, size_px, roi=None, rectified=False) -> PatchView:
    """Of 2 × 2 patches of 2 px."""
    return PatchView.of_geometry(
        PatchGeometry(plan_resize(rule, size_px, roi), 2), (2, 2), rectified
    )


def pinhole(size_px, fx, fy, cx, cy, **fields):
    k = [fx, 0, cx, 0, fy, cy, 0, 0, 1.0]
    p = [fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]
    return calibration_of(camera_info(size_px=size_px, **({"d": [], "k": k, "p": p} | fields)))


STRETCHED = view_of(ResizeRule((4, 4)), (4, 8))


def test_a_pinholes_rays():
    """The image is 8 × 4 px: a patch is 4 px wide and 2 px high. The centre of the first one is the
    edge between pixels 1 and 2, which is 1.5 where the first pixel's centre is 0."""
    assert STRETCHED.centres_px.tolist() == [[1, 2], [1, 6], [3, 2], [3, 6]]
    rays = patch_rays(STRETCHED, pinhole((4, 8), fx=2, fy=1, cx=1.5, cy=0.5))
    expected = [[0, 0, 1], [2, 0, 1], [0, 2, 1], [2, 2, 1]]
    np.testing.assert_allclose(rays.forward, expected, atol=1e-12)
    lengths = [[1], [math.sqrt(5)], [math.sqrt(5)], [3]]
    np.testing.assert_allclose(rays.directions, np.divide(expected, lengths), atol=1e-12)
    points_m = rays.points_m(np.array([2.0, 0.5, NAN, 1.0]))
    np.testing.assert_allclose(points_m, [[0, 0, 2], [1, 0, 0.5], [NAN] * 3, [2, 2, 1]], atol=1e-12)


def test_a_crop_of_a_region():
    """Of the region's 8 × 4 px the crop keeps columns 2 to 5, which are 6 to 9 of the image."""
    view = view_of(ResizeRule((4, 4), fit="crop"), (10, 20), Roi(4, 2, 8, 4))
    assert view.centres_px.tolist() == [[3, 7], [3, 9], [5, 7], [5, 9]]
    rays = patch_rays(view, pinhole((10, 20), fx=2, fy=2, cx=6.5, cy=2.5))
    half, third = math.sqrt(0.5), math.sqrt(1 / 3)
    expected = [[0, 0, 1], [half, 0, half], [0, half, half], [third] * 3]
    np.testing.assert_allclose(rays.directions, expected, atol=1e-12)


def test_a_patch_in_the_padding_has_none():
    """4 × 1 px become 4 × 1 px, with a row of padding above and two below."""
    view = view_of(ResizeRule((4, 4), fit="pad"), (1, 4))
    assert np.isnan(view.centres_px[2:]).all()
    rays = patch_rays(view, pinhole((1, 4), fx=1, fy=1, cx=0.5, cy=0))
    assert np.isnan(rays.directions[2:]).all() and np.isnan(rays.forward[2:]).all()


def test_a_rectified_image_has_the_rays_of_p_and_another_those_of_k_turned_by_r():
    turned = rotation(0.0, 0.0, math.pi / 2)  # x becomes y
    info = {"k": [1.0, 0, 1.5, 0, 1, 0.5, 0, 0, 1], "r": turned}
    calibration = pinhole((4, 8), fx=2, fy=2, cx=5.5, cy=0.5, **info)
    raw = patch_rays(STRETCHED, calibration)
    np.testing.assert_allclose(raw.directions[1] * math.sqrt(17), [0, 4, 1], atol=1e-12)
    np.testing.assert_allclose(raw.points_m(np.full(4, 0.5))[1], [0, 2, 0.5], atol=1e-12)
    rectified = patch_rays(view_of(ResizeRule((4, 4)), (4, 8), rectified=True), calibration)
    np.testing.assert_allclose(rectified.forward[0], [-2, 0, 1], atol=1e-12)


def put_by_the_lens(x, y, model):
    """The formulas of the ROS documentation (plumb_bob is rational with zeros behind k3)."""
    d = DISTORTIONS[model]
    if model == "equidistant":
        r = math.hypot(x, y)
        theta = math.atan(r)
        k1, k2, k3, k4 = d
        scale = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8) / r
        return x * scale, y * scale
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0, 0, 0)[:8]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


@pytest.mark.parametrize("model", DISTORTIONS)
def test_the_lens_puts_a_ray_where_its_patch_is(model):
    info = camera_info(model)
    geometry = PatchGeometry(plan_resize(ResizeRule((48, 64)), (48, 64)), 8)
    view = PatchView.of_geometry(geometry, geometry.grid, rectified=False)
    rays = patch_rays(view, calibration_of(info))
    assert np.isfinite(rays.directions).all()
    fx, _, cx, _, fy, cy = info.k[:6]
    for (row, column), (x, y, _) in zip(view.centres_px, rays.forward):
        x, y = put_by_the_lens(x, y, model)
        np.testing.assert_allclose((fx * x + cx, fy * y + cy), (column - 0.5, row - 0.5), atol=1e-3)


def test_where_the_lenss_formula_comes_from_nowhere_there_is_no_ray():
    """With k1 -0.4 the formula reaches 0.61 focal lengths at most; corners are 1.1 away."""
    short = camera_info(d=[-0.4, 0, 0, 0], k=[32.0, 0, 31.5, 0, 32, 23.5, 0, 0, 1])
    geometry = PatchGeometry(plan_resize(ResizeRule((48, 64)), (48, 64)), 8)
    view = PatchView.of_geometry(geometry, geometry.grid, rectified=False)
    there = np.isfinite(patch_rays(view, calibration_of(short)).directions).all(axis=1)
    radius = np.hypot(*(view.centres_px - (24, 32)).T) / 32
    assert there[radius < 0.6].all() and not there[radius > 0.62].any()


def test_plucker_coordinates_of_a_turned_and_moved_camera():
    """Turned by a quarter about z, x becomes y; (1, 2, 3) × (0, 1, 0) is (-3, 0, 1)."""
    quarter = np.reshape(rotation(0, 0, math.pi / 2), (3, 3))
    directions = np.array([[1.0, 0, 0], [0, 0, 1]])
    found = plucker(directions, quarter, np.array([1.0, 2, 3]))
    np.testing.assert_allclose(found, [[0, 1, 0, -3, 0, 1], [0, 0, 1, 2, -1, 0]], atol=1e-12)
    along = plucker(directions[:1], quarter, np.array([1.0, 2 + 5, 3]))
    np.testing.assert_allclose(along, found[:1], atol=1e-12, err_msg="the same ray")


def test_a_calibration_of_another_size_is_refused():
    with pytest.raises(BadInput, match="4 x 8 px, and the CameraInfo is for 48 x 64 px"):
        patch_rays(STRETCHED, calibration_of(camera_info()))


def layout(**camera):
    fields = {
        "name": "wrist",
        "frame_id": "optical",
        "fit": "stretch",
        "network_size_px": (4, 4),
        "patch_size_px": 2,
    }
    return Layout(
        groups=(
            LayoutGroup("wrist/cls", "cls", "wrist", 0, 1),
            LayoutGroup("wrist/patch", "patch", "wrist", 1, 5, (2, 2)),
        ),
        cameras=(LayoutCamera(**fields | camera),),
        width=8,
        dtype="float32",
        model="m",
        weights_sha256="",
        encoder_sha256="",
        block=0,
        runtime="torch",
        precision="float32",
        min_cosine=1.0,
        fusion="concat",
    )


def test_the_view_of_a_layout():
    seen = {"source_size_px": (4, 8), "scale": (1.0, 0.5), "offset_px": (0.0, 0.0)}
    assert PatchView.of_layout(layout(**seen), "wrist") == STRETCHED
    with pytest.raises(InvalidValue, match="camera is 'far'; accepted: wrist"):
        PatchView.of_layout(layout(**seen), "far")
    with pytest.raises(InvalidValue, match="no geometry of camera 'wrist'.*first image"):
        PatchView.of_layout(layout(), "wrist")
    with pytest.raises(InvalidValue, match="no token group 'wrist/other/patch'"):
        PatchView.of_layout(layout(**seen), "wrist", "other")


@pytest.mark.parametrize("focal_px", [1e-300, 5e-324, 1e-7, 1e300])
@pytest.mark.parametrize("distortion", [[], [1e300] * 5, [-1e9, 0, 0, 0]])
@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
@pytest.mark.filterwarnings("error")
def test_absurd_numbers_give_unit_vectors_or_none(focal_px, distortion, model):
    """A CameraInfo may hold any finite numbers."""
    given = (distortion * 4)[:4] if model == "equidistant" else distortion
    given = given or ([0.0] * 4 if model == "equidistant" else [])
    calibration = pinhole((4, 8), focal_px, focal_px, 1.0, 1e300, d=given, distortion_model=model)
    rays = patch_rays(STRETCHED, calibration)
    lengths = np.linalg.norm(rays.directions, axis=1)
    there = np.isfinite(rays.forward).all(axis=1)
    np.testing.assert_allclose(lengths[there], 1.0)
    assert np.isnan(rays.directions[~there]).all()
