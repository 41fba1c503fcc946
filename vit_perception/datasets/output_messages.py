"""One frame as the messages that the node publishes for it: same topics, types, headers and bytes,
without ROS.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from vit_perception.config.settings import EncoderSettings
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.definitions import typestore
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import (
    NANOSECONDS_PER_SECOND,
    CameraResult,
    ClassScore,
    FrameResult,
    JointState,
    Pose,
)
from vit_perception.wire.tensors import TensorFields, encode_mask, encode_tensor

_FOREVER = QosTime(2147483647, 4294967295)
IMAGE, POSE, JOINTS, CLASSES, TEXT = (
    "sensor_msgs/msg/Image",
    "geometry_msgs/msg/PoseStamped",
    "sensor_msgs/msg/JointState",
    "vision_msgs/msg/Classification",
    "std_msgs/msg/String",
)


_NODE_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def check_node_name(node: str) -> None:
    """Raise ValueError where ``node`` is no full name of a node, below which topics can be."""
    if not _NODE_NAME.fullmatch(node.rstrip("/")) or "__" in node:
        raise InvalidValue(
            f"--node is {node!r}; accepted: a node's full name, such as /vit_encoder"
        )


def offered_qos(latched: bool) -> Qos:
    """What the node offers: reliable, keep-last 1, volatile, or transient local for
    ``~/layout``.
    """
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        durability,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class OutputMessage(NamedTuple):
    """One message: its topic, type as ``package/msg/Name``, and CDR bytes."""

    topic: str
    type_name: str
    data: bytes


class OutputMessages:
    """Messages below the name ``node``, for the cameras in ``classified`` with classes.

    ``features`` as in :mod:`embed_columns`.
    """

    def __init__(
        self, node: str, settings: EncoderSettings, classified: set[str], features: tuple[str, ...]
    ):
        check_node_name(node)
        self._node, self._dtype = node.rstrip("/"), settings.output.dtype
        self._classified, self._features = classified, features
        self._states = {state.name: state for state in settings.states}
        self._store = typestore()

    @property
    def layout_topic(self) -> str:
        return f"{self._node}/layout"

    def of_layout(self, layout: Layout) -> OutputMessage:
        """What ``~/layout`` says."""
        return self._make("layout", TEXT, data=layout.to_json())

    def of_frame(self, result: FrameResult) -> Iterator[OutputMessage]:
        """The messages of one frame, in the order in which the node sends them."""
        for name, camera in result.cameras.items():
            yield from self._of_camera(name, camera)
        for arm, found in result.poses.items():
            if found.pose is not None:
                yield self._make(
                    f"{arm}/pose_at_image",
                    POSE,
                    header=self._header(found.pose.stamp_ns, found.pose.frame_id),
                    pose=self._pose(found.pose),
                )
        for name, found in result.states.items():
            if found.state is not None:
                yield self._of_state(name, found.state)
        header = self._header(result.stamp_ns, result.frame_id)
        if "embedding" in self._features:
            yield self._image(
                "embedding", header, encode_tensor(result.embedding[None], self._dtype)
            )
        yield self._image("token_mask", header, encode_mask(result.sequence.mask))
        if "tokens" in self._features:
            yield self._image("tokens", header, encode_tensor(result.sequence.tokens, self._dtype))

    def _of_camera(self, name: str, camera: CameraResult) -> Iterator[OutputMessage]:
        header = self._header(camera.image.stamp_ns, camera.image.frame_id)
        if "cls" in self._features:
            yield self._image(
                f"{name}/cls_token", header, encode_tensor(camera.cls_token[None], self._dtype)
            )
        if "patch" in self._features:
            yield self._image(
                f"{name}/patch_features", header, encode_tensor(camera.patch_tokens, self._dtype)
            )
        if name in self._classified:
            yield self._make(
                f"{name}/classification",
                CLASSES,
                header=header,
                results=self._scores(camera.classes),
            )

    def _of_state(self, name: str, state: JointState) -> OutputMessage:
        settings = self._states[name]
        parts = dict(zip(settings.fields, np.split(state.numbers, len(settings.fields))))
        none = np.zeros(0)
        return self._make(
            f"{name}/state_at_image",
            JOINTS,
            header=self._header(state.stamp_ns, state.frame_id),
            name=list(settings.joints),
            position=parts.get("position", none),
            velocity=parts.get("velocity", none),
            effort=none,
        )

    def _scores(self, classes: tuple[ClassScore, ...]) -> list:
        hypothesis = self._store.types["vision_msgs/msg/ObjectHypothesis"]
        return [hypothesis(class_id=c.class_id, score=c.score) for c in classes]

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        types = self._store.types
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
        return types["std_msgs/msg/Header"](
            types["builtin_interfaces/msg/Time"](seconds, nanoseconds), frame_id
        )

    def _pose(self, pose: Pose) -> Any:
        types = self._store.types
        return types["geometry_msgs/msg/Pose"](
            types["geometry_msgs/msg/Point"](*map(float, pose.position_m)),
            types["geometry_msgs/msg/Quaternion"](*map(float, pose.quaternion_xyzw)),
        )

    def _image(self, topic: str, header: Any, fields: TensorFields) -> OutputMessage:
        return self._make(
            topic,
            IMAGE,
            header=header,
            height=fields.height,
            width=fields.width,
            encoding=fields.encoding,
            is_bigendian=fields.is_bigendian,
            step=fields.step,
            data=np.frombuffer(fields.data, np.uint8),
        )

    def _make(self, topic: str, type_name: str, **fields: Any) -> OutputMessage:
        message = self._store.types[type_name](**fields)
        return OutputMessage(
            f"{self._node}/{topic}", type_name, bytes(self._store.serialize_cdr(message, type_name))
        )
