"""The ROS side of policies that answer observations with chunks of targets.

A chunk goes out as two messages with the observation's stamp: geometry_msgs/PoseArray on
/arm/target_poses and trajectory_msgs/JointTrajectory on /gripper/commands, each with one entry for
each control step of 0.1 s from the stamp on. The topics are offered when the policy is ready.
"""

import contextlib
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from chunk_policy import ChunkPolicy

from vit_perception.policy.live import ENGINE_FIELDS, LayoutMismatch, LiveDecoder, Observation

TARGETS_TOPIC = "/arm/target_poses"
GRIPPER_TOPIC = "/gripper/commands"
GRIPPER_JOINT = "gripper"
CONTROL_PERIOD_NS = 100_000_000
OPEN, CLOSED = -1.0, 1.0


@dataclass
class Counts:
    """What became of the observations that this process had."""

    observations: int = 0
    answered: int = 0
    without_body: int = 0  # the hand's pose or a joint was missing


class ChunkNode:
    """Answers observations. A subclass subscribes, and calls ``answer``."""

    def __init__(self, policy: ChunkPolicy, name: str):
        import rclpy

        self.node = rclpy.create_node(name)
        self.counts = Counts()
        self._policy = policy
        self._targets = None
        self._gripper = None

    def ready(self) -> None:
        """Offer the topics."""
        from geometry_msgs.msg import PoseArray
        from trajectory_msgs.msg import JointTrajectory

        if self._targets is None:
            self._targets = self.node.create_publisher(PoseArray, TARGETS_TOPIC, 10)
            self._gripper = self.node.create_publisher(JointTrajectory, GRIPPER_TOPIC, 10)
            print("ready", flush=True)

    def answer(self, stamp_ns: int, frame_id: str, inputs: dict[str, np.ndarray]) -> None:
        """Send the chunk for one observation."""
        self.counts.observations += 1
        if not np.isfinite(inputs["body"]).all():
            self.counts.without_body += 1
            return
        if self._targets is None:
            self.ready()
        self._send(stamp_ns, frame_id, *self._policy.act(inputs))
        self.counts.answered += 1

    def _send(
        self, stamp_ns: int, frame_id: str, targets_m: np.ndarray, closed: np.ndarray
    ) -> None:
        from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

        turned = Quaternion(**dict(zip("xyzw", map(float, self._policy.quaternion))))
        poses = PoseArray(
            poses=[
                Pose(position=Point(**dict(zip("xyz", map(float, target)))), orientation=turned)
                for target in targets_m
            ]
        )
        poses.header.frame_id = frame_id
        gripper = JointTrajectory(joint_names=[GRIPPER_JOINT])
        for step, is_closed in enumerate(closed):
            point = JointTrajectoryPoint(positions=[CLOSED if is_closed else OPEN])
            set_time(point.time_from_start, step * CONTROL_PERIOD_NS)
            gripper.points.append(point)
        for message, publisher in ((poses, self._targets), (gripper, self._gripper)):
            set_time(message.header.stamp, stamp_ns)
            publisher.publish(message)


class TokenChunkNode(ChunkNode):
    """Observations are those of the encoder node."""

    def __init__(self, policy: ChunkPolicy, decoder: LiveDecoder):
        super().__init__(policy, "chunk_policy")
        self._decoder = decoder
        self._subscribed: set[str] = set()
        self._subscribe()
        self._timer = self.node.create_timer(0.2, self._look)

    def _subscribe(self) -> None:
        from geometry_msgs.msg import PoseStamped
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String

        types = {"Image": Image, "PoseStamped": PoseStamped, "JointState": JointState}
        types["String"] = String
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, type_name in self._decoder.topics.items():
            if topic not in self._subscribed:
                self._subscribed.add(topic)
                qos = latched if topic in self._decoder.latched else QoSProfile(depth=10)
                message_type = types[type_name.rsplit("/", 1)[-1]]
                self.node.create_subscription(
                    message_type, topic, lambda message, t=topic: self._on_message(t, message), qos
                )

    def _look(self) -> None:
        """Be ready once every topic has its publisher."""
        topics = self._decoder.topics
        if len(topics) > 1 and all(self.node.count_publishers(topic) for topic in topics):
            self.ready()
            self._timer.cancel()

    def _on_message(self, topic: str, message) -> None:
        observation = self._decoder.add(topic, message)
        if topic == self._decoder.layout_topic:
            self._subscribe()
        elif observation is not None:
            self.answer(observation.stamp_ns, "world", inputs_of(observation))


def inputs_of(observation: Observation) -> dict[str, np.ndarray]:
    """Return the policy's inputs, as ``load_examples`` has them of the data set."""
    position_m = next(iter(observation.poses.values()))[:3]
    body = np.concatenate([position_m, *observation.states.values()]).astype(np.float32)
    return {"tokens": observation.tokens, "mask": observation.mask, "body": body}


def set_time(stamp, stamp_ns: int) -> None:
    """Set a Time or Duration message."""
    stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)


def spin(runner: ChunkNode, counts: Path | None = None) -> int:
    """Answer until SIGINT; write the counts as JSON to ``counts``."""
    import rclpy
    from rclpy.executors import ExternalShutdownException

    status = 0
    try:
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(runner.node)
    except LayoutMismatch as error:
        print(f"the encoder's tokens are not those of the training data: {error}", flush=True)
        status = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(asdict(runner.counts), flush=True)
    if counts:
        counts.write_text(json.dumps(asdict(runner.counts)) + "\n")
    rclpy.try_shutdown()
    return status


def run_on_tokens(
    policy,
    layouts,
    encoder: str,
    counts: Path | None = None,
    may_differ: Sequence[str] = ENGINE_FIELDS,
) -> int:
    """Run a policy on the tokens of the node ``encoder``, until SIGINT. In the fields
    ``may_differ`` its layout may be another one than in the training.
    """
    import rclpy

    rclpy.init()
    decoder = LiveDecoder(encoder, expected=layouts, may_differ=may_differ)
    return spin(TokenChunkNode(policy, decoder), counts)
