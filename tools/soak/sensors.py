"""One sensor as a process of its own, until it is killed.

python -m tools.soak.sensors:
    camera TOPIC raw|compressed NUMBER SLOWER BOARD     640x480 at 30 Hz
    arm TOPIC FRAME_ID NUMBER SLOWER BOARD              poses at 250 Hz
    joints TOPIC JOINT,JOINT NUMBER SLOWER BOARD        joint states at 50 Hz
    reader NODE                                         subscribes reliably to the node's tensors

The rates are divided by SLOWER, for a computer that has little time for each message.
"""

import array
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, JointState

from benchmarks.camera import pictures
from tools.soak.board import Board
from tools.soak.hostile_pictures import crash_pictures, slow_pictures
from vit_perception.ros.messages import header_of

NANOSECONDS = 1_000_000_000
CAMERA_HZ, ARM_HZ, JOINTS_HZ = 30, 250, 50
WIDTH_PX, HEIGHT_PX = 640, 480
# Cameras with a common trigger, read out one after the other.
APART_NS = 3_000_000
TENSORS = ("tokens", "embedding", "overhead/patch_features")


def tick_of(wall_ns: int, rate_hz: int) -> int:
    """The number of the latest tick at ``rate_hz``, counted from the beginning of the wall
    clock.
    """
    return wall_ns * rate_hz // NANOSECONDS


def ticks(rate_hz: int, phase_ns: int, board: Board, send: Callable[[int], None]) -> None:
    """Call ``send`` with the time stamp at ``rate_hz``, at the same times in every process. Missed
    ticks are gone.
    """
    board["begun_ns"] = 0
    while rclpy.ok():
        next_tick = tick_of(time.time_ns() - phase_ns, rate_hz) + 1
        due_ns = -(-next_tick * NANOSECONDS // rate_hz) + phase_ns
        time.sleep(max(0, due_ns - time.time_ns()) / 1e9)
        if not 0 < board["paused"] <= next_tick:
            board["sent"] += 1
            send(time.time_ns() + board["offset_ns"])
            board["begun_ns"] = board["begun_ns"] or time.time_ns()


def raw_image(pixels: np.ndarray) -> Image:
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding="bgr8", step=3 * width)
    message.data = array.array("B", pixels.tobytes())
    return message


def damaged_raw(good: Image, number: int) -> Image:
    """Truncated, or with a step shorter than a row, in turn."""
    bad = Image(
        height=good.height,
        width=good.width,
        encoding=good.encoding,
        step=good.step - number % 2 * 7,
    )
    bad.data = good.data if number % 2 else good.data[: -good.step]
    return bad


def jpeg_image(pixels: np.ndarray) -> CompressedImage:
    message = CompressedImage(format="bgr8; jpeg compressed bgr8")
    message.data = array.array("B", cv2.imencode(".jpg", pixels)[1].tobytes())
    return message


