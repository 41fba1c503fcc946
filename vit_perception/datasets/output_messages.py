"""One frame as the messages that the node publishes: same topics, types and bytes, no ROS."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rosbags.interfaces import (
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys.store import Typestore

from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.definitions import typestore
from vit_perception.wire import topics
from vit_perception.wire.basis import Basis
from vit_perception.wire.layout import Layout
from vit_perception.wire.stamps import header_fields
from vit_perception.wire.tensors import encode_numbers
from vit_perception.wire.topics import Fields, Outgoing, SentTopic

IMAGE = "sensor_msgs/msg/Image"
TIME = "builtin_interfaces/msg/Time"
_FOREVER = QosTime(2147483647, 4294967295)
_NODE_NAME = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


def check_node_name(node: str) -> None:
    """Check that ``node`` is the full name of a node.

    Raises:
        InvalidValue: It is not.
    """
    if not _NODE_NAME.fullmatch(node.rstrip("/")) or "__" in node:
        raise InvalidValue(
            f" is {node!r}; accepted: a node's full name, such as /vit_encoder", argument="node"
        )


def offered_qos(latched: bool) -> Qos:
    """Return the QoS of the node's publishers: reliable, keep-last 1.

    Durability is volatile, or transient local if ``latched``.
    """
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


class OutputMessage(NamedTuple):
    """One message of the node."""

    # The full name.
    topic: str
    type_name: str  # package/msg/Name
    data: bytes  # CDR
    # Whether its QoS is transient local.
    latched: bool


class OutputMessages:
    """Messages below the name ``node``; ``features`` as in :mod:`embed_columns`.

    ``columns`` are the names of what :mod:`recorded_columns` adds to each frame, and ``monitored``
    the cameras of the reference.
    """

    def __init__(
        self,
        node: str,
        features: tuple[str, ...],
        columns: Sequence[str] = (),
        monitored: Sequence[str] = (),
    ):
        check_node_name(node)
        self._columns = columns
        self._monitored = monitored
        self._node = node.rstrip("/")
        self._features = ("", *features)

    def of_layout(self, layout: Layout, basis: Basis | None = None) -> Iterator[OutputMessage]:
        """Yield the latched messages, as the node sends them with a new layout.

        ``basis`` is the layout's.
        """
        for topic in self._topics(layout):
            if topic.row.latched:
                fields = topics.latched_fields(topic.row, layout, f"{self._node}/layout", basis)
                yield self._message(topic, fields)

    def of_frame(self, outgoing: Outgoing) -> Iterator[OutputMessage]:
        """Yield the messages of one frame, in the order in which the node sends them."""
        for topic in self._topics(outgoing.layout):
            fields = topic.row.encode(outgoing, topic.source) if topic.row.encode else None
            if fields is not None:
                yield self._message(topic, fields)

    def of_columns(
        self, stamp_ns: int, frame_id: str, values: Mapping[str, Any]
    ) -> Iterator[OutputMessage]:
        """Yield two messages for each column that has a value in the row ``values``.

        ``~/columns/<name>`` has the numbers, as a 1 × n Image of 64FC1 with the image's stamp, and
        ``~/columns/<name>/stamp`` the stamp of the sample, as a Time: the image's if it has none.
        A dot in a name is a slash in its topic.
        """
        for name in self._columns:
            if not values.get(f"{name}.mask", True):
                continue
            topic = f"{self._node}/columns/{name.replace('.', '/')}"
            numbers = {
                "header": header_fields(stamp_ns, frame_id),
                **encode_numbers(values[name])._asdict(),
            }
            stamp = header_fields(int(values.get(f"{name}.stamp_ns", stamp_ns)), "")["stamp"]
            for suffix, kind, fields in (("", IMAGE, numbers), ("/stamp", TIME, stamp)):
                yield OutputMessage(
                    topic=topic + suffix,
                    type_name=kind,
                    data=cdr_of(kind, fields),
                    latched=False,
                )

    def _topics(self, layout: Layout) -> list[SentTopic]:
        every = topics.topics_of(layout, self._monitored)
        return [topic for topic in every if topic.row.feature in self._features]

    def _message(self, topic: SentTopic, fields: Fields) -> OutputMessage:
        data = cdr_of(topic.row.type, fields)
        name = f"{self._node}/{topic.name}"
        return OutputMessage(
            topic=name, type_name=topic.row.type, data=data, latched=topic.row.latched
        )


def cdr_of(type_name: str, fields: Fields) -> bytes:
    """Return the bytes of a message; fields that are not given are zero or empty."""
    store = typestore()
    return bytes(store.serialize_cdr(_filled(store, type_name, fields), type_name))


def _filled(store: Typestore, type_name: str, fields: Fields) -> Any:
    _, definitions = store.fielddefs[type_name]
    values = {
        name: _value(store, node, content, fields.get(name))
        for name, (node, content) in definitions
    }
    return store.types[type_name](**values)


def _value(store: Typestore, node: int, content: Any, value: Any) -> Any:
    if node == Nodetype.NAME:
        return _filled(store, content, value or {})
    if node == Nodetype.BASE:
        return ("" if content[0] == "string" else 0) if value is None else value
    (item_node, item), _ = content
    if item_node == Nodetype.NAME:
        return [_filled(store, item, each) for each in value or ()]
    if item[0] == "string":
        return list(value or ())
    # A view: the bytes of an image are not copied.
    return np.zeros(0, item[0]) if value is None else np.asarray(value, item[0])
