"""The transports of cameras: what is accepted, and what to do about others."""

import pytest

from vit_perception.config.cameras.transports import (
    NAMES,
    TRANSPORTS,
    instead_of,
    without_transport,
)
from vit_perception.config.settings import BadSetting, CameraSettings


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_transport_names_its_type_and_its_debian_package(transport):
    camera = CameraSettings("wrist", f"/wrist/image_raw/{transport}", transport)
    assert NAMES[camera.message_type] == transport
    package = TRANSPORTS[transport].debian_package
    assert package.startswith("ros-$ROS_DISTRO-") and "_" not in package.split("DISTRO")[2:]
    assert camera.info_topic in ("/wrist/camera_info", "/wrist/image_raw/camera_info")


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("theora", "theora: republish it as raw or compressed: ros2 run image_transport republish"),
        ("zstd", "zstd: republish it"),
        ("h264", "h264: ffmpeg for a topic of ffmpeg_image_transport_msgs/msg/FFMPEGPacket"),
        ("compressedDepth", "it holds depth and no colours; cameras.<name>.depth_topic"),
        ("draco", "it holds point clouds"),
        ("Raw", ""),
        ("", ""),
    ],
)
def test_other_transports_are_refused_by_name_with_what_to_do(transport, words):
    with pytest.raises(BadSetting) as refused:
        CameraSettings("wrist", "/wrist/image_raw", transport)
    said = str(refused.value)
    assert said.startswith(f"parameter 'cameras.wrist.transport' is {transport!r}; accepted: one ")
    assert "one of raw, compressed, ffmpeg, foxglove" in said and words in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("sensor_msgs/msg/Image", "set cameras.wrist.transport: raw"),
        ("foxglove_msgs/msg/CompressedVideo", "set cameras.wrist.transport: foxglove"),
        ("theora_image_transport/msg/Packet", "republish it"),
        ("point_cloud_interfaces/msg/CompressedPointCloud2", "it holds point clouds"),
        ("std_msgs/msg/String", ""),
    ],
)
def test_what_to_do_about_messages_of_another_type(kind, words):
    said = instead_of("wrist", kind)
    assert said.startswith(words) and bool(said) == bool(words)


@pytest.mark.parametrize(
    ("topic", "base"),
    [
        ("/wrist/image_raw/ffmpeg", "/wrist/image_raw"),
        ("/wrist/image_raw/foxglove", "/wrist/image_raw"),
        ("/wrist/image_raw/compressed", "/wrist/image_raw"),
        ("/wrist/raw", "/wrist/raw"),
        ("/ffmpeg", "/ffmpeg"),
        ("ffmpeg", "ffmpeg"),
    ],
)
def test_the_topic_of_the_raw_images(topic, base):
    assert without_transport(topic) == base
