"""Images of a bag as the network sees them, for the calibration of int8 and for `fit`: those that
the flow itself gives to the encoder.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from test.image.camera_infos import camera_info
from test.plain_messages import image_message
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.datasets.output_messages import cdr_of
from vit_perception.image.calibration import calibration_images
from vit_perception.image.camera_info import INFO_TYPE, calibration_of
from vit_perception.image.decode import decode_image
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.image.rectify import Rectifier
from vit_perception.recordings.reader import BagError, BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.streams.recorded_views import recorded_views
from vit_perception.training.pictures import decode, read_bag
from vit_perception.wire.records import Roi
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.topics import IMAGE_TYPE, TEXT_TYPE

SECOND_NS = 1_000_000_000
ROI = (10, 6, 40, 30)
# The calibration that the last two images have.
INFOS = {1: camera_info(stamp_ns=SECOND_NS), 3: camera_info("equidistant", stamp_ns=3 * SECOND_NS)}
IMAGES = [image_message(k * SECOND_NS, k) for k in range(1, 5)]


def plain(value):
    """An object with fields as the dicts that the writer takes."""
    if isinstance(value, SimpleNamespace):
        return {name: plain(each) for name, each in vars(value).items()}
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "bag"
    with BagWriter(path) as written:
        text = cdr_of(TEXT_TYPE, {"data": "cup"})
        written.write("/label", TEXT_TYPE, text, SECOND_NS - 1)
        bad = plain(camera_info(stamp_ns=2 * SECOND_NS, k=np.zeros(9)))
        written.write("/camera_info", INFO_TYPE, cdr_of(INFO_TYPE, bad), SECOND_NS - 1)
        for info in INFOS.values():
            fields = plain(info)
            stamp_ns = fields["header"]["stamp"]["sec"] * SECOND_NS
            written.write("/camera_info", INFO_TYPE, cdr_of(INFO_TYPE, fields), stamp_ns)
        for image in IMAGES:
            header = header_fields(image.header.stamp.sec * SECOND_NS, "optical")
            data = cdr_of(IMAGE_TYPE, plain(image) | {"header": header})
            written.write("/image", IMAGE_TYPE, data, image.header.stamp.sec * SECOND_NS)
    return path


def seen(image, roi=ROI, rectify=True) -> np.ndarray:
    """What the network sees, by the parts of the flow."""
    image = decode_image(image)
    if rectify:
        info = INFOS[1 if image.stamp_ns < 3 * SECOND_NS else 3]
        image = Rectifier()(image, calibration_of(info))
    x, y, width, height = roi or (0, 0, 64, 48)
    return image.pixels[y : y + height, x : x + width]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("roi", [ROI, ()])
def test_fit_learns_from_what_the_network_sees(bag, roi, rectify):
    camera = CameraSettings("bag", "/image", roi=roi, rectify=rectify)
    source = read_bag(bag, "/image", "/label", camera=camera)
    assert len(source.pictures) == len(IMAGES) and not source.left_out
    for picture, image in zip(source.pictures, IMAGES):
        np.testing.assert_array_equal(decode(picture.load()).pixels, seen(image, roi, rectify))


def test_int8_is_calibrated_with_what_the_network_sees_of_each_camera(bag):
    preprocess = Preprocessor(ResizeRule((32, 48)))
    cameras = (
        CameraSettings("near", "/image", roi=ROI, rectify=True),
        CameraSettings("far", "/image"),
        CameraSettings("elsewhere", "/other", rectify=True),
    )
    found = calibration_images(
        str(bag), preprocess, 8, views_of=lambda opened: recorded_views(cameras, opened)
    )
    expected = []
    for image in IMAGES:
        cut = preprocess(
            Rectifier()(decode_image(image), calibration_of(INFOS[1 + 2 * (len(expected) > 3)])),
            roi=Roi(*ROI),
        )
        expected += [cut.numpy(), preprocess(decode_image(image)).numpy()]
    np.testing.assert_array_equal(found, expected)
    plain_ones = calibration_images(str(bag), preprocess, 8)
    np.testing.assert_array_equal(plain_ones, expected[1::2])


def test_what_cannot_be_seen_is_left_out_and_a_missing_camera_info_is_named(bag):
    outside = CameraSettings("bag", "/image", roi=(60, 40, 10, 10))
    with pytest.raises(BadSetting, match=r"engine.calibration.*roi \[x, y, width, height\] is"):
        calibration_images(
            str(bag),
            Preprocessor(ResizeRule((32, 48))),
            views_of=lambda opened: recorded_views([outside], opened),
        )
    elsewhere = CameraSettings("bag", "/image", rectify=True, camera_info_topic="/none")
    with pytest.raises(BagError, match="/none"), BagReader(bag) as opened:
        recorded_views([elsewhere], opened)
    with BagReader(bag) as opened:
        assert recorded_views([CameraSettings("bag", "/image")], opened) == {}
