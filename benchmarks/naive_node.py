"""What people write today, to compare with: rclpy + transformers, eager float32, a queue of 10, all
in the callback.

Fair where it costs little: the result goes out as bytes in an Image, not as a list of floats.
"""

import array
import contextlib
import sys

import cv2
import numpy as np
import rclpy
import torch
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from transformers import AutoImageProcessor, AutoModel


class NaiveNode(Node):
    """Subscribes /naive/image, publishes the last hidden state (tokens, channels) on
    /naive/tokens.
    """

    def __init__(self, checkpoint: str):
        super().__init__("naive_encoder")
        self.processor = AutoImageProcessor.from_pretrained(checkpoint)
        self.model = AutoModel.from_pretrained(checkpoint).eval()
        self.publisher = self.create_publisher(Image, "/naive/tokens", 10)
        self.create_subscription(Image, "/naive/image", self.on_image, 10)

    def on_image(self, message: Image) -> None:
        bgr = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        with torch.no_grad():
            inputs = self.processor(images=rgb, return_tensors="pt")
            tokens = self.model(**inputs).last_hidden_state[0].numpy()
        result = Image(
            header=message.header,
            height=tokens.shape[0],
            width=tokens.shape[1],
            encoding="32FC1",
            step=4 * tokens.shape[1],
        )
        result.data = array.array("B", tokens.tobytes())
        self.publisher.publish(result)


if __name__ == "__main__":
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(NaiveNode(sys.argv[1]))
