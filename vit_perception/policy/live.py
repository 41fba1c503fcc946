"""Observations for a policy, put together from the node's topics. numpy only: rclpy, CycloneDDS or
a bag may feed it.

    decoder = LiveDecoder("/vit_encoder", expected=data_set.layouts)
    for topic in decoder.topics: ...            # subscribe, and hand over what comes:
    observation = decoder.add(topic, message)   # an Observation, or None while parts are missing

DDS keeps no order between topics, so parts are matched by their header's stamp.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.policy.continuity import MAX_GAP_S, checked_max_gap_ns, follows
from vit_perception.wire.layout import MEASURED, Layout, differing_fields
from vit_perception.wire.tensors import decode_tensor, mask_of

NANOSECONDS_PER_SECOND = 1_000_000_000
MAX_PENDING = 10
_BODY_TYPES = {"pose": "geometry_msgs/msg/PoseStamped", "state": "sensor_msgs/msg/JointState"}
# The gate of the engines holds features of every runtime and precision close to the same reference.
ENGINE_FIELDS = ("runtime", "precision", "min_cosine")
# What of a camera is known from its images, and may change with them.
GEOMETRY_FIELDS = ("source_size_px", "scale", "offset_px", "frame_id")


class LayoutMismatch(InvalidValue):
    """The live features are not those that a policy was trained on; the message names the fields
    that differ.
    """


@dataclass(frozen=True, eq=False)
class Observation:
    """One moment: what every array holds is said in ``layout``.

    ``tokens`` (N, D) and ``embedding`` (L,) in the dtype of the wire, views of the messages;
    ``mask`` (N,) bool, False for the rows of a missing camera or arm; ``poses`` by arm (7,)
    float64: position in m, quaternion xyzw, NaN where there was none; ``states`` likewise: the
    joints as ``layout.states`` names them; ``stamp_ns`` is that of the first camera present.
    """

    stamp_ns: int
    tokens: np.ndarray
    mask: np.ndarray
    embedding: np.ndarray | None
    poses: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    layout: Layout


def check_layout(
    live: Layout, expected: Sequence[Layout], may_differ: Sequence[str] = ENGINE_FIELDS
) -> None:
    """Raise LayoutMismatch where ``live`` is none of ``expected``, naming the fields that differ
    from the nearest.

    Fields in ``may_differ`` are passed over, and so is the geometry of a camera that has sent no
    image yet.
    """
    nearest: list[str] | None = None
    for layout in expected:
        if layout.layout_id == live.layout_id:
            return
        one, other = asdict(layout), asdict(live)
        for name in (*may_differ, *MEASURED):
            one.pop(name, None), other.pop(name, None)
        for seen, now in zip(one["cameras"], other["cameras"]):
            for key in GEOMETRY_FIELDS if now["source_size_px"] is None else ():
                seen.pop(key), now.pop(key)
        differences = differing_fields(one, other)
        if not differences:
            return
        nearest = differences if nearest is None or len(differences) < len(nearest) else nearest
    if nearest is not None:
        raise LayoutMismatch(
            f"layout {live.layout_id} is not that of the data: {'; '.join(nearest[:6])}"
        )


@dataclass
class _Parts:
    tokens: np.ndarray | None = None
    embedding: np.ndarray | None = None
    body: dict[str, np.ndarray] = field(default_factory=dict)  # poses and joint states


class LiveDecoder:
    """Puts one observation together from messages of several topics, matched by stamp.

    ``node``: the encoder's full name. ``expected``: the layouts that a policy can use (those of its
    training data); none takes any. ``embedding`` and ``body`` (poses and joint states) say what to
    wait for beside the tokens. ``incomplete`` counts moments that were overtaken by a later one
    before all their parts had come.
    """

    def __init__(
        self,
        node: str = "/vit_encoder",
        expected: Sequence[Layout] = (),
        embedding: bool = False,
        body: bool = True,
        may_differ: Sequence[str] = ENGINE_FIELDS,
    ):
        self._node = node.rstrip("/")
        self._expected, self._may_differ = tuple(expected), tuple(may_differ)
        self._embedding, self._body = embedding, body
        self._pending: OrderedDict[int, _Parts] = OrderedDict()
        self._newest_ns = 0
        self.layout: Layout | None = None
        self.incomplete = 0

    @property
    def layout_topic(self) -> str:
        """The latched std_msgs/String topic to subscribe to first: it says which others there
        are.
        """
        return f"{self._node}/layout"

    @property
    def topics(self) -> dict[str, str]:
        """Topic to subscribe to -> message type; only the layout's until that has come."""
        topics = {self.layout_topic: "std_msgs/msg/String"}
        if self.layout is not None:
            topics[f"{self._node}/tokens"] = "sensor_msgs/msg/Image"
            if self._embedding:
                topics[f"{self._node}/embedding"] = "sensor_msgs/msg/Image"
            for name, kind in self._streams.items():
                topics[f"{self._node}/{name}/{kind}_at_image"] = _BODY_TYPES[kind]
        return topics

    @property
    def _streams(self) -> dict[str, str]:
        return (
            {g.source: g.kind for g in self.layout.groups if g.kind in _BODY_TYPES}
            if self._body
            else {}
        )

    def add(self, topic: str, message: Any) -> Observation | None:
        """Take one message (rclpy, rosbags, CycloneDDS: fields as in ROS); the observation that it
        completes.

        Messages before the first layout are passed over. Raises LayoutMismatch for a layout that is
        not expected, ValueError for a message that contradicts the layout.
        """
        if topic == self.layout_topic:
            layout = Layout.from_json(message.data)
            check_layout(layout, self._expected, self._may_differ)
            if self.layout is not None and layout.token_count != self.layout.token_count:
                self._pending.clear()
            self.layout = layout
            return None
        if self.layout is None:
            return None
        stamp_ns = message.header.stamp.sec * NANOSECONDS_PER_SECOND + message.header.stamp.nanosec
        if stamp_ns < self._newest_ns - NANOSECONDS_PER_SECOND:
            self._forget()  # time was set back: a bag that loops
        if stamp_ns <= self._newest_ns:
            return None
        parts = self._pending.get(stamp_ns) or _Parts()
        self._put(parts, topic.removeprefix(f"{self._node}/"), message)
        self._pending[stamp_ns] = (
            parts  # only now: a message that contradicts the layout leaves nothing behind
        )
        return self._completed(stamp_ns, parts)

    def _put(self, parts: _Parts, name: str, message: Any) -> None:
        if name == "tokens":
            tokens = decode_tensor(message)
            self.layout.split(tokens)  # says what does not fit
            parts.tokens = tokens
        elif name == "embedding":
            rows = decode_tensor(message)
            if len(rows) != 1:
                raise InvalidValue(f"embedding has {len(rows)} rows; accepted: one")
            parts.embedding = rows[0]
        elif name.endswith("/pose_at_image"):
            p, q = message.pose.position, message.pose.orientation
            parts.body[name.removesuffix("/pose_at_image")] = np.array(
                [p.x, p.y, p.z, q.x, q.y, q.z, q.w]
            )
        elif name.endswith("/state_at_image"):
            state = next(
                (s for s in self.layout.states if f"{s.name}/state_at_image" == name), None
            )
            if state is None:
                raise InvalidValue(
                    f"{name} is of no state of the layout; accepted: "
                    f"{', '.join(s.name for s in self.layout.states) or 'none'}"
                )
            columns = [np.asarray(getattr(message, f), np.float64) for f in state.fields]
            if any(len(column) != len(state.joints) for column in columns):
                raise InvalidValue(
                    f"{name} has {' and '.join(str(len(c)) for c in columns)} numbers; accepted: "
                    f"{len(state.joints)} of each field"
                )
            parts.body[state.name] = np.concatenate(columns)

    def _completed(self, stamp_ns: int, parts: _Parts) -> Observation | None:
        if parts.tokens is None or (self._embedding and parts.embedding is None):
            return self._bounded()
        mask = mask_of(parts.tokens)
        # What was missing is not sent; its token says so.
        streams = self._streams
        there = {
            name
            for name, kind in streams.items()
            if mask[self.layout.group(f"{name}/{kind}").start]
        }
        if not there <= parts.body.keys():
            return self._bounded()
        widths = {s.name: len(s.joints) * len(s.fields) for s in self.layout.states}
        body = {
            name: parts.body.get(name, np.full(widths.get(name, 7), np.nan)) for name in streams
        }
        for earlier in [s for s in self._pending if s <= stamp_ns]:
            self._pending.pop(earlier)
            self.incomplete += earlier < stamp_ns
        self._newest_ns = stamp_ns
        return Observation(
            stamp_ns,
            parts.tokens,
            mask,
            parts.embedding,
            {n: v for n, v in body.items() if streams[n] == "pose"},
            {n: v for n, v in body.items() if streams[n] == "state"},
            self.layout,
        )

    def _bounded(self) -> None:
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
            self.incomplete += 1

    def _forget(self) -> None:
        self.incomplete += len(self._pending)
        self._pending.clear()
        self._newest_ns = 0


