"""A camera of 640x480 bgr8 from a process of its own, until it is stopped: camera.py TOPIC RATE_HZ.

Stamps are the wall clock.
"""

import array
import itertools
import sys
import time
from importlib import resources

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from vit_perception.ros.messages import header_of

WIDTH_PX, HEIGHT_PX = 640, 480


def pictures() -> list[array.array]:
    """The parity pictures at camera size: natural images, as bytes ready to send."""
    folder = resources.files("vit_perception.engines") / "parity_pictures"
    read = [
        cv2.imdecode(np.frombuffer(f.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        for f in sorted(folder.iterdir(), key=lambda f: f.name)
        if f.name.endswith(".jpg")
    ]
    return [array.array("B", cv2.resize(p, (WIDTH_PX, HEIGHT_PX)).tobytes()) for p in read]


def main(topic: str, rate_hz: float) -> None:
    rclpy.init()
    node = Node("benchmark_camera")
    publisher = node.create_publisher(Image, topic, 10)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.02)
    messages = []
    for data in pictures():
        message = Image(height=HEIGHT_PX, width=WIDTH_PX, encoding="bgr8", step=3 * WIDTH_PX)
        message.data = data
        messages.append(message)
    begin_s = time.monotonic()
    for k in itertools.count():
        time.sleep(max(0.0, begin_s + k / rate_hz - time.monotonic()))
        message = messages[k % len(messages)]
        message.header = header_of(time.time_ns(), "camera_optical_frame")
        publisher.publish(message)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
