"""Observations for a policy, made of the node's topics. It needs numpy alone, and no ROS.

    decoder = LiveDecoder("/vit_encoder", expected=data_set.layouts)
    for topic in decoder.topics: ...            # subscribe, and pass each message on:
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
from vit_perception.wire import topics
from vit_perception.wire.json_values import differing_fields
from vit_perception.wire.layout import MEASURED, Layout, LayoutSource
from vit_perception.wire.records import NANOSECONDS_PER_SECOND
from vit_perception.wire.stamps import nanoseconds
from vit_perception.wire.tensors import decode_tensor, mask_of

MAX_PENDING = 10
# The engines' accuracy check holds features of every runtime and precision close to one reference.
ENGINE_FIELDS = ("runtime", "precision", "min_cosine")
# Fields of a camera that are known from its images, and may change with them.
GEOMETRY_FIELDS = ("source_size_px", "scale", "offset_px", "frame_id")


class LayoutMismatch(InvalidValue):
    """The live features are not those of a policy's training; the message names the differences."""


@dataclass(frozen=True, eq=False)
class Observation:
    """What the node sent for one image stamp."""

    stamp_ns: int  # of the first camera present
    tokens: np.ndarray  # (N, D) in the dtype of the wire, a view of the message
    mask: np.ndarray  # (N,) bool: False for the rows of a source that was missing
    embedding: np.ndarray | None  # (L,) in the dtype of the wire, a view of the message
    # By the group's and the source's name, (count,) float64, as ``layout.samples`` names the
    # numbers; NaN if the source was missing.
    samples: dict[str, dict[str, np.ndarray]]
    layout: Layout  # what every array holds

    @property
    def poses(self) -> dict[str, np.ndarray]:
        """By arm, (7,): position in m, quaternion xyzw."""
        return self.samples.get("poses", {})

    @property
    def states(self) -> dict[str, np.ndarray]:
        """By name: the joints as ``layout.states`` names them."""
        return self.samples.get("states", {})


def check_layout(
    live: Layout, expected: Sequence[Layout], may_differ: Sequence[str] = ENGINE_FIELDS
) -> None:
    """Check that ``live`` is one of ``expected``.

    Fields in ``may_differ`` are not compared, nor is the geometry of a camera without images yet.

    Raises:
        LayoutMismatch: it is not; the message names the fields that differ from the nearest one.
    """
    nearest: list[str] | None = None
    for layout in expected:
        if layout.layout_id == live.layout_id:
            return
        one = asdict(layout)
        other = asdict(live)
        for each in (one, other, *one["encoders"], *other["encoders"]):
            for name in (*may_differ, *MEASURED):
                each.pop(name, None)
        for seen, now in zip(one["cameras"], other["cameras"]):
            for key in GEOMETRY_FIELDS if now["source_size_px"] is None else ():
                seen.pop(key), now.pop(key)
        unseen = {camera.name for camera in live.cameras if camera.source_size_px is None}
        for encoder in (*one["encoders"], *other["encoders"]):
            encoder["views"] = [v for v in encoder["views"] if v["camera"] not in unseen]
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
    samples: dict[str, np.ndarray] = field(default_factory=dict)  # by source


