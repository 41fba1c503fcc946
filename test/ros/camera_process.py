"""A camera as a process of its own: python camera_process.py TOPIC RATE_HZ SEED. The same picture,
stamped now.
"""

import signal
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from test.ros.sensor_messages import image_message
from vit_perception.ros.messages import header_of


def main(topic: str, rate_hz: float, seed: int) -> None:
    rclpy.init()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    node = rclpy.create_node(f"camera_{seed}")
    publisher = node.create_publisher(
        Image, topic, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    message = image_message(1, seed)
    due_s = time.monotonic()
    while rclpy.ok():
        message.header = header_of(time.time_ns(), "camera_optical_frame")
        publisher.publish(message)
        due_s += 1.0 / rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
