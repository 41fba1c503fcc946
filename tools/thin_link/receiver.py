"""Receives tokens or images: what stands at the policy's side.

    python -m tools.thin_link.receiver NODE RELIABILITY             (tokens of the node)
    python -m tools.thin_link.receiver images RELIABILITY TOPIC...  (compressed images)
    python -m tools.thin_link.receiver masks RELIABILITY TOPIC      (token masks, or other images)

Tokens are decoded and restored as a policy gets them. A frame of images is there when the image of
each topic is. It prints a line as soon as it knows the publishers of all its topics, and has what
is latched. It runs until its standard input ends, and prints a JSON object: of each frame its stamp
and when it was there (wall clock, ns), and errors.
"""

import json
import sys
import threading
import time
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from tools.thin_link.forms import IMAGES, MASKS
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
        self._topics: set[str] = set()
        self._missing: set[str] = set()  # latched topics of which nothing has come

    @property
    def is_ready(self) -> bool:
        """Whether each topic has a publisher, and what is latched has come."""
        published = all(self._node.count_publishers(topic) for topic in self._topics)
        return published and not self._missing

    def listen_to_images(self, topics: list[str], kind: type) -> None:
        """Take a frame as complete when the image of each of ``topics`` with one stamp is there."""
        seen: dict[int, set[str]] = {}
        self._topics.update(topics)

        def take(topic: str, message: Any) -> None:
            stamp_ns = stamp_ns_of(message.header)
            seen.setdefault(stamp_ns, set()).add(topic)
            if len(seen[stamp_ns]) == len(topics):
                self.frames.append((stamp_ns, time.time_ns()))

        for topic in topics:
            self._node.create_subscription(kind, topic, partial(take, topic), self._qos)

    def listen_to_tokens(self, encoder: str) -> None:
        """Take tokens of ``encoder`` as a policy does."""
        decoder = LiveDecoder(encoder, body=False)

        def listen() -> None:
            for topic, kind in decoder.topics.items():
                if topic not in self._topics:
                    self._topics.add(topic)
                    is_latched = topic in decoder.latched
                    self._missing |= {topic} if is_latched else set()
                    qos = LATCHED_QOS if is_latched else self._qos
                    self._node.create_subscription(class_of(kind), topic, partial(take, topic), qos)

        def take(topic: str, message: Any) -> None:
            try:
                observation = decoder.add(topic, message)
            except UserError as error:
                self.errors.append(f"{topic}: {error}")
                return
            listen()  # the layout says what else there is
            self._missing.discard(topic)
            if observation is not None:
                self.frames.append((observation.stamp_ns, time.time_ns()))

        listen()


def main(what: str, reliability: str, topics: list[str]) -> None:
    rclpy.init(args=[])
    node = Node("thin_link_receiver", enable_rosout=False)
    policy = ReliabilityPolicy[reliability.upper()]
    receiver = Receiver(node, QoSProfile(depth=1, reliability=policy))
    if topics:
        receiver.listen_to_images(topics, {IMAGES: CompressedImage, MASKS: Image}[what])
    else:
        receiver.listen_to_tokens(what)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    is_said = False
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
        if not is_said and receiver.is_ready:
            is_said = True
            print(json.dumps({"ready": True}), flush=True)
    print(json.dumps({"frames": receiver.frames, "errors": receiver.errors}))
    rclpy.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
