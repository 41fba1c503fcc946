"""Observations for a policy, made of the node's topics. It needs numpy alone, and no ROS.

    decoder = LiveDecoder("/vit_encoder", expected=data_set.layouts)
    for topic in decoder.topics: ...            # subscribe, and pass each message on:
    observation = decoder.add(topic, message)   # an Observation, or None while parts are missing

Topics can arrive in any order, so parts are matched by the stamp of their header.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.policy.layout_check import (
    ENGINE_FIELDS,
    GEOMETRY_FIELDS,
    LayoutMismatch,
    check_layout,
)
from vit_perception.policy.window import Observation, ObservationWindow
from vit_perception.wire import topics
from vit_perception.wire.layout import Layout, LayoutApart, LayoutSource
from vit_perception.wire.records import NANOSECONDS_PER_SECOND
from vit_perception.wire.stamps import nanoseconds
from vit_perception.wire.tensors import decode_stamps, decode_tensor, mask_of

__all__ = [
    "ENGINE_FIELDS",
    "GEOMETRY_FIELDS",
    "MAX_PENDING",
    "LayoutMismatch",
    "LiveDecoder",
    "Observation",
    "ObservationWindow",
    "check_layout",
]

MAX_PENDING = 10


@dataclass
class _Parts:
    tokens: np.ndarray | None = None
    embedding: np.ndarray | None = None
    history_stamps_ns: np.ndarray | None = None
    samples: dict[str, np.ndarray] = field(default_factory=dict)  # by source
    apart: dict[str, np.ndarray] = field(default_factory=dict)  # by kind


class LiveDecoder:
    """Makes one observation of messages of several topics, matched by stamp.

    ``node`` is the encoder's full name. ``expected`` has the layouts that a policy can use (those
    of its training data); empty accepts any. ``embedding`` and ``body`` (poses, joint states,
    other sources, tokens of a topic of their own that are made of them, and the stamps of a
    history) say what to wait for in addition to the tokens.
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
            rows += [topics.HISTORY_STAMPS] if self.layout.history and self._body else []
            wanted |= {f"{self._node}/{row.name}": row.type for row in rows}
            wanted |= {f"{self._node}/{source.topic}": source.type for source in self._samples}
            wanted |= {f"{self._node}/{each.topic}": topics.APART.type for each in self._apart}
        return wanted

    @property
    def _samples(self) -> tuple[LayoutSource, ...]:
        return self.layout.samples if self._body and self.layout else ()

    @property
    def _apart(self) -> tuple[LayoutApart, ...]:
        return self.layout.apart if self._body and self.layout else ()

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
        elif name == topics.HISTORY_STAMPS.name:
            stamps_ns = decode_stamps(message)
            steps = layout.history.frames if layout.history else 0
            if len(stamps_ns) != steps:
                raise InvalidValue(
                    f"{name} has {len(stamps_ns)} stamps; accepted: {steps}, as the layout says"
                )
            parts.history_stamps_ns = stamps_ns
        elif apart := next((each for each in layout.apart if each.topic == name), None):
            rows = decode_tensor(message)
            if rows.shape != (apart.rows, apart.width):
                raise InvalidValue(
                    f"{name} is {rows.shape[0]} x {rows.shape[1]}; accepted: {apart.rows} x "
                    f"{apart.width}, as the layout says"
                )
            parts.apart[apart.kind] = rows
        elif name.endswith("_at_image"):
            source = next((s for s in layout.samples if s.topic == name), None)
            if source is None:
                raise InvalidValue(
                    f"{name} is of no source of the layout; accepted: "
                    f"{', '.join(s.topic for s in layout.samples) or 'none'}"
                )
            parts.samples[source.name] = topics.sample_numbers(source, message)

    def _completed(self, layout: Layout, stamp_ns: int, parts: _Parts) -> Observation | None:
        if (
            parts.tokens is None
            or (self._embedding and parts.embedding is None)
            or (layout.history and self._body and parts.history_stamps_ns is None)
            or any(each.kind not in parts.apart for each in self._apart)
        ):
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
            apart=parts.apart,
            history_stamps_ns=parts.history_stamps_ns,
        )

    def _drop_oldest(self) -> None:
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
            self.incomplete += 1

    def _forget(self) -> None:
        self.incomplete += len(self._pending)
        self._pending.clear()
        self._newest_ns = 0
