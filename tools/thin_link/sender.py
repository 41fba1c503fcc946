"""Sends frames at a camera's rate: what stands at the robot's side.

    python -m tools.thin_link.sender FORM RECORDED RATE_HZ SECONDS RELIABILITY [BASIS]

FORM is `images`, and RECORDED a bag with compressed images; or FORM is the form of tokens, and
RECORDED a folder of `vit-perception embed` with tokens in float32, which are encoded as the node
encodes them. Layout and basis are latched. It waits until each topic has a subscriber. The stamp of
a frame is the time when it is sent. A frame whose time has passed is skipped, as the node does. It
prints a JSON object: whether the other side was found, how long it took until it had layout and
basis, frames sent, skipped and refused by DDS, kB of a frame, and the median and largest time of a
frame's `publish` in ms.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from tools.thin_link.forms import IMAGES, TokenForm, recorded_images, recorded_tokens
from vit_perception.ros.messages import class_of, header_of, message_of
from vit_perception.ros.qos import LATCHED_QOS, tensor_qos

RCLError = rclpy_implementation.RCLError
MOST_FRAMES = 60  # of the recording, which then begin again
MATCH_S = 20.0
LATCHED_S = 20.0  # the longest wait until the other side has layout and basis
SETTLE_S = 0.5

Messages = dict[str, Any]  # by topic


def messages_of(form: str, recorded: Path, basis: Path | None) -> tuple[Messages, list[Messages]]:
    """Return the latched messages, and those of each frame."""
    if form == IMAGES:
        return {}, [
            {topic: _compressed(message) for topic, message in frame.items()}
            for frame in recorded_images(recorded, MOST_FRAMES)
        ]
    layout, tokens = recorded_tokens(recorded, MOST_FRAMES)
    latched, *frames = (
        {topic: message_of(kind, fields) for topic, (kind, fields) in each.items()}
        for each in TokenForm.of(form, layout, basis).messages(iter(tokens))
    )
    return latched, frames


def _compressed(recorded: Any) -> Any:
    message = class_of("sensor_msgs/msg/CompressedImage")()
    message.format = recorded.format
    message.data.frombytes(bytes(recorded.data))
    return message


def paced(send: Callable[[int], None], rate_hz: float, seconds: float) -> dict[str, float]:
    """Call ``send`` with the number of each frame that is due, and return what is printed of it.

    DDS refuses a frame of a reliable topic if the ones before it do not leave in time.
    """
    took_ms: list[float] = []
    skipped = refused = 0
    begin_s = time.monotonic()
    for k in range(round(rate_hz * seconds)):
        wait_s = begin_s + k / rate_hz - time.monotonic()
        if wait_s < -1.0 / rate_hz:
            skipped += 1
            continue
        time.sleep(max(0.0, wait_s))
        started_s = time.monotonic()
        try:
            send(k)
        except RCLError:
            refused += 1
        took_ms.append(1e3 * (time.monotonic() - started_s))
    return {
        "sent": len(took_ms),
        "skipped": skipped,
        "refused": refused,
        "publish_median_ms": round(statistics.median(took_ms), 1),
        "publish_most_ms": round(max(took_ms), 1),
    }


def main(
    form: str, recorded: Path, rate_hz: float, seconds: float, qos: QoSProfile, basis: Path | None
) -> None:
    rclpy.init(args=[])
    node = Node("thin_link_sender", enable_rosout=False)
    latched, frames = messages_of(form, recorded, basis)
    publishers = {
        topic: node.create_publisher(type(message), topic, LATCHED_QOS if topic in latched else qos)
        for topic, message in {**latched, **frames[0]}.items()
    }
    for topic, message in latched.items():
        publishers[topic].publish(message)
    if not _found(publishers):
        print(json.dumps({"found": False}), flush=True)
        return
    started_s = time.monotonic()
    for topic in latched:
        left_s = max(0.0, started_s + LATCHED_S - time.monotonic())
        publishers[topic].wait_for_all_acked(Duration(seconds=left_s))
    latched_s = time.monotonic() - started_s
    time.sleep(SETTLE_S)

    def send(k: int) -> None:
        header = header_of(time.time_ns(), "camera")
        for topic, message in frames[k % len(frames)].items():
            message.header = header
            publishers[topic].publish(message)

    sizes = [sum(len(m.data) for m in frame.values()) for frame in frames]
    printed = {
        "found": True,
        "latched_s": round(latched_s, 1),
        "frame_kB": round(statistics.mean(sizes) / 1e3, 1),
        **paced(send, rate_hz, seconds),
    }
    print(json.dumps(printed), flush=True)
    sys.stdin.read()  # reliable topics still deliver while the publishers live
    rclpy.shutdown()


def _found(publishers: dict[str, Any]) -> bool:
    """Wait until each topic has a subscriber; False if one has none in time."""
    deadline_s = time.monotonic() + MATCH_S
    while any(not p.get_subscription_count() for p in publishers.values()):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    form_name, recorded_path, rate, length, reliability, *basis_path = sys.argv[1:]
    offered = tensor_qos()
    offered.reliability = ReliabilityPolicy[reliability.upper()]
    main(
        form_name,
        Path(recorded_path),
        float(rate),
        float(length),
        offered,
        Path(basis_path[0]) if basis_path else None,
    )
