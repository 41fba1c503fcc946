"""What of a camera's image the network sees, from a parameter file without ROS."""

import pytest

from vit_perception.config.cameras.transports import info_topic_of
from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.config.settings import BadSetting

FILE = """
/arm/vit_encoder:
  ros__parameters:
    camera_names: [near, far]
    cameras:
      near: {topic: wrist/image_raw, roi: [208, 128, 224, 224], rectify: true}
      far:
        topic: /far/image_raw/compressed
        transport: compressed
        rectify: true
        camera_info_topic: calibration
        roi: ROI
"""


def read(tmp_path, roi):
    path = tmp_path / "p.yaml"
    path.write_text(FILE.replace("ROI", roi))
    return settings_of_parameters(path).cameras


@pytest.mark.parametrize("none", ["[]", "['']"])
def test_regions_and_topics_are_those_of_the_node(tmp_path, none):
    near, far = read(tmp_path, none)
    assert (near.roi, near.region, far.roi, far.region) == (
        (208, 128, 224, 224),
        (208, 128, 224, 224),
        (),
        None,
    )
    assert near.rectify and near.info_topic == "/arm/wrist/camera_info"
    assert far.info_topic == "/arm/calibration"


@pytest.mark.parametrize(
    "roi, accepted",
    [
        ("[0.0, 0.0, 32.0, 32.0]", "list of integers"),
        ("['0', '0', '32', '32']", "list of integers"),
        ("[true, true, true, true]", "list of integers"),
        ("7", "list of integers"),
        ("[0, 0, 32]", r"\[x, y, width, height\] in px"),
        ("[0, 0, 32, 0]", r"\[x, y, width, height\] in px"),
    ],
)
def test_what_is_no_region_is_refused(tmp_path, roi, accepted):
    with pytest.raises(BadSetting, match=rf"'cameras.far.roi' is .*; accepted: {accepted}"):
        read(tmp_path, roi)


@pytest.mark.parametrize(
    "topic, beside",
    [
        ("/wrist/image_raw", "/wrist/camera_info"),
        ("/wrist/image_raw/compressed", "/wrist/camera_info"),
        ("wrist/image", "wrist/camera_info"),
        ("/image", "/camera_info"),
        ("image", "camera_info"),
        ("/compressed", "/camera_info"),
    ],
)
def test_the_camera_info_is_beside_the_images(topic, beside):
    assert info_topic_of(topic) == beside
