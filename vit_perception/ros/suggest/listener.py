"""Listens to the topics on the ROS graph that the node could use, for some seconds."""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from vit_perception.config.cameras.transports import VIDEO_TYPES
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.image.camera_info import INFO_TYPE, calibration_of, info_stamp_ns
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.video.decoder import VideoDecoder
from vit_perception.ros.events.pairs import node_name, policies
from vit_perception.ros.messages import class_of
from vit_perception.ros.qos import LATCHED_QOS, image_qos, sample_qos, video_qos
from vit_perception.ros.suggest.choice import (
    COMPRESSED,
    LISTENED,
    POSE,
    RAW,
    STATE,
    TRANSPORTS,
    WRENCH,
)
from vit_perception.ros.suggest.qos_pairs import mismatches
from vit_perception.ros.suggest.ros_start import no_ros
from vit_perception.ros.suggest.seen import Arrival, GraphSeen, TopicSeen
from vit_perception.ros.suggest.videos import first_picture
from vit_perception.ros.video.installed import missing_messages
from vit_perception.streams.joint_history import MOST_JOINTS
from vit_perception.streams.pose_history import pose_of
from vit_perception.tokens.wrench import WrenchSettings, WrenchSource
from vit_perception.wire.records import BadInput, check_frame_id
from vit_perception.wire.stamps import stamp_ns_of

LISTEN_S = 4.0
FIND_S = 4.0  # how long the first topic is looked for
LEAST_S = 2.0  # publishers are found one after the other
ENOUGH = 20  # messages of each topic
MOST_TOPICS = 64  # that are listened to at once
MOST_PUBLISHERS = 3  # of a topic that are named
MOST_FRAMES = 16  # frame ids of a topic that are counted
MOST_DRIVERS = 16
LONGEST_NAME = 256  # of a joint, in characters
_STEP_S = 0.05
_LOOK_S = 0.2  # between two looks at the graph
_LIFE_CYCLE = "/transition_event"  # a topic of every lifecycle node
_LAYOUT = "/layout"
_TRIAL = "/vit_perception_trial_"  # doctor's own images


