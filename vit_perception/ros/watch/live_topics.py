"""Listens to a running encoder node: to its views, classes and poses, to the images that it takes,
and to /diagnostics.
"""

import os
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from vit_perception.config.cameras.transports import NAMES, TRANSPORTS, VIDEO_TYPES
from vit_perception.files.errors import UserError
from vit_perception.image.video.decoder import VideoDecoder, VideoPicture
from vit_perception.image.video.packets import packet_of
from vit_perception.ros.messages import class_of
from vit_perception.ros.qos import LATCHED_QOS, video_qos
from vit_perception.ros.video.installed import missing_messages
from vit_perception.wire.layout import POSE_TYPE, Layout
from vit_perception.wire.records import BadInput
from vit_perception.wire.topics import CLASSES_TYPE, CLASSIFICATION, IMAGE_TYPE, MONITOR, VIEWS

COMPRESSED_TYPE = TRANSPORTS["compressed"].type
MOST_STATUSES = 200  # everybody may publish on /diagnostics
MOST_PACKETS = 100  # of a video, that wait to be shown
MOST_SOURCES = 32  # cameras, and arms, that are listened to
GRAPH_PERIOD_S = 1.0  # between two looks at who publishes
# Best effort matches every publisher, and no publisher waits for a slow viewer.
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
NOVELTY = MONITOR[0]
_VIEW_KINDS = dict(zip((row.name for row in VIEWS), ("pca", "attention"), strict=True))


class Source(NamedTuple):
    """What a topic is to the viewer."""

    kind: str  # image, pca, attention, classes or pose
    name: str  # of the camera or the arm
    type: str  # sensor_msgs/msg/Image, ...


class Reading(NamedTuple):
    """The newest message of a topic."""

    source: Source
    # Of a video its newest picture, or the BadInput that says why there is none.
    message: Any


