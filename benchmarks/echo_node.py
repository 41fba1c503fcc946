"""The messages alone: answers each image at once with a tensor of BYTES zeros, in an Image with its
stamp: echo_node.py IMAGES TOKENS BYTES.

What this takes no node of rclpy can save, whatever it computes: the image through DDS into Python,
and the tensor back.
"""

import array
import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image

from vit_perception.ros.qos import image_qos, tensor_qos


class EchoNode(Node):
    def __init__(self, images: str, tokens: str, size_bytes: int):
        super().__init__("benchmark_echo")
        self._answer = Image(height=1, width=size_bytes, step=size_bytes, encoding="8UC1")
        self._data = bytes(size_bytes)
        self._publisher = self.create_publisher(Image, tokens, tensor_qos())
        self.create_subscription(Image, images, self._on_image, image_qos())

    def _on_image(self, message: Image) -> None:
        self._answer.header = message.header
        # As the node must: what it computed is copied into a message once.
        self._answer.data = array.array("B", self._data)
        self._publisher.publish(self._answer)


if __name__ == "__main__":
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(EchoNode(sys.argv[1], sys.argv[2], int(sys.argv[3])))
