"""The monitor's bench: its own measures by hand, and what it does to pictures."""

import numpy as np
import pytest

from benchmarks.monitor_bench import EVERY, PERIOD_NS, auroc, variant_row, windows
from benchmarks.monitor_changes import CHANGES, MOVES, changed
from test.pipeline.monitor.references import camera_reference
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.wire.monitored import CameraChange, CameraShift
from vit_perception.wire.records import RgbImage


def test_auroc_by_hand():
    assert auroc([1, 2], [3, 4]) == 1.0
    assert auroc([1, 3], [2, 4]) == 0.75
    assert auroc([1, 1], [1, 1]) == 0.5


def test_errors_of_a_move_and_alarms_by_hand():
    monitor = CameraMonitor(camera_reference())  # its noise is 5 px
    found = [CameraChange(1.0, 3.0, CameraShift(7.0, 4.0, 0.5, 0.9)) for _ in range(5)]
    found[2] = CameraChange(1.0, 3.0, CameraShift(8.0, 6.0, 0.0, 0.9))
    row = variant_row("shift 8 0 px", found, [0.5, 0.9, 2.0], monitor)
    assert (row["error_px_median"], row["error_px_worst"]) == (4.12, 6.0)
    assert (row["rotation_error_deg_median"], row["rotation_error_deg_worst"]) == (0.5, 0.5)
    # Medians: a score of 3 is 1.5 times its limit; 8.06 px is 1.07 times 1.5 times the noise.
    assert (row["windows"], row["alarms"]) == (3, 1.0)
    assert row["auroc"] == pytest.approx(2 / 3, abs=1e-3)
    alarms = [each.alarm for each in windows(monitor, found, EVERY * PERIOD_NS)]
    assert alarms == pytest.approx([1.5] * 3)


@pytest.mark.parametrize("variant", [*MOVES, *CHANGES])
def test_every_change_changes_the_picture_and_nothing_else(variant):
    random = np.random.default_rng(0)
    image = RgbImage(random.integers(0, 256, (240, 320, 3), np.uint8), 5, "optical")
    before = image.pixels.copy()
    made = changed(image, variant, 3)
    assert made.pixels.shape == image.pixels.shape and made.pixels.dtype == np.uint8
    assert (made.pixels != before).any() and (image.pixels == before).all()
    assert (made.stamp_ns, made.frame_id) == (5, "optical")
