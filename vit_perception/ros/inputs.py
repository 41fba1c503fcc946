"""What the node listens to, from activate to deactivate: the topics of all sources, and TF."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from vit_perception.config.cameras.transports import TRANSPORTS, info_topic_of
from vit_perception.config.settings import CameraSettings, PoseSettings
from vit_perception.image.camera_info import INFO_TYPE
from vit_perception.image.video.decoder import VideoPicture
from vit_perception.pipeline.frame_state import Received
from vit_perception.ros.messages import class_of
from vit_perception.ros.qos import LATCHED_QOS, image_qos, sample_qos, video_qos, with_events
from vit_perception.ros.reporter import Reporter
from vit_perception.ros.tf_poses import TfPoses
from vit_perception.ros.video.video_input import Arrival, VideoInput
from vit_perception.streams.calibrations import CalibrationInputs
from vit_perception.streams.camera_sync import DEACTIVATED, CameraSync
from vit_perception.streams.depths import DepthInputs
from vit_perception.streams.image_extras import ExtraInputs
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.camera import TYPES
from vit_perception.tokens.source import SampledSource, TokenSource, calibrated, listening
from vit_perception.wire.records import BadInput, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

# Samples taken in one turn of the executor. A turn costs rclpy eight times what a sample does (0.53
# against 0.06 ms): with one sample a turn, a busy computer falls behind by the complete queue.
MOST_IN_A_TURN = 256

# How often it is looked whether a publisher of CameraInfo keeps its messages.
SEEK_EVERY_S = 0.1


class CameraInfoTopic:
    """Listens to the CameraInfo of ``camera`` by ``listen``, which makes a subscription of a type,
    topic, callback and QoS; ``take`` gets the camera's name, the topic and each message.

    One subscription cannot get both kinds: one that asks for what is kept does not match a
    publisher that keeps nothing, and both sides warn of that. So it is made only where a publisher
    that keeps its messages is found.
    """

    def __init__(
        self,
        camera: CameraSettings,
        node: Node,
        listen: Callable[..., Any],
        take: Callable[[str, str, Any], None],
    ):
        self._node = node
        self._listen = listen
        # Beside the topic that the images really come from: its name may be remapped.
        beside = info_topic_of(node.resolve_topic_name(camera.topic))
        self.topic = camera.camera_info_topic or beside
        self._take = partial(take, camera.name, self.topic)
        self._sought_s: float | None = None  # monotonic
        self._keeps = False
        listen(INFO_TYPE, self.topic, self._take, image_qos())
        self.seek_kept()

    def seek_kept(self) -> None:
        """Subscribe to what a publisher has kept, if there is one; looks ten times a second."""
        now_s = time.monotonic()
        if self._keeps or (self._sought_s and now_s - self._sought_s < SEEK_EVERY_S):
            return
        self._sought_s = now_s
        publishers = self._node.get_publishers_info_by_topic(
            self._node.resolve_topic_name(self.topic)
        )
        self._keeps = any(
            each.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for each in publishers
        )
        if self._keeps:
            # Without overrides: it would take those of the other subscription, best effort too,
            # and what is kept goes to reliable subscriptions alone.
            self._listen(INFO_TYPE, self.topic, self._take, LATCHED_QOS, False)


class Inputs:
    """Subscriptions that fill ``sync``, ``samples`` and ``extras``, its own, under ``changed``;
    ``reporter`` says what is wrong with a topic.
    """

    def __init__(
        self,
        node: LifecycleNode,
        changed: threading.Condition,
        sync: CameraSync,
        samples: SampleInputs,
        reporter: Reporter,
    ):
        self._node = node
        self._changed = changed
        self._sync = sync
        self._samples = samples
        self.extras = ExtraInputs((), changed)
        self._camera_infos: dict[str, CameraInfoTopic] = {}  # by camera
        self._warn = reporter.warn
        self._events = reporter.events
        self._subscriptions: list = []
        self._videos: list[VideoInput] = []
        self._tf: TfPoses | None = None

    def subscribe(self, sources: Sequence[TokenSource]) -> None:
        """Subscribe to the topics of ``sources``. Raises what rclpy raises; ``destroy`` cleans up
        then.
        """
        through_tf: list[PoseSettings] = []
        cameras = [s.settings for s in listening(sources) if not isinstance(s, SampledSource)]
        self.extras = ExtraInputs(cameras, self._changed, calibrated(sources))
        for source in listening(sources):
            kind = source.message_type
            if not isinstance(source, SampledSource):
                is_video = TRANSPORTS[source.settings.transport].is_video
                take = self._video_taker(source) if is_video else partial(self._on_image, source)
                qos = video_qos() if is_video else image_qos()
                self._listen(source, kind, source.topic, take, qos)
                if topic := source.settings.depth_topic:
                    take = partial(self._take_extra, self.extras.depths, source.name, topic)
                    self._listen(source, TYPES["raw"], topic, take, image_qos())
                if source.name in self.extras.calibrations.accounts:
                    self._camera_infos[source.name] = CameraInfoTopic(
                        source.settings,
                        self._node,
                        partial(self._listen, source),
                        partial(self._take_extra, self.extras.calibrations),
                    )
            elif source.topic is None:
                through_tf.append(source.settings)
            else:
                self._listen_to_samples(source, kind, source.topic)
        if through_tf:
            self._tf = TfPoses(
                self._node,
                through_tf,
                lambda arm, message: self._on_sample(arm.name, "/tf", message),
                self._explain,
                self._warn,
            )

    def _listen(
        self,
        source: TokenSource,
        kind: str,
        topic: str,
        take: Callable,
        qos: QoSProfile,
        overridable: bool = True,
    ) -> Subscription:
        override = QoSOverridingOptions.with_default_policies() if overridable else None
        if topic == source.topic:
            qos = with_events(qos, source.settings)
        subscription = self._node.create_subscription(
            class_of(kind),
            topic,
            take,
            qos,
            event_callbacks=self._events.of_input(source.name, topic, kind),
            qos_overriding_options=override,
        )
        self._subscriptions.append(subscription)
        return subscription

    def _take_extra(
        self, inputs: CalibrationInputs | DepthInputs, camera: str, topic: str, message
    ) -> None:
        try:
            inputs.add(camera, message)
        except BadInput as error:
            self._warn(topic, str(error))

    def _listen_to_samples(self, source: TokenSource, kind: str, topic: str) -> None:
        name = source.name
        # Empty until the subscription is made, which may be after its first message.
        own: list[Subscription] = []

        def take(message) -> None:
            self._on_sample(name, topic, message)
            for subscription in own:
                self._take_waiting(name, topic, subscription)

        own.append(self._listen(source, kind, topic, take, sample_qos()))

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
        for video in self._videos:
            video.stop(DEACTIVATED)
        self._videos = []
        self._events.forget_inputs()
        self._camera_infos = {}
        if self._tf is not None:
            self._tf.destroy()
            self._tf = None

    def _video_taker(self, camera: TokenSource) -> Callable[[Any], None]:
        """Return what takes the packets of ``camera``, on the executor's thread."""
        video = VideoInput(
            camera.name, partial(self._on_picture, camera), partial(self._refuse, camera)
        )
        self._videos.append(video)

        def take(message: Any) -> None:
            self._seek_info(camera)
            video.add(message, Arrival.now(self._node))

        return take

    def _seek_info(self, camera: TokenSource) -> None:
        info = self._camera_infos.get(camera.name)
        if info is not None and not self.extras.calibrations.accounts[camera.name].arrived_ns:
            info.seek_kept()

    def _on_image(self, camera: TokenSource, message: Any) -> None:
        arrival = Arrival.now(self._node)
        self._seek_info(camera)
        try:
            stamp_ns = stamp_ns_of(message.header)
            check_frame_id(message.header.frame_id)  # before a megabyte of it waits
        except BadInput as error:
            self._refuse(camera, error.reason, str(error))
            return
        self._queue(camera, message, stamp_ns, arrival)

    def _on_picture(self, camera: TokenSource, picture: VideoPicture) -> None:
        """On the thread of the video."""
        self._queue(camera, picture, picture.packet.stamp_ns, picture.packet.origin)

    def _refuse(self, camera: TokenSource, reason: str, text: str) -> None:
        """On any thread: count an image that cannot be used; say ``text`` if there is one."""
        with self._changed:
            self._sync.refuse(camera.name, reason)
        if text:
            self._warn(camera.topic, text)

    def _queue(self, camera: TokenSource, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        with self._changed:
            received = Received(
                message=message,
                stamp_ns=stamp_ns,
                arrived_ns=arrival.monotonic_ns,
                receive_ms=arrival.after_ms(stamp_ns),
            )
            jumped = self._sync.add(camera.name, stamp_ns, received, arrival.monotonic_ns)
            if jumped:
                self._samples.forget_after(stamp_ns)
                self.extras.forget_after(stamp_ns)
            self._changed.notify_all()
        if jumped and self._tf is not None:
            self._tf.forget_after(stamp_ns)

    def _take_waiting(self, name: str, topic: str, subscription: Subscription) -> None:
        """Take the samples that wait behind the one that rclpy gave."""
        # Another thread may have deactivated the node: then nothing is there to be taken.
        # The public place of this class differs between releases of ROS.
        with suppress(rclpy_implementation.InvalidHandle), subscription.handle:
            for _ in range(MOST_IN_A_TURN - 1):
                taken = subscription.handle.take_message(subscription.msg_type, False)
                if taken is None:
                    return
                self._on_sample(name, topic, taken[0])

    def _on_sample(self, name: str, topic: str, message) -> None:
        try:
            self._samples.add(name, message)
        except BadInput as error:
            # Another driver's joints on a shared topic are no fault; that ours never come,
            # diagnostics say.
            if error.reason != "other_joints":
                self._warn(topic, str(error))

    def _explain(self, arm: PoseSettings, text: str) -> None:
        with self._changed:
            self._samples.accounts[arm.name].trouble = text