def damaged_jpeg(good: CompressedImage, number: int) -> CompressedImage:
    """Truncated, or noise behind a JPEG's first bytes, in turn."""
    noise = np.random.default_rng(number).integers(0, 256, len(good.data), np.uint8).tobytes()
    bad = CompressedImage(format=good.format)
    bad.data = (
        array.array("B", good.data[:20].tobytes() + noise)
        if number % 2
        else good.data[: len(good.data) // 2]
    )
    return bad


def compressed(data: bytes) -> CompressedImage:
    message = CompressedImage(format="jpeg")
    message.data = array.array("B", data)
    return message


def camera(topic: str, transport: str, number: int, slower: int, board: Board) -> None:
    """Each camera begins with another picture, so that no two ever show the same."""
    make, damage = (raw_image, damaged_raw) if transport == "raw" else (jpeg_image, damaged_jpeg)
    shown = [np.frombuffer(p, np.uint8).reshape(HEIGHT_PX, WIDTH_PX, 3) for p in pictures()]
    shown = shown[number:] + shown[:number]
    whole, half = [make(p) for p in shown], [make(np.ascontiguousarray(p[::2, ::2])) for p in shown]
    hostile = {
        kind: [compressed(p) for p in make_pictures()] if transport == "compressed" else []
        for kind, make_pictures in ((1, crash_pictures), (2, slow_pictures))
    }
    publisher = rclpy.create_node(f"soak_camera_{number}").create_publisher(
        type(whole[0]), topic, QoSProfile(depth=5)
    )

    def send(stamp_ns: int) -> None:
        sent, every = board["sent"], board["damage_every"]
        message = (half if board["half_size"] else whole)[sent // 10 % len(whole)]
        if every and sent % every == number:
            board["damaged"] += 1
            pictures = hostile.get(board["damage_kind"])
            message = (
                pictures[board["damaged"] % len(pictures)]
                if pictures
                else damage(message, board["damaged"])
            )
        for _ in range(board["flood"] if hostile[1] else 0):
            board["sent"] += 1
            board["damaged"] += 1
            bad = hostile[1][board["damaged"] % len(hostile[1])]
            bad.header = header_of(stamp_ns - 1_000_000, f"camera_{number}")
            publisher.publish(bad)
        message.header = header_of(stamp_ns, f"camera_{number}")
        publisher.publish(message)

    ticks(CAMERA_HZ // slower, number * APART_NS, board, send)


def arm(topic: str, frame_id: str, number: int, slower: int, board: Board) -> None:
    """A hand that goes round in a circle, once in ten seconds."""
    publisher = rclpy.create_node(f"soak_arm_{number}").create_publisher(
        PoseStamped, topic, QoSProfile(depth=20)
    )
    message = PoseStamped()

    def send(stamp_ns: int) -> None:
        angle = stamp_ns % 10_000_000_000 / 10e9 * 2 * math.pi
        message.pose.position.x = math.nan if board["not_a_number"] else 0.3 * math.cos(angle)
        message.pose.position.y, message.pose.position.z = 0.3 * math.sin(angle), 0.5
        message.pose.orientation.z, message.pose.orientation.w = (
            math.sin(angle / 2),
            math.cos(angle / 2),
        )
        _publish(publisher, message, stamp_ns, frame_id, board["flood"])

    ticks(ARM_HZ // slower, 0, board, send)


def joints(topic: str, names: str, number: int, slower: int, board: Board) -> None:
    """Grippers that open and close, once in ten seconds."""
    publisher = rclpy.create_node(f"soak_joints_{number}").create_publisher(
        JointState, topic, QoSProfile(depth=20)
    )
    message = JointState(name=names.split(","))

    def send(stamp_ns: int) -> None:
        message.position = [0.04 * abs(stamp_ns % 10_000_000_000 / 5e9 - 1)] * len(message.name)
        message.velocity = [0.008] * len(message.name)
        _publish(publisher, message, stamp_ns, "grippers", board["flood"])

    ticks(JOINTS_HZ // slower, 0, board, send)


def _publish(
    publisher: Publisher,
    message: PoseStamped | JointState,
    stamp_ns: int,
    frame_id: str,
    flood: int,
) -> None:
    """Publish ``message``, behind ``flood`` others of it whose stamps lie 1 ns apart."""
    for earlier_ns in range(flood, -1, -1):
        message.header = header_of(stamp_ns - earlier_ns, frame_id)
        publisher.publish(message)


def reader(node_name: str) -> None:
    """Says so on stdout once it is matched, and reads until it is stopped."""
    node = rclpy.create_node("soak_reader")
    topics = [f"/{node_name}/{name}" for name in TENSORS]
    for topic in topics:
        node.create_subscription(Image, topic, lambda message: None, 1)
    while not all(node.count_publishers(topic) for topic in topics):
        time.sleep(0.05)
    print("matched", flush=True)
    rclpy.spin(node)


def main(kind: str, *arguments: str) -> None:
    rclpy.init()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, signal.SIG_DFL)
    if kind == "reader":
        reader(*arguments)
    else:
        topic, variant, number, slower, board = arguments
        {"camera": camera, "arm": arm, "joints": joints}[kind](
            topic, variant, int(number), int(slower), Board(Path(board))
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
