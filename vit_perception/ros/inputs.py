"""What the node listens to: images, poses, joint states and TF, from activate to deactivate."""

import threading
import time
from collections.abc import Callable

from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, JointState

from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.image.decode import stamp_ns_of
from vit_perception.pipeline.worker import Received
from vit_perception.ros.qos import body_qos, image_qos
from vit_perception.ros.tf_poses import TfPoses
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.pose_wait import PoseInputs
from vit_perception.wire.records import BadInput, check_frame_id

# Longer, and the stamp is of another clock than the node's: a bag's, or another machine's.
LONGEST_TRANSPORT_MS = 10_000.0


class Inputs:
    """Subscriptions that fill ``sync`` and ``poses`` under ``changed``; ``warn`` takes a topic and
    what is wrong.
    """

    def __init__(
        self,
        node: LifecycleNode,
        changed: threading.Condition,
        sync: CameraSync,
        poses: PoseInputs,
        warn: Callable[[str, str], None],
    ):
        self._node, self._changed, self._sync, self._poses, self._warn = (
            node,
            changed,
            sync,
            poses,
            warn,
        )
        self._subscriptions: list = []
        self._tf: TfPoses | None = None

    def subscribe(self, settings: EncoderSettings) -> None:
        """Subscribe to everything that ``settings`` name. Raises what rclpy raises; ``destroy``
        cleans up then.
        """
        for camera in settings.cameras:
            kind = CompressedImage if camera.transport == "compressed" else Image
            self._listen(kind, camera.topic, lambda m, c=camera: self._on_image(c, m), image_qos())
        for arm in settings.poses:
            if arm.source == "topic":
                self._listen(
                    PoseStamped,
                    arm.topic,
                    lambda m, a=arm: self._on_body(a, a.topic, m),
                    body_qos(),
                )
        for state in settings.states:
            self._listen(
                JointState, state.topic, lambda m, s=state: self._on_body(s, s.topic, m), body_qos()
            )
        if through_tf := [arm for arm in settings.poses if arm.source == "tf"]:
            self._tf = TfPoses(
                self._node,
                through_tf,
                lambda arm, m: self._on_body(arm, "/tf", m),
                self._explain,
                self._warn,
            )

    def _listen(self, kind: type, topic: str, take: Callable, qos) -> None:
        override = QoSOverridingOptions.with_default_policies()
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, take, qos, qos_overriding_options=override)
        )

    @property
    def topics(self) -> list[str]:
        """The names that are listened to, after remapping; each once."""
        names = [s.topic_name for s in self._subscriptions] + (self._tf.topics if self._tf else [])
        return list(dict.fromkeys(names))

    def destroy(self) -> None:
        """Unsubscribe. Safe to call twice."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._tf is not None:
            self._tf.destroy()
            self._tf = None

    def _on_image(self, camera: CameraSettings, message) -> None:
        arrived_ns = time.monotonic_ns()
        try:
            stamp_ns = stamp_ns_of(message.header)
            check_frame_id(message.header.frame_id)  # before a megabyte of it waits
        except BadInput as error:
            with self._changed:
                self._sync.refuse(camera.name, error.reason)
            self._warn(camera.topic, str(error))
            return
        transport_ms = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e6
        known = 0.0 <= transport_ms <= LONGEST_TRANSPORT_MS
        with self._changed:
            received = Received(message, arrived_ns, transport_ms if known else None)
            jumped = self._sync.add(camera.name, stamp_ns, received, arrived_ns)
            if jumped:
                self._poses.forget_after(stamp_ns)
            self._changed.notify_all()
        if jumped and self._tf is not None:
            self._tf.forget_after(stamp_ns)

    def _on_body(self, source: PoseSettings | StateSettings, topic: str, message) -> None:
        try:
            self._poses.add(source, message)
        except BadInput as error:
            # Another driver's joints on a shared topic are no fault; that ours never come,
            # diagnostics say.
            if error.reason != "other_joints":
                self._warn(topic, str(error))

    def _explain(self, arm: PoseSettings, text: str) -> None:
        with self._changed:
            self._poses.accounts[arm.name].trouble = text
