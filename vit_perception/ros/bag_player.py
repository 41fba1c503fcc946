"""Publish a bag's topics over DDS at recorded speed, as the recorded bytes."""

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from vit_perception.bags.reader import BagError, BagReader, RawMessage

PLAY_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def message_class(type_name: str) -> type:
    """The Python class of e.g. ``sensor_msgs/msg/Image``. Raises BagError when its package is not installed."""
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise BagError(f"message type {type_name} is not installed here: {error}") from error


class BagPlayer:
    """Publishers for ``topics`` of ``bag`` on ``node``. Bytes go out as they were recorded (CDR): no conversion."""

    def __init__(self, node: Node, bag: BagReader, topics: list[str]):
        self._bag = bag
        self._topics = topics
        self._publishers = {t: node.create_publisher(message_class(bag.type_of(t)), t, PLAY_QOS) for t in topics}

    def wait_for_subscribers(self, timeout_s: float) -> None:
        """Block until each topic has a subscriber. Raises BagError naming those that have none by then."""
        deadline_s = time.monotonic() + timeout_s
        while lonely := [t for t, p in self._publishers.items() if p.get_subscription_count() == 0]:
            if time.monotonic() > deadline_s:
                raise BagError(f"nobody subscribed to {', '.join(lonely)} within {timeout_s:g} s")
            time.sleep(0.02)

    def play(self, rate: float = 1.0, sent: Callable[[RawMessage, int], None] = lambda message, wall_ns: None) -> int:
        """Publish everything, ``rate`` times as fast as recorded; returns how many messages went out.

        ``sent`` is told each message and the wall-clock time in ns at which it was handed to DDS.
        """
        begin_s, count = time.monotonic(), 0
        for message in self._bag.raw(self._topics):
            wait_s = begin_s + (message.stamp_ns - self._bag.start_ns) / 1e9 / rate - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            if not rclpy.ok():
                break
            wall_ns = time.time_ns()
            self._publishers[message.topic].publish(message.data)
            sent(message, wall_ns)
            count += 1
        return count


def play_bag(bag: Path, topics: list[str], rate: float, wait_s: float, log: Path | None) -> int:
    """Play one bag from a process of its own; the number of messages sent.

    ``log`` gets a JSON line a message: topic, the recorded stamp in ns, and when it was sent (wall clock, ns).
    """
    rclpy.init()
    node = Node("bag_player")
    lines = open(log, "w", encoding="utf-8", buffering=1) if log else None  # whole lines, for who reads along
    try:
        with BagReader(bag) as reader:
            player = BagPlayer(node, reader, topics or sorted(reader.topics))
            if wait_s > 0:
                player.wait_for_subscribers(wait_s)

            def note(message: RawMessage, wall_ns: int) -> None:
                if lines:
                    entry = {"topic": message.topic, "stamp_ns": message.stamp_ns, "sent_ns": wall_ns}
                    lines.write(json.dumps(entry) + "\n")

            return player.play(rate, note)
    finally:
        if lines:
            lines.close()
        # Reliable topics still deliver what is queued while the publishers live.
        time.sleep(0.3)
        node.destroy_node()
        rclpy.try_shutdown()