class ObservationWindow:
    """The last ``history`` observations, ``stride`` apart, oldest first, as the data set's items
    have them.

    It makes the windows that :class:`vit_perception.policy.dataset.FeatureDataset` makes of the
    same frames, with the same ``max_gap_s``: none spans a step back in time, a longer gap between
    two frames, or two layouts. Raises InvalidValue for numbers that make no window.
    """

    def __init__(self, history: int, stride: int = 1, max_gap_s: float = MAX_GAP_S):
        self._max_gap_ns = checked_max_gap_ns(history, stride, max_gap_s)
        self._stride = stride
        self._kept: deque[Observation] = deque(maxlen=(history - 1) * stride + 1)

    def begin_episode(self) -> None:
        """Begin a new window: what comes next does not belong to what came before, whatever its
        stamp.
        """
        self._kept.clear()

    def add(self, observation: Observation) -> dict[str, Any] | None:
        """Arrays with a leading axis of ``history``, named as the data set's; None until there are
        enough.

        Time that goes back, a gap, and another layout than before begin a new window.
        """
        last = self._kept[-1] if self._kept else None
        if last is not None and not follows(
            observation.stamp_ns - last.stamp_ns,
            True,
            observation.layout.layout_id == last.layout.layout_id,
            self._max_gap_ns,
        ):
            self.begin_episode()
        self._kept.append(observation)
        if len(self._kept) < self._kept.maxlen:
            return None
        chosen = list(self._kept)[:: self._stride]
        window = {
            "stamps_ns": np.array([o.stamp_ns for o in chosen]),
            "tokens": np.stack([o.tokens for o in chosen]),
            "mask": np.stack([o.mask for o in chosen]),
            "poses": {
                name: np.stack([o.poses[name] for o in chosen]) for name in observation.poses
            },
            "states": {
                name: np.stack([o.states[name] for o in chosen]) for name in observation.states
            },
        }
        if observation.embedding is not None:
            window["embedding"] = np.stack([o.embedding for o in chosen])
        return window
