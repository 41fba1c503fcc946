"""Recordings with video, written without ROS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from test.video_streams import Coded
from vit_perception.config.cameras.transports import TRANSPORTS
from vit_perception.recordings.definitions import typestore
from vit_perception.recordings.writer import BagWriter
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

LATE_NS = 4_000_000  # from the stamp to the time of recording


def stamp_of(stamp_ns: int) -> Any:
    seconds, nanosec = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return typestore().types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanosec)


def header_of(stamp_ns: int) -> Any:
    return typestore().types["std_msgs/msg/Header"](stamp=stamp_of(stamp_ns), frame_id="camera")


def recorded_packet(packet: Coded, transport: str = "ffmpeg", codec: str = "h264") -> bytes:
    """The packet as the bytes of its message."""
    name = TRANSPORTS[transport].type
    data = np.frombuffer(packet.data, np.uint8)
    if transport == "ffmpeg":
        message = typestore().types[name](
            header=header_of(packet.stamp_ns),
            width=0,
            height=0,
            encoding=codec,
            pts=packet.index,
            flags=int(packet.is_key),
            is_bigendian=False,
            data=data,
        )
    else:
        message = typestore().types[name](
            timestamp=stamp_of(packet.stamp_ns), frame_id="camera", data=data, format=codec
        )
    return bytes(typestore().serialize_cdr(message, name))


def recorded_picture(pixels: np.ndarray, stamp_ns: int) -> bytes:
    """An Image message with RGB pixels, as bytes."""
    message = typestore().types["sensor_msgs/msg/Image"](
        header=header_of(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * pixels.shape[1],
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
    return bytes(typestore().serialize_cdr(message, "sensor_msgs/msg/Image"))


def video_bag(
    path: Path,
    packets: Sequence[Coded],
    topic: str = "/wrist/image_raw/ffmpeg",
    transport: str = "ffmpeg",
    codec: str = "h264",
    more: Sequence[tuple[str, str, bytes, int]] = (),
) -> Path:
    """A bag with a video, and with ``more``: topic, type, bytes and time of each message."""
    with BagWriter(path) as out:
        for name, kind, data, recorded_ns in more:
            out.write(name, kind, data, recorded_ns)
        recorded_ns = 0
        for packet in packets:
            data = recorded_packet(packet, transport, codec)
            # In the order in which they are sent, also where pictures are re-ordered.
            recorded_ns = max(recorded_ns + 1, packet.stamp_ns + LATE_NS)
            out.write(topic, TRANSPORTS[transport].type, data, recorded_ns)
    return path
