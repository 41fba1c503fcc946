"""Record topics of the node as they come, CDR bytes untouched, into a rosbag2 bag: ``bag_recorder.py BAG TOPIC=TYPE..``

Ends with SIGTERM. Neither deserialises nor imports vit_perception: what is in the bag is what was on the wire.
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
    going = True

    def stop(*unused):
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    typestore = get_typestore(Stores.ROS2_KILTED)
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=typestore)
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.endswith("layout") else DurabilityPolicy.VOLATILE
            package, _, name = kind.split("/")
            node.create_subscription(getattr(importlib.import_module(f"{package}.msg"), name), topic,
                                     lambda data, c=connection: writer.write(c, time.time_ns(), data),
                                     QoSProfile(depth=100, durability=durability), raw=True)
        print("recording", flush=True)
        while going:
            rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1], dict(pair.split("=") for pair in sys.argv[2:]))
