"""Publish a bag's topics at recorded speed, as the recorded bytes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="rosbag2 folder")
    parser.add_argument("--topics", nargs="+", default=[], help="only these (default: all)")
    parser.add_argument("--rate", type=float, default=1.0, help="times the recorded speed (default: %(default)s)")
    parser.add_argument("--wait-s", type=float, default=0.0, help="wait this long for a subscriber on each topic")
    parser.add_argument("--log", type=Path, help="write a JSON line a message: topic, stamp_ns, sent_ns")


def run(args: Namespace) -> int:
    from vit_perception.ros.bag_player import play_bag

    if not args.rate > 0:
        raise ValueError(f"--rate is {args.rate}; accepted: more than 0")
    print(f"{play_bag(args.bag, args.topics, args.rate, args.wait_s, args.log)} messages sent")
    return 0
