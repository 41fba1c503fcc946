"""Record topics of the node as they come, CDR bytes untouched, into a rosbag2 bag:
``bag_recorder.py BAG TOPIC=TYPE..``

Ends with SIGTERM. Neither deserialises nor imports vit_perception: what is in the bag is what was
on the wire.
"""

import importlib
import signal
import sys
import time

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore


def main(bag: str, topics: dict[str, str]) -> None:
    rclpy.init()
    node = rclpy.create_node("bag_recorder")
    going, heard = True, 0

    def stop(*unused):
        nonlocal going
        going = False

    def write(connection, data):
        nonlocal heard
        writer.write(connection, time.time_ns(), data)
        heard += 1
        print(f"{heard} messages", flush=True)

    signal.signal(signal.SIGTERM, stop)
    typestore = get_typestore(Stores.ROS2_KILTED)
    subscriptions = []
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=typestore)
            durability = (
                DurabilityPolicy.TRANSIENT_LOCAL
                if topic.endswith("layout")
                else DurabilityPolicy.VOLATILE
            )
            package, _, name = kind.split("/")
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            subscriptions.append(
                node.create_subscription(
                    kind,
                    topic,
                    lambda data, c=connection: write(c, data),
                    QoSProfile(depth=1000, durability=durability),
                    raw=True,
                )
            )
        while going and not all(one.get_publisher_count() for one in subscriptions):
            rclpy.spin_once(node, timeout_sec=0.1)
        print("recording", flush=True)
        while going:
            rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1], dict(pair.split("=") for pair in sys.argv[2:]))
