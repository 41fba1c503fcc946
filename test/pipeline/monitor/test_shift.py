"""The fit of a camera shift on tokens whose move is known."""

import numpy as np
import pytest

from test.pipeline.monitor.references import COLUMNS, ROWS, VIEW, background, camera_reference
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.pipeline.monitor.shift import ShiftFit

PATCH_SOURCE_PX = VIEW.patch_size_px / VIEW.scale[1]


@pytest.mark.parametrize(
    "x_px, y_px, rotation_deg",
    [(0, 0, 0), (4, 0, 0), (0, -4, 0), (-12, 9, 0), (62, -28, 0), (0, 0, 1), (0, 0, -5), (8, 6, 3)],
)
def test_a_known_move_is_found(x_px, y_px, rotation_deg):
    shift, agreement = ShiftFit(camera_reference())(background(x_px, y_px, rotation_deg))
    assert shift is not None and shift.agreement == agreement > 0.9
    # A tenth of a patch: what linear interpolation of these waves is wrong by.
    assert np.hypot(shift.x_px - x_px, shift.y_px - y_px) < 0.1 * PATCH_SOURCE_PX
    assert abs(shift.rotation_deg - rotation_deg) < 0.5


def test_what_stands_before_the_background_has_no_say():
    """A quarter of the patches shows something else: an arm, a hand, an object."""
    tokens = background(8, 0).reshape(ROWS, COLUMNS, -1)
    random = np.random.default_rng(0)
    tokens[2:6, 2:7] = random.normal(size=(4, 5, tokens.shape[2]))
    shift, _ = ShiftFit(camera_reference())(tokens.reshape(ROWS * COLUMNS, -1))
    assert shift is not None and abs(shift.x_px - 8) < 2 and abs(shift.y_px) < 2


def test_only_static_patches_count():
    static = np.zeros((ROWS, COLUMNS), bool)
    static[:, :6] = True
    tokens = background(4, 0).reshape(ROWS, COLUMNS, -1)
    tokens[:, 7:] = 5.0
    fit = ShiftFit(camera_reference(static=static.ravel()))
    shift, _ = fit(tokens.reshape(ROWS * COLUMNS, -1))
    assert shift is not None and abs(shift.x_px - 4) < 2


def test_a_background_that_is_gone_gives_no_shift():
    random = np.random.default_rng(1)
    tokens = random.normal(size=background().shape).astype(np.float32)
    shift, agreement = ShiftFit(camera_reference())(tokens)
    assert shift is None and agreement < 0.33


def test_the_rotation_is_multiplied_with_its_gain():
    once, _ = ShiftFit(camera_reference())(background(rotation_deg=1))
    twice, _ = ShiftFit(camera_reference(rotation_gain=2.0))(background(rotation_deg=1))
    assert once and twice and twice.rotation_deg == pytest.approx(2 * once.rotation_deg)
    # Not where the centre has moved as well.
    moved = background(x_px=12, rotation_deg=1)
    once, _ = ShiftFit(camera_reference())(moved)
    twice, _ = ShiftFit(camera_reference(rotation_gain=2.0))(moved)
    assert once == twice


def test_a_camera_without_background_says_so():
    reference = camera_reference(static=np.arange(ROWS * COLUMNS) < 7)
    tokens = np.ones((ROWS * COLUMNS, 8), np.float32)
    change = CameraMonitor(reference)(tokens)
    assert change.shift is None
    assert change.why_no_shift == "only 9 % of its patches are static background"
