"""Receives tokens or images: what stands at the policy's side.

    python -m tools.thin_link.receiver NODE RELIABILITY             (tokens of the node)
    python -m tools.thin_link.receiver images RELIABILITY TOPIC...  (compressed images)

Tokens are decoded and restored as a policy gets them. A frame of images is there when the image of
each topic is. It runs until its standard input ends, and prints a JSON object: of each frame its
stamp and when it was there (wall clock, ns), and errors.
"""

import json
import sys
import threading
import time
from functools import partial

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from vit_perception.files.errors import UserError
from vit_perception.policy.live import LiveDecoder
from vit_perception.ros.messages import class_of
from vit_perception.ros.qos import LATCHED_QOS
from vit_perception.wire.stamps import stamp_ns_of


class Receiver:
    """Notes each complete frame."""

    def __init__(self, node: Node, qos: QoSProfile):
        self._node, self._qos = node, qos
        self.frames: list[tuple[int, int]] = []  # stamp and arrival, ns
        self.errors: list[str] = []

    def listen_to_images(self, topics: list[str]) -> None:
        """Take a frame as complete when the image of each of ``topics`` with one stamp is there."""
        seen: dict[int, set[str]] = {}

        def take(topic: str, message: CompressedImage) -> None:
            stamp_ns = stamp_ns_of(message.header)
            seen.setdefault(stamp_ns, set()).add(topic)
            if len(seen[stamp_ns]) == len(topics):
                self.frames.append((stamp_ns, time.time_ns()))

        for topic in topics:
            kind, listen = CompressedImage, partial(take, topic)
            self._node.create_subscription(kind, topic, listen, self._qos)

    def listen_to_tokens(self, encoder: str) -> None:
        """Take tokens of ``encoder`` as a policy does."""
        decoder = LiveDecoder(encoder, body=False)
        listened: set[str] = set()

        def listen() -> None:
            for topic, kind in decoder.topics.items():
                if topic not in listened:
                    listened.add(topic)
                    qos = LATCHED_QOS if topic in decoder.latched else self._qos
                    self._node.create_subscription(class_of(kind), topic, partial(take, topic), qos)

        def take(topic: str, message) -> None:
            try:
                observation = decoder.add(topic, message)
            except UserError as error:
                self.errors.append(f"{topic}: {error}")
                return
            listen()  # the layout says what else there is
            if observation is not None:
                self.frames.append((observation.stamp_ns, time.time_ns()))

        listen()


def main(what: str, reliability: str, topics: list[str]) -> None:
    rclpy.init(args=[])
    node = Node("thin_link_receiver", enable_rosout=False)
    policy = ReliabilityPolicy[reliability.upper()]
    receiver = Receiver(node, QoSProfile(depth=1, reliability=policy))
    if topics:
        receiver.listen_to_images(topics)
    else:
        receiver.listen_to_tokens(what)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
    print(json.dumps({"frames": receiver.frames, "errors": receiver.errors}))
    rclpy.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
