"""A node that hears what `vit-perception replay` plays over DDS, and bags to play."""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import String

from test.waiting import HANG_S
from vit_perception.cli.processes import Child
from vit_perception.recordings.writer import BagWriter

POSES, WRIST = "/ee_pose", "/wrist/image/compressed"


@pytest.fixture
def listener():
    """Messages by topic as (seconds of wall clock, CDR bytes), from a node of this process."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard: dict[str, list] = {}

    def listen(topic, kind, qos=QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)):
        heard[topic] = []
        return node.create_subscription(
            kind, topic, lambda data: heard[topic].append((time.monotonic(), data)), qos, raw=True
        )

    def spin() -> bool:
        before = sum(map(len, heard.values()))
        executor.spin_once(timeout_sec=0.02)
        return sum(map(len, heard.values())) > before

    node.listen, node.heard, node.spin = listen, heard, spin
    yield node
    node.destroy_node()
    context.try_shutdown()


def play(listener, tmp_path, *arguments, sent=None, after=0):
    """Run the player to its end, or to a signal behind ``after`` messages; its exit status and what
    it said.
    """
    child = Child(
        [sys.executable, "-m", "vit_perception.cli.main", "replay", *map(str, arguments)],
        tmp_path / "log",
    )
    while child.returncode is None:
        listener.spin()
        if sent and any(len(heard) >= after for heard in listener.heard.values()):
            break
    with ThreadPoolExecutor(1) as other:
        stopping = other.submit(child.stop, timeout_s=HANG_S, sent=sent or signal.SIGINT)
        # DDS forgets what a publisher that has gone sent, and nobody took meanwhile.
        while not stopping.done():
            listener.spin()
    status = stopping.result()
    while any(listener.spin() for _ in range(5)):
        pass
    return status, child.log.read_text()


STRING = "std_msgs/msg/String"


def text_bag(folder, messages, qos=lambda topic: []):
    """A bag of (topic, seconds, text, type)."""
    with BagWriter(folder, qos) as out:
        for topic, at_s, text, *kind in messages:
            out.write(
                topic,
                *kind or [STRING],
                serialize_message(String(data=text)),
                round((1000 + at_s) * 1e9),
            )
    return folder


def texts(listener, topic):
    return [deserialize_message(data, String).data for _, data in listener.heard[topic]]
