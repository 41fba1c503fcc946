"""The simulator's publishers and subscriptions. rclpy runs in .venv-sim as well: its wheels take
NumPy 1, so no second process is needed.
"""

import array
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rclpy
from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from tools.closed_loop.chunks import Chunk, ChunkInputs
from tools.closed_loop.interface import (
    CAMERAS,
    FRAME_ID,
    GOAL_TOPIC,
    GRIPPER_JOINT,
    GRIPPER_TOPIC,
    JOINTS_TOPIC,
    OBJECTS,
    POSE_TOPIC,
    TARGETS_TOPIC,
    image_topic,
    stamp_parts,
)

if TYPE_CHECKING:
    from tools.closed_loop.simulator.scene import Scene

# Messages that may wait: two topics of ten.
MOST_AT_ONCE = 20


class Hand(NamedTuple):
    """Where the hand was."""

    stamp_ns: int
    position_m: np.ndarray  # (3,)
    quaternion_xyzw: np.ndarray  # (4,)


class Peers(Exception):
    """Nobody is there to take observations or to answer them."""


class RosSide:
    """Sends observations, with ``goal`` also what is named, and receives chunks into ``inputs``."""

    def __init__(self, goal: bool):
        self.inputs = ChunkInputs()
        self._node = rclpy.create_node("simulator")
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        create = self._node.create_publisher
        self._images = {name: create(Image, image_topic(name), qos) for name in CAMERAS}
        self._pose = create(PoseStamped, POSE_TOPIC, qos)
        self._joints = create(JointState, JOINTS_TOPIC, qos)
        self._goal = create(JointState, GOAL_TOPIC, qos) if goal else None
        self._clock = create(Clock, "/clock", qos)
        subscribe = self._node.create_subscription
        subscribe(PoseArray, TARGETS_TOPIC, self.inputs.add_poses, qos)
        subscribe(JointTrajectory, GRIPPER_TOPIC, self.inputs.add_grippers, qos)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def spin_until(self, done: Callable[[], Any], limit_s: float) -> Any:
        """Receive until ``done`` returns something true, and return that; None after the limit."""
        end_s = time.monotonic() + limit_s
        while rclpy.ok():
            if value := done():
                return value
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            self._executor.spin_once(timeout_sec=min(left_s, 0.05))
        return None

    def wait_for_chunk(self, stamp_ns: int, limit_s: float) -> Chunk | None:
        """Return the chunk for the observation of that stamp, or None after the limit."""
        return self.spin_until(lambda: self.inputs.take(stamp_ns), limit_s)

    def receive_for(self, duration_s: float) -> None:
        """Receive for that long, and whatever has already come, however late it is."""
        self.spin_until(lambda: None, duration_s)
        for _ in range(MOST_AT_ONCE):
            self._executor.spin_once(timeout_sec=0.0)

    def wait_for_peers(self, limit_s: float) -> None:
        """Wait until a policy answers and somebody takes the hand's pose.

        A policy offers its topics when it is ready. It need not use the images.

        Raises:
            Peers: nobody came within the limit, with the topics that nobody has.
        """

        def missing() -> list[str]:
            node = self._node
            sent = [POSE_TOPIC] if not self._pose.get_subscription_count() else []
            return sent + [
                t for t in (TARGETS_TOPIC, GRIPPER_TOPIC) if not node.count_publishers(t)
            ]

        if not self.spin_until(lambda: not missing(), limit_s):
            raise Peers(f"after {limit_s:.0f} s nobody has {', '.join(missing())}")

    def send_clock(self, stamp_ns: int) -> None:
        """Say that it is ``stamp_ns``."""
        message = Clock()
        set_stamp(message.clock, stamp_ns)
        self._clock.publish(message)

    def send_observation(
        self, stamp_ns: int, scene: "Scene", hand: Hand, cameras: Collection[str]
    ) -> None:
        """Send the state as it is now, and ``hand`` as it was; images of ``cameras`` are drawn only
        if somebody takes them.
        """
        pose = PoseStamped()
        pose.header.frame_id = FRAME_ID
        pose_ns, position_m, quaternion = hand
        set_stamp(pose.header.stamp, pose_ns)
        for axis, value in zip("xyz", position_m):
            setattr(pose.pose.position, axis, float(value))
        for axis, value in zip("xyzw", quaternion):
            setattr(pose.pose.orientation, axis, float(value))
        self._pose.publish(pose)

        joints = JointState(name=[GRIPPER_JOINT], position=[scene.gripper_m()])
        set_stamp(joints.header.stamp, stamp_ns)
        self._joints.publish(joints)
        if self._goal is not None:
            named = JointState(name=list(OBJECTS), position=scene.goal_numbers())
            set_stamp(named.header.stamp, stamp_ns)
            self._goal.publish(named)

        if not any(publisher.get_subscription_count() for publisher in self._images.values()):
            return
        for name in cameras:
            image = scene.image(name)
            height, width = image.shape[:2]
            message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
            message.header.frame_id = f"{name}_optical_frame"
            set_stamp(message.header.stamp, stamp_ns)
            # A list or a numpy array would take 20 times as long.
            message.data = array.array("B", image.tobytes())
            self._images[name].publish(message)


def set_stamp(stamp, stamp_ns: int) -> None:
    """Set a builtin_interfaces/Time."""
    parts = stamp_parts(stamp_ns)
    stamp.sec = parts["sec"]
    stamp.nanosec = parts["nanosec"]