class LiveDecoder:
    """Makes one observation of messages of several topics, matched by stamp.

    ``node`` is the encoder's full name. ``expected`` has the layouts that a policy can use (those
    of its training data); empty accepts any. ``embedding`` and ``body`` (poses, joint states and
    other sources) say what to wait for in addition to the tokens.
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
        self._expected = tuple(expected)
        self._may_differ = tuple(may_differ)
        self._embedding = embedding
        self._body = body
        self._pending: OrderedDict[int, _Parts] = OrderedDict()
        self._newest_ns = 0
        self.layout: Layout | None = None
        # Number of stamps that were not complete when a later stamp was.
        self.incomplete = 0

    @property
    def layout_topic(self) -> str:
        """The latched std_msgs/String topic to subscribe to first; it names the others."""
        return f"{self._node}/{topics.LAYOUT.name}"

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic to subscribe to; only the layout's until it has arrived."""
        wanted = {self.layout_topic: topics.LAYOUT.type}
        if self.layout is not None:
            rows = [topics.TOKENS, topics.EMBEDDING] if self._embedding else [topics.TOKENS]
            wanted |= {f"{self._node}/{row.name}": row.type for row in rows}
            wanted |= {f"{self._node}/{source.topic}": source.type for source in self._samples}
        return wanted

    @property
    def _samples(self) -> tuple[LayoutSource, ...]:
        return self.layout.samples if self._body and self.layout else ()

    def add(self, topic: str, message: Any) -> Observation | None:
        """Take one message (rclpy, rosbags, CycloneDDS: fields as in ROS).

        Returns the observation that it completes, or None. Messages before the first layout are
        ignored.

        Raises:
            LayoutMismatch: it is a layout that is not expected.
            InvalidValue: it contradicts the layout.
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
        stamp_ns = nanoseconds(message.header.stamp)
        if stamp_ns < self._newest_ns - NANOSECONDS_PER_SECOND:
            self._forget()  # time was set back: a bag that loops
        if stamp_ns <= self._newest_ns:
            return None
        parts = self._pending.get(stamp_ns) or _Parts()
        self._put(self.layout, parts, topic.removeprefix(f"{self._node}/"), message)
        # Only now: a message that contradicts the layout must leave nothing.
        self._pending[stamp_ns] = parts
        return self._completed(self.layout, stamp_ns, parts)

    def _put(self, layout: Layout, parts: _Parts, name: str, message: Any) -> None:
        if name == topics.TOKENS.name:
            tokens = decode_tensor(message)
            layout.split(tokens)  # checks the number of rows
            parts.tokens = tokens
        elif name == topics.EMBEDDING.name:
            rows = decode_tensor(message)
            if len(rows) != 1:
                raise InvalidValue(f"embedding has {len(rows)} rows; accepted: one")
            parts.embedding = rows[0]
        elif name.endswith("_at_image"):
            source = next((s for s in layout.samples if s.topic == name), None)
            if source is None:
                raise InvalidValue(
                    f"{name} is of no source of the layout; accepted: "
                    f"{', '.join(s.topic for s in layout.samples) or 'none'}"
                )
            parts.samples[source.name] = topics.sample_numbers(source, message)

    def _completed(self, layout: Layout, stamp_ns: int, parts: _Parts) -> Observation | None:
        if parts.tokens is None or (self._embedding and parts.embedding is None):
            self._drop_oldest()
            return None
        mask = mask_of(parts.tokens)
        samples: dict[str, dict[str, np.ndarray]] = {}
        for source in self._samples:
            numbers = parts.samples.get(source.name)
            if numbers is None:
                # A missing sample is not sent; its token says so.
                if mask[layout.group(f"{source.name}/{source.kind}").start]:
                    self._drop_oldest()
                    return None
                numbers = np.full(source.count, np.nan)
            samples.setdefault(source.group, {})[source.name] = numbers
        for earlier in [s for s in self._pending if s <= stamp_ns]:
            self._pending.pop(earlier)
            self.incomplete += earlier < stamp_ns
        self._newest_ns = stamp_ns
        return Observation(
            stamp_ns=stamp_ns,
            tokens=parts.tokens,
            mask=mask,
            embedding=parts.embedding,
            samples=samples,
            layout=layout,
        )

    def _drop_oldest(self) -> None:
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
            self.incomplete += 1

    def _forget(self) -> None:
        self.incomplete += len(self._pending)
        self._pending.clear()
        self._newest_ns = 0


class ObservationWindow:
    """The last ``history`` observations, ``stride`` apart, oldest first.

    It makes the same windows of the same frames as
    :class:`vit_perception.policy.dataset.FeatureDataset`: none spans a step back in time, a gap of
    more than ``max_gap_s`` between two frames, or two layouts.

    Raises:
        InvalidValue: a number is not accepted.
    """

    def __init__(self, history: int, stride: int = 1, max_gap_s: float = MAX_GAP_S):
        self._max_gap_ns = checked_max_gap_ns(history, stride, max_gap_s)
        self._stride = stride
        self._kept: deque[Observation] = deque(maxlen=(history - 1) * stride + 1)

    def begin_episode(self) -> None:
        """Begin a new window: the next observation does not continue the last one."""
        self._kept.clear()

    def add(self, observation: Observation) -> dict[str, Any] | None:
        """Return arrays with a leading axis of ``history``, named as the data set's.

        Returns None until there are enough observations. A step back in time, a gap, and another
        layout begin a new window.
        """
        last = self._kept[-1] if self._kept else None
        if last is not None and not follows(
            step_ns=observation.stamp_ns - last.stamp_ns,
            same_episode=True,
            same_layout=observation.layout.layout_id == last.layout.layout_id,
            max_gap_ns=self._max_gap_ns,
        ):
            self.begin_episode()
        self._kept.append(observation)
        if len(self._kept) < (self._kept.maxlen or 0):
            return None
        chosen = list(self._kept)[:: self._stride]
        window = {
            "stamps_ns": np.array([o.stamp_ns for o in chosen]),
            "tokens": np.stack([o.tokens for o in chosen]),
            "mask": np.stack([o.mask for o in chosen]),
            "poses": {},
            "states": {},
        }
        for group, sources in observation.samples.items():
            window[group] = {
                name: np.stack([o.samples[group][name] for o in chosen]) for name in sources
            }
        if observation.embedding is not None:
            window["embedding"] = np.stack([o.embedding for o in chosen])
        return window