class WatchedVideo:
    """The video of a camera: every packet is decoded, and the newest picture shown."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._decoder = VideoDecoder()
        self._packets: deque[bytes] = deque(maxlen=MOST_PACKETS)

    def add(self, data: bytes) -> None:
        """Take a message, as bytes; if too many wait, the first one is lost."""
        self._packets.append(data)

    def newest(self) -> VideoPicture | BadInput | None:
        """Return the newest picture since the last call, or why there is none; None: none came."""
        found: VideoPicture | BadInput | None = None
        while self._packets:
            data = self._packets.popleft()
            try:
                packet = packet_of(deserialize_message(data, class_of(self.source.type)))
            except (RuntimeError, BadInput) as error:
                self._decoder.lose("a message is damaged")
                found = found or BadInput("decode", str(error))
                continue
            for each in self._decoder.take(packet):
                if isinstance(each, VideoPicture):
                    found = each
                elif found is None:
                    found = BadInput(each.reason, each.text)
        return found


class LiveTopics:
    """A participant of its own that listens to ``node``. Use it in a ``with`` block.

    Memory: the newest message of each topic. When the node comes back with other cameras, the
    subscriptions follow its new layout.
    """

    def __init__(self, node: str) -> None:
        self._encoder = node
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node(
            f"_vit_perception_watch_{os.getpid()}",
            context=self._context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(String, f"{node}/layout", self._on_layout, LATCHED_QOS)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.layout: Layout | None = None
        self.refused = ""  # why the newest layout cannot be read; empty if it can
        self.present = True  # whether somebody publishes the layout
        self._inputs: dict[str, str] = {}  # topic of each camera
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._subscriptions: dict[str, tuple[Source, Any]] = {}
        self._newest: dict[str, tuple[Source, bytes]] = {}
        self._videos: dict[str, WatchedVideo] = {}  # by topic
        self._looked_s = 0.0

    def __enter__(self) -> "LiveTopics":
        return self

    def __exit__(self, *raised: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, seconds: float) -> None:
        """Receive for so long."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)
        if time.monotonic() - self._looked_s >= GRAPH_PERIOD_S:
            self._looked_s = time.monotonic()
            self.present = bool(self._node.count_publishers(f"{self._encoder}/layout"))
            self._follow()

    def readings(self) -> Iterator[Reading]:
        """Take the newest message of each topic that came since the last call."""
        for video in self._videos.values():
            if newest_picture := video.newest():
                yield Reading(video.source, newest_picture)
        newest, self._newest = self._newest, {}
        for source, data in newest.values():
            try:
                message = deserialize_message(data, class_of(source.type))
            except RuntimeError:
                continue  # cut bytes of a foreign sender
            yield Reading(source, message)

    def statuses(self) -> dict[str, DiagnosticStatus]:
        """Take the node's new statuses by the text after its name: "camera wrist", "latency"."""
        statuses, self._statuses = self._statuses, {}
        return statuses

    def _on_layout(self, message: String) -> None:
        try:
            self.layout = Layout.from_json(message.data)
            self.refused = ""
        except UserError as error:
            self.refused = str(error)
        self._looked_s = 0.0

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = f"{self._encoder.lstrip('/')}: "
        for status in message.status:
            name = status.name.removeprefix(prefix)
            known = name in self._statuses or len(self._statuses) < MOST_STATUSES
            if name != status.name and known:
                self._statuses[name] = status
                self._take_topic(name, status)

    def _take_topic(self, name: str, status: DiagnosticStatus) -> None:
        """Note the input of a camera, which only /diagnostics names."""
        topic = next((v.value for v in status.values if v.key == "topic"), "")
        camera = name.removeprefix("camera ")
        if topic and self.layout is not None and camera in {c.name for c in self.layout.cameras}:
            self._inputs[camera] = topic

    def _follow(self) -> None:
        """Subscribe to what the layout and the diagnostics name, and to nothing else."""
        wanted = dict(self._wanted())
        for topic, (source, subscription) in list(self._subscriptions.items()):
            if wanted.get(topic) != source:
                self._node.destroy_subscription(subscription)
                del self._subscriptions[topic]
                self._videos.pop(topic, None)
        for topic, source in wanted.items():
            if topic not in self._subscriptions:
                self._subscribe(topic, source)

    def _wanted(self) -> Iterator[tuple[str, Source]]:
        if self.layout is None:
            return
        types = dict(self._node.get_topic_names_and_types())
        for camera in self.layout.cameras[:MOST_SOURCES]:
            for row, kind in _VIEW_KINDS.items():
                topic = f"{self._encoder}/{row.format(camera.name)}"
                yield topic, Source(kind, camera.name, IMAGE_TYPE)
            if camera.labels:
                topic = f"{self._encoder}/{CLASSIFICATION.name.format(camera.name)}"
                yield topic, Source("classes", camera.name, CLASSES_TYPE)
            topic = f"{self._encoder}/{NOVELTY.name.format(camera.name)}"
            if topic in types:
                yield topic, Source("classes", camera.name, CLASSES_TYPE)
            topic = self._inputs.get(camera.name, "")
            found = set(NAMES) & set(types.get(topic, ()))
            if len(found) == 1:
                yield topic, Source("image", camera.name, found.pop())
        for sample in self.layout.samples[:MOST_SOURCES]:
            if sample.type == POSE_TYPE:
                yield f"{self._encoder}/{sample.topic}", Source("pose", sample.name, POSE_TYPE)

    def _subscribe(self, topic: str, source: Source) -> None:
        def on_bytes(data: bytes) -> None:
            self._newest[topic] = (source, data)

        is_video = source.type in VIDEO_TYPES
        if is_video and missing_messages(NAMES[source.type]):
            return  # the node's views are shown all the same
        video = WatchedVideo(source) if is_video else None
        try:
            # Raw: only what is shown is decoded.
            subscription = self._node.create_subscription(
                class_of(source.type),
                topic,
                video.add if video else on_bytes,
                video_qos() if video else _QOS,
                raw=True,
            )
        except NameValidationException:
            return  # a name that only a foreign /diagnostics can give
        if video:
            self._videos[topic] = video
        self._subscriptions[topic] = (source, subscription)
