"""Pictures that are moved by known amounts, and the gain of rotations that follows from them."""

from dataclasses import replace

import numpy as np
import pytest

from test.conftest import DEMO_BAG
from test.datasets.embed_runs import CAMERAS, settings_of
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.datasets.reference.learn import learn_reference
from vit_perception.datasets.reference.turned import (
    MOST_GAIN,
    PICTURES,
    gain_of,
    moved,
    pictures_of,
    with_rotation_gain,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.records import RgbImage


def image_of(height, width, *spots):
    pixels = np.zeros((height, width, 3), np.uint8)
    for row, column in spots:
        pixels[row, column] = 255
    return RgbImage(pixels, 7, "optical")


def brightest(image):
    return divmod(int(image.pixels[..., 0].argmax()), image.pixels.shape[1])


def test_a_picture_is_moved_to_the_right_and_down_and_turned_clockwise():
    image = image_of(21, 31, (10, 20))
    assert brightest(moved(image, x_px=3, y_px=-2)) == (8, 23)
    # From the right of the centre (10, 15) to below it.
    turned = moved(image, rotation_deg=90)
    assert brightest(turned) == (15, 15) and (turned.stamp_ns, turned.frame_id) == (7, "optical")
    assert moved(image).pixels.tolist() == image.pixels.tolist()


def test_the_gain_is_the_median_of_the_ratios_within_bounds():
    assert gain_of([(2.0, 1.0), (-4.0, -2.0), (4.0, 3.0)]) == pytest.approx(2.0)
    assert gain_of([]) == gain_of([(2.0, -1.0)]) == 1.0
    assert gain_of([(4.0, 0.1)]) == MOST_GAIN


def test_the_gain_of_a_real_encoder_is_measured(folders, tiny_checkpoint):
    reference = learn_reference(FeatureFiles(folders / "parquet")).reference
    pipeline = Pipeline.open(settings_of(tiny_checkpoint, arms=()))
    try:
        pictures = pictures_of(pipeline, DEMO_BAG, "wrist")
        assert len(pictures) == PICTURES and pictures[0].size == (240, 320)
        assert len({image.stamp_ns for image in pictures}) == PICTURES
        measured = with_rotation_gain(reference.cameras, pipeline, DEMO_BAG)
    finally:
        pipeline.close()
    assert set(measured) == {"agentview", "wrist"}
    for name, camera in measured.items():
        assert 0.5 <= camera.rotation_gain <= MOST_GAIN
        np.testing.assert_array_equal(camera.background, reference.cameras[name].background)


def test_a_rectified_camera_is_refused(tiny_checkpoint):
    cameras = (replace(CAMERAS[0], rectify=True), CAMERAS[1])
    pipeline = Pipeline.open(settings_of(tiny_checkpoint, cameras=cameras, arms=()))
    try:
        with pytest.raises(InvalidValue, match="camera agentview is rectified; accepted"):
            pictures_of(pipeline, DEMO_BAG, "agentview")
    finally:
        pipeline.close()
