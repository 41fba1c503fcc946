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
from vit_perception.policy.timing import ActionTiming, ChunkTooShort, MixedClocks

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
    # From an observation's stamp to its chunk, of the last ones; None before the first one.
    delay_p50_s: float | None = None
    delay_p99_s: float | None = None
    # Control steps that are over before a chunk is there, in 99 of 100; None: all of a chunk.
    inference_delay: int | None = None


class ChunkNode:
    """Answers observations. A subclass subscribes, and calls ``answer``."""

    def __init__(self, policy: ChunkPolicy, name: str, sim_time: bool = False):
        import rclpy
        from rclpy.parameter import Parameter

        clock = Parameter("use_sim_time", value=sim_time)
        self.node = rclpy.create_node(name, parameter_overrides=[clock])
        self.counts = Counts()
        self._timing = ActionTiming(period_s=CONTROL_PERIOD_NS * 1e-9, length=policy.steps)
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

    def offered(self) -> bool:
        """Return whether everything that it listens to is there."""
        raise NotImplementedError

    def look_until_ready(self) -> None:
        """Be ready as soon as ``offered``. Simulated time may not run before, so it is not used."""
        from rclpy.clock import Clock, ClockType

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self.node.create_timer(0.2, lambda: self._look(timer), clock=steady)

    def _look(self, timer) -> None:
        if self.offered():
            self.ready()
            timer.cancel()

    def answer(self, stamp_ns: int, frame_id: str, inputs: dict[str, np.ndarray]) -> None:
        """Send the chunk for one observation."""
        self.counts.observations += 1
        if not np.isfinite(inputs["body"]).all():
            self.counts.without_body += 1
            return
        if self._targets is None:
            self.ready()
        begun = self._begin(stamp_ns)
        targets_m, closed = self._policy.act(inputs)
        if begun:
            self._timing.end(self._now_ns())
        self._send(stamp_ns, frame_id, targets_m, closed)
        self.counts.answered += 1

    def _now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def _begin(self, stamp_ns: int) -> bool:
        """Begin to measure; False in simulated time before /clock has come as far as the stamp."""
        with contextlib.suppress(MixedClocks):
            return self._timing.begin(stamp_ns, self._now_ns())
        return False

    def measured(self) -> Counts:
        """Return the counts with the delays as they are now."""
        if (delays := self._timing.delays) is not None:
            self.counts.delay_p50_s = round(delays.p50_s, 4)
            self.counts.delay_p99_s = round(delays.p99_s, 4)
            with contextlib.suppress(ChunkTooShort):
                self.counts.inference_delay = self._timing.inference_delay()
        return self.counts

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

    def __init__(self, policy: ChunkPolicy, decoder: LiveDecoder, sim_time: bool = False):
        super().__init__(policy, "chunk_policy", sim_time)
        self._decoder = decoder
        self._subscribed: set[str] = set()
        self._subscribe()
        self.look_until_ready()

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

    def offered(self) -> bool:
        """Return whether every topic has its publisher."""
        topics = self._decoder.topics
        return len(topics) > 1 and all(self.node.count_publishers(topic) for topic in topics)

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
    inputs = {"tokens": observation.tokens, "mask": observation.mask, "body": body}
    return inputs | observation.coefficients


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
    found = asdict(runner.measured())
    print(found, flush=True)
    if counts:
        counts.write_text(json.dumps(found) + "\n")
    rclpy.try_shutdown()
    return status


def run_on_tokens(
    policy,
    layouts,
    encoder: str,
    counts: Path | None = None,
    may_differ: Sequence[str] = ENGINE_FIELDS,
    sim_time: bool = False,
) -> int:
    """Run a policy on the tokens of the node ``encoder``, until SIGINT.

    In the fields ``may_differ`` the encoder's layout may be another one than in the training.
    ``sim_time``: time is what /clock says.
    """
    import rclpy

    rclpy.init()
    decoder = LiveDecoder(encoder, expected=layouts, may_differ=may_differ, expand=policy.expand)
    return spin(TokenChunkNode(policy, decoder, sim_time), counts)
