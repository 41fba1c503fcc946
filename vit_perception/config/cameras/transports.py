"""The transports of a camera's images, by the names that image_transport gives them: one table.

Parameters, subscriptions, `embed`, `doctor` and the errors about other types are made of it.
"""

from typing import NamedTuple

from vit_perception.config.checks import BadSetting

_REPUBLISH = "republish it as raw or compressed: ros2 run image_transport republish"


class Transport(NamedTuple):
    """One row of TRANSPORTS."""

    # The message type, such as sensor_msgs/msg/Image.
    type: str
    # Whether a message is a packet of a video, which the packets before it decide on.
    is_video: bool = False

    @property
    def debian_package(self) -> str:
        """The package of a ROS installation that has the messages."""
        return f"ros-$ROS_DISTRO-{self.type.split('/')[0].replace('_', '-')}"


TRANSPORTS = {
    "raw": Transport("sensor_msgs/msg/Image"),
    "compressed": Transport("sensor_msgs/msg/CompressedImage"),
    "ffmpeg": Transport("ffmpeg_image_transport_msgs/msg/FFMPEGPacket", is_video=True),
    "foxglove": Transport("foxglove_msgs/msg/CompressedVideo", is_video=True),
}
# Of each message type.
NAMES = {row.type: name for name, row in TRANSPORTS.items()}
VIDEO_TYPES = tuple(row.type for row in TRANSPORTS.values() if row.is_video)
# Known names that the node does not take, and what to do.
_OTHERS = {
    "theora": _REPUBLISH,
    "zstd": _REPUBLISH,
    "h264": f"ffmpeg for a topic of {TRANSPORTS['ffmpeg'].type}; others: {_REPUBLISH}",
    "compressedDepth": "it holds depth and no colours; cameras.<name>.depth_topic takes raw depth",
    "draco": "it holds point clouds and no images",
}
# Message types of transports that the node does not take.
_OTHER_TYPES = {
    "theora_image_transport/msg/Packet": "theora",
    "h264_msgs/msg/Packet": "h264",
    "point_cloud_interfaces/msg/CompressedPointCloud2": "draco",
}


def check_transport(parameter: str, transport: str) -> None:
    """Check the value of a camera's ``transport``.

    Raises:
        BadSetting: It is none of TRANSPORTS; of a known one, with what to do instead.
    """
    if transport in TRANSPORTS:
        return
    accepted = "one of " + ", ".join(TRANSPORTS)
    if transport in _OTHERS:
        accepted += f"; {transport}: {_OTHERS[transport]}"
    raise BadSetting(parameter, transport, accepted)


def instead_of(camera: str, kind: str) -> str:
    """Return what to do about images of ``camera`` that come as messages of the type ``kind``; ""
    if nothing is known of that type.
    """
    if kind in NAMES:
        return f"set cameras.{camera}.transport: {NAMES[kind]}"
    return _OTHERS.get(_OTHER_TYPES.get(kind, ""), "")


def without_transport(topic: str) -> str:
    """Return the topic of the raw images, as image_transport names it: /cam/image_raw of
    /cam/image_raw/ffmpeg.
    """
    above, _, last = topic.rpartition("/")
    return above if above and last in TRANSPORTS and last != "raw" else topic


def info_topic_of(image_topic: str) -> str:
    """Return the topic of the CameraInfo beside ``image_topic``, as image_transport names it."""
    folder, slash, _ = without_transport(image_topic).rpartition("/")
    return f"{folder}{slash}camera_info"
