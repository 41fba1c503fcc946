"""How many images arrive here from another process over DDS: a short trial, with two programs.

Sender and receiver are processes of their own, so that each reads the DDS profile that it is given.
The receiver's queue is as deep as the encoder node's.

    python -m vit_perception.ros.health.image_trial send TOPIC WIDTH HEIGHT RATE_HZ COUNT RELIABLE
    python -m vit_perception.ros.health.image_trial receive RELIABLE TOPIC [TOPIC ...]
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from vit_perception.files.errors import OperationFailed
from vit_perception.files.process_group import OWN_GROUP

MATCH_S = 20.0  # the longest wait of a sender for the receiver
SETTLE_S = 0.5  # after the match, so that both ends know each other's every address
LAST_S = 0.5  # the last images may take so long
MOST_S = 60.0  # the longest trial, unless the caller says otherwise
BYTES_A_PIXEL = 3  # bgr8


@dataclass(frozen=True)
class ImageTrial:
    """What is sent."""

    # Size of the images in px.
    width_px: int = 640
    height_px: int = 480
    # Images a second, of each sender.
    rate_hz: float = 30.0
    # Images of each sender.
    count: int = 60
    # Both ends are reliable: what is lost is sent again. Otherwise best effort, as the node's
    # subscriptions are; a reliable camera then behaves like a best-effort one.
    reliable: bool = False
    # Processes that send, each on a topic of its own.
    senders: int = 1

    @property
    def megabytes(self) -> float:
        """Size of one image in MB."""
        return self.width_px * self.height_px * BYTES_A_PIXEL / 1e6


@dataclass(frozen=True)
class TrialResult:
    """What arrived."""

    # Images that were sent, by all senders together, and how many of them arrived.
    sent: int
    arrived: int
    # From just before an image was published until it was received, in ms: median and largest; NaN
    # if none arrived.
    median_ms: float
    largest_ms: float


def run_trial(
    trial: ImageTrial, environment: dict[str, str] | None = None, most_s: float = MOST_S
) -> TrialResult:
    """Send images from one or several processes to another one, and count what arrives.

    It takes about 4 s more than the images do. ``environment`` is that of all processes; None is
    this process's own. A trial that has not ended after ``most_s`` is given up.

    Raises:
        OperationFailed: A process failed, did not find the other one, or did not end in time.
    """
    topics = [f"/vit_perception_trial_{os.getpid()}_{k}/image" for k in range(trial.senders)]
    numbers = (trial.width_px, trial.height_px, trial.rate_hz, trial.count, int(trial.reliable))
    commands = [
        ["receive", str(int(trial.reliable)), *topics],
        *(["send", topic, *map(str, numbers)] for topic in topics),
    ]
    processes = [_start(command, environment) for command in commands]
    receiver, *senders = processes
    deadline_s = time.monotonic() + most_s
    try:
        for sender in senders:
            _result(sender, deadline_s)
        result = _result(receiver, deadline_s)  # its input ends here, and so does it
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
    delays_ms = json.loads(result)
    return TrialResult(
        sent=trial.count * trial.senders,
        arrived=len(delays_ms),
        median_ms=statistics.median(delays_ms) if delays_ms else float("nan"),
        largest_ms=max(delays_ms, default=float("nan")),
    )


def _start(command: list[str], environment: dict[str, str] | None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **OWN_GROUP,
    )


def _result(process: subprocess.Popen, deadline_s: float) -> str:
    """Return what ``process`` printed, once it has ended."""
    try:
        printed, said = process.communicate(timeout=max(0.1, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise OperationFailed("a trial with images did not end in time") from error
    if process.returncode:
        last = said.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise OperationFailed(f"a trial with images failed: {last[0]}")
    return printed


def send(topic: str, trial: ImageTrial) -> None:
    """Publish the images of one sender, each with the time of sending as its stamp."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from vit_perception.ros.messages import header_of

    rclpy.init(args=[])
    node = rclpy.create_node(f"vit_perception_trial_{os.getpid()}", enable_rosout=False)
    policy = ReliabilityPolicy.RELIABLE if trial.reliable else ReliabilityPolicy.BEST_EFFORT
    publisher = node.create_publisher(Image, topic, QoSProfile(depth=5, reliability=policy))
    message = Image(height=trial.height_px, width=trial.width_px, encoding="bgr8")
    message.step = trial.width_px * BYTES_A_PIXEL
    message.data.frombytes(bytes(message.step * trial.height_px))
    deadline_s = time.monotonic() + MATCH_S
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline_s:
            sys.exit(f"the receiver was not found within {MATCH_S:g} s")
        time.sleep(0.02)
    time.sleep(SETTLE_S)
    due_s = time.monotonic()
    for _ in range(trial.count):
        message.header = header_of(time.time_ns(), "camera")
        with contextlib.suppress(RuntimeError):  # DDS refuses it: an image that does not arrive
            publisher.publish(message)
        due_s += 1.0 / trial.rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))
    time.sleep(LAST_S)
    rclpy.shutdown()


def receive(topics: list[str], reliable: bool) -> list[float]:
    """Receive until standard input ends; return how long each image took, in ms."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import ReliabilityPolicy
    from sensor_msgs.msg import Image

    from vit_perception.ros.qos import image_qos
    from vit_perception.wire.stamps import stamp_ns_of

    rclpy.init(args=[])
    node = rclpy.create_node(f"vit_perception_trial_{os.getpid()}", enable_rosout=False)
    delays_ms: list[float] = []
    qos = image_qos()
    if reliable:
        qos.reliability = ReliabilityPolicy.RELIABLE
    for topic in topics:
        node.create_subscription(
            Image,
            topic,
            lambda message: delays_ms.append((time.time_ns() - stamp_ns_of(message.header)) / 1e6),
            qos,
        )
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
    rclpy.shutdown()
    return delays_ms


def main(words: list[str]) -> None:
    """Run one of the two programs."""
    if words[0] == "receive":
        print(json.dumps(receive(words[2:], reliable=words[1] == "1")))
        return
    topic, width, height, rate_hz, count, reliable = words[1:]
    send(
        topic,
        ImageTrial(
            width_px=int(width),
            height_px=int(height),
            rate_hz=float(rate_hz),
            count=int(count),
            reliable=reliable == "1",
        ),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
