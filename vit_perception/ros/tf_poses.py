"""TF as the source of an arm's pose: samples of ``base_frame`` to ``ee_frame``, by way of tf2_ros.

Each time that TF knows the whole chain at a newer time, the chain's transform at that time becomes
a sample of the arm's history. So a pose from TF is interpolated, held and missed by the same rules
as one from a topic, and has the same books; tf2's own interpolation would also bridge gaps in which
nobody measured anything, and tell no skew. The samples come at the rate of the chain's slowest
joint; tf2 interpolates the faster ones to those times. A chain of static transforms alone has no
time and gives no sample.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node

from vit_perception.config.settings import BadSetting, PoseSettings
from vit_perception.files.errors import shown
from vit_perception.streams.sample_history import JUMP_BACK_NS
from vit_perception.wire.records import BadInput, check_frame_id
from vit_perception.wire.stamps import nanoseconds

MOST_FRAMES = 10_000


def tf2_module(arms: Sequence[PoseSettings]) -> Any:
    """The module tf2_ros. Raises BadSetting, naming the parameter and what to install, where it is
    not there.
    """
    try:
        return importlib.import_module("tf2_ros")
    except ImportError as error:
        raise BadSetting(
            f"poses.{arms[0].name}.source",
            "tf",
            f"topic, as tf2_ros is not installed here ({error}); "
            "on a robot: apt install ros-$ROS_DISTRO-tf2-ros-py",
        ) from error


def pose_of_transform(transform: Any) -> PoseStamped:
    """A geometry_msgs/TransformStamped as the pose of its child frame in its parent frame."""
    message = PoseStamped(header=transform.header)
    moved, message.pose.orientation = transform.transform.translation, transform.transform.rotation
    position = message.pose.position
    position.x, position.y, position.z = moved.x, moved.y, moved.z
    return message


class TfPoses:
    """A TF listener on ``node``; ``add`` is given each new sample of an arm, ``explain`` why an arm
    has none.
    """

    def __init__(
        self,
        node: Node,
        arms: Sequence[PoseSettings],
        add: Callable[[PoseSettings, PoseStamped], None],
        explain: Callable[[PoseSettings, str], None],
        warn: Callable[[str, str], None],
    ):
        """``warn`` takes a topic, and what of it is passed over. Raises BadSetting where tf2_ros is
        not installed.
        """
        self._tf2 = tf2_module(arms)
        self._arms, self._add, self._explain = tuple(arms), add, explain
        self._warn = warn
        self._frames: set[str] = set()
        self.passed_over = (
            0  # transforms with a name that is none, and of more frames than are kept
        )
        self._newest_ns: dict[str, int] = {}  # by child frame
        self._sampled_ns: dict[str, int] = {}  # by arm
        self._buffer = self._tf2.Buffer()
        self._listener = self._listen(node)

    def _listen(self, node: Node) -> Any:
        outer = self

        class Listener(self._tf2.TransformListener):
            """tf2's own, which says when something has come."""

            def callback(self, data):
                data.transforms = outer._known(data.transforms)
                outer._forget_before_jump(data.transforms)
                super().callback(data)
                outer._sample()

            def static_callback(self, data):
                data.transforms = outer._known(data.transforms)
                super().static_callback(data)
                outer._sample()

        return Listener(self._buffer, node)

    @property
    def topics(self) -> list[str]:
        """What it listens to."""
        return [self._listener.tf_sub.topic_name, self._listener.tf_static_sub.topic_name]

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def forget_after(self, stamp_ns: int) -> None:
        """Images jumped back to ``stamp_ns``: forget what TF said of the time before, unless it has
        jumped too.
        """
        if max(self._newest_ns.values(), default=0) > stamp_ns + JUMP_BACK_NS:
            self._clear()

    def _known(self, transforms: Sequence[Any]) -> list[Any]:
        """Those that may go into the buffer: tf2 keeps every name that it is ever given."""
        kept = []
        for transform in transforms:
            names = transform.header.frame_id, transform.child_frame_id
            try:
                for name in names:
                    check_frame_id(name)
            except BadInput as error:
                self._pass_over(f"a transform is passed over: {error}")
                continue
            if not self._frames.issuperset(names):
                if len(self._frames) > MOST_FRAMES - len(names):
                    self._pass_over(
                        f"TF has {MOST_FRAMES} frames; others are passed over, {shown(names[1])} "
                        "for one"
                    )
                    continue
                self._frames.update(names)
            kept.append(transform)
        return kept

    def _pass_over(self, text: str) -> None:
        self.passed_over += 1
        self._warn("/tf", f"{text}; {self.passed_over} transforms have been passed over so far")

    def _forget_before_jump(self, transforms: Sequence[Any]) -> None:
        """tf2 ignores what is older than its newest by more than its cache: after a jump back that
        is everything.
        """
        for transform in transforms:
            stamp_ns = nanoseconds(transform.header.stamp)
            if stamp_ns < self._newest_ns.get(transform.child_frame_id, 0) - JUMP_BACK_NS:
                self._clear()
            self._newest_ns[transform.child_frame_id] = stamp_ns

    def _clear(self) -> None:
        self._buffer.clear()  # static transforms stay
        self._newest_ns.clear()
        self._sampled_ns.clear()

    def _sample(self) -> None:
        for arm in self._arms:
            try:
                latest = self._buffer.get_latest_common_time(arm.base_frame, arm.ee_frame)
                if latest.nanoseconds in (0, self._sampled_ns.get(arm.name)):
                    continue
                transform = self._buffer.lookup_transform(arm.base_frame, arm.ee_frame, latest)
            except self._tf2.TransformException as error:
                self._explain(arm, str(error))
                continue
            self._sampled_ns[arm.name] = latest.nanoseconds
            self._add(arm, pose_of_transform(transform))