def look_at_graph(listen_s: float = LISTEN_S) -> GraphSeen:
    """Listen for ``listen_s`` from the first topic on, less if enough of each has come.

    It is a participant of its own, in a context of its own, and ends as one. Without any topic it
    takes FIND_S.

    Raises:
        OperationFailed: ROS does not start here, for example because of its environment variables.
    """
    context = rclpy.Context()
    try:
        rclpy.init(args=[], context=context)
    except RuntimeError as error:  # rclpy's own errors are of that class
        raise no_ros(str(error)) from error
    node = Node(
        f"_vit_perception_doctor_{os.getpid()}",
        context=context,
        use_global_arguments=False,
        enable_rosout=False,
        start_parameter_services=False,
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _Listener(node, executor).listen(listen_s)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


class _Listener:
    def __init__(self, node: Node, executor: SingleThreadedExecutor):
        self._node = node
        self._executor = executor
        self._topics: dict[str, TopicSeen] = {}
        self._unheard: dict[str, None] = {}

    def listen(self, listen_s: float) -> GraphSeen:
        """Spin, and return what was seen."""
        began_s = found_s = time.monotonic()
        looked_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s - looked_s >= _LOOK_S:
                self._find()
                looked_s = now_s
            if not self._sources():
                found_s = now_s
                if now_s - began_s > FIND_S:
                    break
            elif now_s - found_s > listen_s or (now_s - found_s > LEAST_S and self._enough()):
                break
            self._executor.spin_once(timeout_sec=_STEP_S)
        for topic in self._topics.values():
            topic.publishers = self._publishers(topic)
        return GraphSeen(
            domain=os.environ.get("ROS_DOMAIN_ID") or "0",
            listened_s=time.monotonic() - (found_s if self._sources() else began_s),
            topics=tuple(self._sources()),
            infos=tuple(self._sources(infos=True)),
            mismatches=tuple(mismatches(self._node)),
            has_clock=self._node.count_publishers("/clock") > 0,
            has_tf=self._node.count_publishers("/tf") > 0,
            encoders=tuple(sorted(self._encoders())),
            unheard=tuple(self._unheard),
        )

    def _sources(self, infos: bool = False) -> list[TopicSeen]:
        """The topics that a source could listen to, or those of CameraInfo, by name."""
        found = [each for each in self._topics.values() if (each.type == INFO_TYPE) == infos]
        return sorted(found, key=lambda topic: topic.name)

    def _enough(self) -> bool:
        # A CameraInfo is kept and sent once, or comes with the images.
        infos = all(topic.received for topic in self._sources(infos=True))
        return infos and all(map(_has_enough, self._sources()))

    def _find(self) -> None:
        """Subscribe to topics that have come."""
        encoders = self._encoders()
        for name, types in self._node.get_topic_names_and_types():
            kind = next((each for each in LISTENED if each in types), None)
            own = name.startswith(_TRIAL) or any(name.startswith(f"{e}/") for e in encoders)
            if kind is None or own or name in self._topics:
                continue
            if not self._node.count_publishers(name):
                continue
            if len(self._topics) >= MOST_TOPICS:
                self._unheard[name] = None
                continue
            topic = self._topics[name] = TopicSeen(name, kind)
            if kind in VIDEO_TYPES:
                topic.refused = missing_messages(TRANSPORTS[kind])
                if topic.refused:
                    continue
                topic.video = VideoDecoder()
            self._node.create_subscription(
                class_of(kind),
                name,
                partial(take, topic),
                self._qos_of(name, kind),
            )

    def _qos_of(self, name: str, kind: str) -> QoSProfile:
        """Return that of the node's own subscription; of a kept CameraInfo one that gets it."""
        publishers = self._node.get_publishers_info_by_topic(name)
        kept = [p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers]
        if kind == INFO_TYPE and kept and all(kept):
            return LATCHED_QOS
        if kind in VIDEO_TYPES:
            return video_qos()
        return image_qos() if kind in TRANSPORTS or kind == INFO_TYPE else sample_qos()

    def _encoders(self) -> set[str]:
        """Full names of encoder nodes that are configured: their topics are outputs."""
        names = {name for name, _ in self._node.get_topic_names_and_types()}
        living = {n.removesuffix(_LIFE_CYCLE) for n in names if n.endswith(_LIFE_CYCLE)}
        return {node for node in living if f"{node}{_LAYOUT}" in names}

    def _publishers(self, topic: TopicSeen) -> tuple[str, ...]:
        found = [
            f"{node_name(each)} ({policies(each.qos_profile)})"
            for each in self._node.get_publishers_info_by_topic(topic.name)
        ]
        more = len(found) - MOST_PUBLISHERS
        return (*found[:MOST_PUBLISHERS], *([f"{more} more"] if more > 0 else []))


def _has_enough(topic: TopicSeen) -> bool:
    if topic.refused and not topic.received:
        return True  # its messages are not installed: none will come
    return topic.received >= ENOUGH and topic.video is None


def take(topic: TopicSeen, message: Any) -> None:
    """Note a message of ``topic``, or why the node cannot use it."""
    wall_ns = time.time_ns()
    topic.received += 1
    try:
        # That of a kept CameraInfo may be 0.
        if topic.type in VIDEO_TYPES:
            message = first_picture(topic, message)
        is_info = topic.type == INFO_TYPE
        stamp_ns = info_stamp_ns(message) if is_info else stamp_ns_of(message.header)
        check_frame_id(message.header.frame_id)
        if topic.type in _READERS:
            _READERS[topic.type](topic, message)
    except BadInput as error:
        topic.refused = printable(str(error), MOST_SHOWN, keep="")
        return
    topic.usable = True
    topic.arrivals.append(Arrival(stamp_ns, wall_ns))
    frame_id = message.header.frame_id
    if frame_id in topic.frame_ids or len(topic.frame_ids) < MOST_FRAMES:
        topic.frame_ids[frame_id] += 1


def _read_image(topic: TopicSeen, message: Any) -> None:
    """Note what the picture is; only the first usable one and those of another kind are decoded."""
    compressed = topic.type == COMPRESSED
    kind = message.format if compressed else message.encoding
    topic.largest_bytes = max(topic.largest_bytes, len(message.data))
    if topic.usable and topic.picture.endswith(f" {_shown(kind)}"):
        return
    image = decode_compressed(message) if compressed else decode_image(message)
    height, width = image.pixels.shape[:2]
    topic.picture = f"{width}×{height} {_shown(kind)}"


def _shown(kind: str) -> str:
    return printable(kind, 60, keep="")


def _read_pose(topic: TopicSeen, message: Any) -> None:
    pose_of(message)


def _read_joints(topic: TopicSeen, message: Any) -> None:
    names = tuple(message.name)
    if not names or len(names) > MOST_JOINTS or len(set(names)) < len(names):
        raise BadInput(
            "joints",
            f"name holds {len(names)} names; accepted: 1 to {MOST_JOINTS}, each once",
        )
    if not all(0 < len(name) <= LONGEST_NAME and name.isprintable() for name in names):
        raise BadInput(
            "joints",
            "a joint's name is empty, does not print, or is too long; accepted: up to "
            f"{LONGEST_NAME} characters",
        )
    if len(message.position) != len(names):
        raise BadInput(
            "length",
            f"position has {len(message.position)} values for {len(names)} names; accepted: one "
            "each",
        )
    if names in topic.drivers:
        return
    if len(topic.drivers) < MOST_DRIVERS:
        topic.drivers.add(names)
        topic.joints.update(dict.fromkeys(names))
        topic.has_velocities |= len(message.velocity) == len(names)


def _read_wrench(topic: TopicSeen, message: Any) -> None:
    frame_id = message.header.frame_id or "none"
    WrenchSource(WrenchSettings("any", topic.name, frame_id)).sample_of(message)


def _read_info(topic: TopicSeen, message: Any) -> None:
    topic.calibration = calibration_of(message)


_READERS: dict[str, Callable[[TopicSeen, Any], None]] = {
    RAW: _read_image,
    COMPRESSED: _read_image,
    POSE: _read_pose,
    STATE: _read_joints,
    WRENCH: _read_wrench,
    INFO_TYPE: _read_info,
}
