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
from vit_perception.wire.basis import (
    Basis,
    coefficients_of,
    decode_groups,
    exact_rows,
    expand_groups,
    mask_of_groups,
)
from vit_perception.wire.layout import Layout, LayoutApart, LayoutSource
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput
from vit_perception.wire.sample_fields import sample_numbers
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
    mask: np.ndarray | None = None
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # of a layout with a basis
    embedding: np.ndarray | None = None
    history_stamps_ns: np.ndarray | None = None
    samples: dict[str, np.ndarray] = field(default_factory=dict)  # by source
    apart: dict[str, np.ndarray] = field(default_factory=dict)  # by kind


class LiveDecoder:
    """Makes one observation of messages of several topics, matched by stamp.

    ``node`` is the encoder's full name. ``expected`` has the layouts that a policy can use (those
    of its training data); empty accepts any. ``embedding`` and ``body`` (poses, joint states,
    other sources, tokens of a topic of their own that are made of them, and the stamps of a
    history) say what to wait for in addition to the tokens. If the layout has a basis, frames wait
    for it, and are restored; with ``expand`` False they wait for none, and their patch tokens are
    coefficients.
    """

    def __init__(
        self,
        node: str = "/vit_encoder",
        expected: Sequence[Layout] = (),
        embedding: bool = False,
        body: bool = True,
        may_differ: Sequence[str] = ENGINE_FIELDS,
        expand: bool = True,
    ):
        self._node = node.rstrip("/")
        self._expected = tuple(expected)
        self._may_differ = tuple(may_differ)
        self._embedding = embedding
        self._body = body
        self._pending: OrderedDict[int, _Parts] = OrderedDict()
        self._newest_ns = 0
        self.layout: Layout | None = None
        self._expand = expand
        self._basis_rows: np.ndarray | None = None  # of the last ~/basis
        self._basis: Basis | None = None  # if it is that of the layout
        # Number of stamps that were not complete when a later stamp was.
        self.incomplete = 0

    @property
    def layout_topic(self) -> str:
        """The latched std_msgs/String topic to subscribe to first; it names the others."""
        return f"{self._node}/{topics.LAYOUT.name}"

    @property
    def latched(self) -> frozenset[str]:
        """The topics of ``topics`` that are transient local: who comes late still hears them."""
        return frozenset({self.layout_topic, self._basis_topic})

    @property
    def _basis_topic(self) -> str:
        return f"{self._node}/{topics.BASIS.name}"

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic to subscribe to; only the layout's until it has arrived."""
        wanted = {self.layout_topic: topics.LAYOUT.type}
        if self.layout is not None:
            rows = [topics.TOKENS, topics.EMBEDDING] if self._embedding else [topics.TOKENS]
            rows += [topics.HISTORY_STAMPS] if self.layout.history and self._body else []
            rows += [topics.BASIS] if self._waits_for_basis else []
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
            self._find_basis()
            return None
        if topic == self._basis_topic:
            self._basis_rows = decode_tensor(message)
            self._find_basis()
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

    @property
    def _waits_for_basis(self) -> bool:
        return self._expand and self.layout is not None and self.layout.basis is not None

    def _find_basis(self) -> None:
        """Take the basis that has come, if it is that of the layout: they come in any order."""
        if self.layout is None:
            return
        named = self.layout.basis.sha256 if self.layout.basis else ""
        if self._basis is not None and self._basis.sha256 != named:
            self._basis = None
            self._pending.clear()  # their coefficients are of the other one
        if named and self._basis is None and self._basis_rows is not None:
            basis = Basis.from_rows(self._basis_rows, self.layout.encoder_sha256)
            self._basis = basis if basis.sha256 == named else None

    def _put(self, layout: Layout, parts: _Parts, name: str, message: Any) -> None:
        if name == topics.TOKENS.name and layout.basis:
            parts.groups = decode_groups(message, layout)
            parts.mask = mask_of_groups(parts.groups, layout)
        elif name == topics.TOKENS.name:
            tokens = decode_tensor(message)
            layout.split(tokens)  # checks the number of rows
            parts.tokens = tokens
            parts.mask = mask_of(tokens)
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
            parts.samples[source.name] = sample_numbers(source, message)

    def _restore(self, layout: Layout, parts: _Parts) -> None:
        """Make the tokens of groups of which some are coefficients.

        Raises:
            BadInput: Frames wait, and the basis has not come.
        """
        if not self._expand:
            parts.tokens = exact_rows(parts.groups, layout)
        elif self._basis is not None:
            parts.tokens = expand_groups(parts.groups, layout, self._basis)
        elif len(self._pending) > MAX_PENDING:
            self._drop_oldest()
            sent = "another one has come" if self._basis_rows is not None else "none has come"
            raise BadInput(
                "basis",
                f"{len(self._pending)} frames wait for the basis of {self._basis_topic}, and {sent}"
                "; accepted: a reliable, transient local subscription to it (`latched`)",
            )

    def _completed(self, layout: Layout, stamp_ns: int, parts: _Parts) -> Observation | None:
        if parts.groups and parts.tokens is None:
            self._restore(layout, parts)
        if (
            parts.tokens is None
            or parts.mask is None
            or (self._embedding and parts.embedding is None)
            or (layout.history and self._body and parts.history_stamps_ns is None)
            or any(each.kind not in parts.apart for each in self._apart)
        ):
            self._drop_oldest()
            return None
        mask = parts.mask
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
            coefficients={} if self._expand else coefficients_of(parts.groups, layout),
        )

    def _drop_oldest(self) -> None:
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
            self.incomplete += 1

    def _forget(self) -> None:
        self.incomplete += len(self._pending)
        self._pending.clear()
        self._newest_ns = 0
