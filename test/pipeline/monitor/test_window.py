"""What the last seconds say, by hand: medians, limits, and when nothing can be said."""

import pytest

from test.pipeline.monitor.references import camera_reference
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.pipeline.monitor.window import ChangeWindow
from vit_perception.wire.monitored import CameraChange, CameraShift

SETTINGS = MonitorSettings(window_s=2.0, shift_warn_px=2.0, shift_error_px=8.0)
SECOND_NS = 1_000_000_000


def change(score=0.5, x_px=0.0, y_px=0.0, rotation_deg=0.0):
    return CameraChange(0.5, score, CameraShift(x_px, y_px, rotation_deg, 0.9))


def window_of(changes, period_s=0.5, **reference):
    window = ChangeWindow(camera_reference(**reference))
    for k, each in enumerate(changes):
        window.add(SECOND_NS + round(k * period_s * SECOND_NS), each, SETTINGS.window_s)
    return window


def test_the_median_decides_and_one_odd_image_does_not():
    found = window_of([change(), change(99, 90), change(), change(0.7)]).finding(SETTINGS)
    assert (found.level, found.says) == ("ok", "as in training")
    assert (found.score, found.x_px, found.found) == (pytest.approx(0.6), 0.0, 1.0)
    assert found.alarm == pytest.approx(0.3)


@pytest.mark.parametrize(
    "seen, level, says",
    [
        (change(2.0), "warn", "novel: 2.00, the limit of normal frames is 1"),
        (change(5.0), "error", "novel: 5.00, the limit of normal frames is 1"),
        # The noise of this reference is 5 px and 0.5 degrees, and 1.5 times that is the limit.
        (change(x_px=4, y_px=-6), "ok", "as in training"),
        (change(x_px=4.5, y_px=-6), "warn", "the camera has moved: +4.5 -6.0 px, +0.0 degrees"),
        (change(x_px=8), "error", "the camera has moved: +8.0 +0.0 px, +0.0 degrees"),
        (change(rotation_deg=-1.0), "warn", "the camera has moved: +0.0 +0.0 px, -1.0 degrees"),
        (change(rotation_deg=3.0), "error", "the camera has moved: +0.0 +0.0 px, +3.0 degrees"),
        (
            change(3.0, x_px=7.5),
            "warn",
            "the camera has moved: +7.5 +0.0 px, +0.0 degrees; novel: 3.00, the limit of normal "
            "frames is 1",
        ),
    ],
)
def test_limits(seen, level, says):
    found = window_of([seen] * 4).finding(SETTINGS)
    assert (found.level, found.says) == (level, says)
    assert (found.alarm >= 1) == (level != "ok")


def test_old_images_leave_and_a_step_back_begins_anew():
    window = window_of([change(9.0)] * 4 + [change(0.5)] * 5)
    assert window.finding(SETTINGS).score == 0.5
    window.add(5, change(9.0), SETTINGS.window_s)
    assert window.finding(SETTINGS).says == "1 images in 0.0 s are too few to judge"


def test_few_images_say_nothing_and_a_slow_camera_is_judged_by_three():
    assert window_of([]).finding(SETTINGS).says == "no image yet that the reference knows"
    few = window_of([change(9.0)] * 9, period_s=0.1).finding(SETTINGS)
    assert (few.level, few.says) == ("ok", "9 images in 0.8 s are too few to judge")
    assert window_of([change(9.0)] * 9, period_s=30).finding(SETTINGS).level == "error"


def test_a_background_that_is_mostly_not_found_has_no_shift():
    seen = [change(x_px=50), *[CameraChange(1.0, 3.0, None, "gone")] * 3]
    found = window_of(seen).finding(SETTINGS)
    assert (found.level, found.found) == ("warn", 0.25) and found.x_px != found.x_px
