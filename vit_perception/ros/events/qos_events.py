"""Counts what DDS reports of the node's topics, and says it: once of each peer.

An event comes before the graph knows the name of the peer, and rclpy does not say which peer it is.
So an event is only counted when it comes. Once a second the graph is asked for the peers, and they
are told to the log.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node

from vit_perception.config.input_qos import asked_of
from vit_perception.files.errors import printable
from vit_perception.ros.events.callbacks import PublisherEventCallbacks, SubscriptionEventCallbacks
from vit_perception.ros.events.pairs import (
    UNNAMED,
    Refusal,
    refused_publishers,
    refused_subscriptions,
)
from vit_perception.ros.health import situations
from vit_perception.ros.health.judge import Finding
from vit_perception.ros.health.situations import Situation
from vit_perception.tokens.source import TokenSource

MOST_TOLD = 200  # peers; more are only counted: names of strangers must not fill the memory
# So often the graph is asked for the peer of an event. It can be gone by then.
MOST_LOOKS = 10
# What these become where an event says more.
_NARROWED = (situations.RECEIVING, situations.STOPPED)


@dataclass
class TopicEvents:
    """The events of one publisher or subscription of the node."""

    # The full name of the topic, and of its type.
    topic: str
    type: str
    # Peers whose QoS did not match, each time that one was found.
    incompatible: int = 0
    # Times that no message came within the deadline.
    deadline_missed: int = 0
    # Publishers that gave no sign of life in time: all, and those that are so now.
    liveliness_lost: int = 0
    not_alive: int = 0
    # How often the graph is still asked for the names of peers.
    looks: int = 0
    # Deadlines that were missed until the latest look.
    told_missed: int = 0

    def on_incompatible(self, event: Any) -> None:
        self.incompatible += event.total_count_change
        self.looks = MOST_LOOKS

    def on_deadline(self, event: Any) -> None:
        self.deadline_missed += event.total_count_change

    def on_liveliness(self, event: Any) -> None:
        self.liveliness_lost += max(0, event.not_alive_count_change)
        self.not_alive = event.not_alive_count


class QosEvents:
    """The events of the topics of ``node``.

    ``warn`` takes a topic, a text, and what it is about; it returns whether it was said. Call
    everything on the executor's thread.
    """

    def __init__(self, node: Node, warn: Callable[[str, str, str], bool]):
        self._node = node
        self._warn = warn
        self._inputs: dict[str, list[TopicEvents]] = {}  # by the name of the source
        self._outputs: list[TopicEvents] = []
        self._told: set[tuple[str, str]] = set()  # topic and peer

    # -- what is counted ---------------------------------------------------------------------------

    def of_input(self, name: str, topic: str, kind: str) -> SubscriptionEventCallbacks:
        """Return the callbacks of a subscription of the source ``name``."""
        events = TopicEvents(topic, kind)
        self._inputs.setdefault(name, []).append(events)
        return SubscriptionEventCallbacks(
            incompatible_qos=events.on_incompatible,
            deadline=events.on_deadline,
            liveliness=events.on_liveliness,
        )

    def of_output(self, topic: str, kind: str) -> PublisherEventCallbacks:
        """Return the callbacks of a publisher of the node."""
        events = TopicEvents(topic, kind)
        self._outputs.append(events)
        return PublisherEventCallbacks(incompatible_qos=events.on_incompatible)

    def forget_inputs(self) -> None:
        """The subscriptions are gone: counts and peers start anew."""
        topics = {events.topic for each in self._inputs.values() for events in each}
        self._inputs = {}
        self._told = {(topic, peer) for topic, peer in self._told if topic not in topics}

    def forget_outputs(self) -> None:
        """The publishers are gone."""
        topics = {events.topic for events in self._outputs}
        self._outputs = []
        self._told = {(topic, peer) for topic, peer in self._told if topic not in topics}

    # -- what is said, once a second ---------------------------------------------------------------

    def narrow(self, source: TokenSource, finding: Finding) -> Finding:
        """Return ``finding``, as the events of ``source`` narrow it down."""
        own = self._inputs.get(source.name, ())
        missed = sum(events.deadline_missed for events in own)
        is_new = missed > sum(events.told_missed for events in own)
        for events in own:
            events.told_missed = events.deadline_missed
        if finding.situation not in _NARROWED:
            return finding
        found = finding.found | {"prefix": f"{type(source).group}.{source.name}", "missed": missed}
        if not_alive := sum(events.not_alive for events in own):
            found["count"] = not_alive
            found["lease"] = _seconds(asked_of(source.settings)[1])
            return Finding(situations.NOT_ALIVE, found)
        if is_new and finding.situation == situations.RECEIVING:
            found["deadline"] = _seconds(asked_of(source.settings)[0])
            return Finding(situations.DEADLINE_MISSED, found)
        return finding

    def tell_refused(self, source: TokenSource, finding: Finding) -> None:
        """Tell the log of publishers that are not heard, if ``finding`` does not say it already."""
        for events in self._inputs.get(source.name, ()):
            if finding.situation == situations.OTHER_QOS and events.topic == source.topic:
                self._told.add((events.topic, finding.found["peer"]))
            self._tell(events, refused_publishers, situations.REFUSED_PUBLISHER)

    def values(self, source: TokenSource) -> list[KeyValue]:
        """Return the counts of ``source`` for its status: what happened, or was asked for."""
        own = self._inputs.get(source.name, ())
        deadline_s, liveliness_s = asked_of(source.settings)
        counts = {
            "qos_incompatible": (sum(e.incompatible for e in own), 0.0),
            "deadline_missed": (sum(e.deadline_missed for e in own), deadline_s),
            "liveliness_lost": (sum(e.liveliness_lost for e in own), liveliness_s),
        }
        return [
            KeyValue(key=key, value=str(count))
            for key, (count, wanted_s) in counts.items()
            if count or wanted_s
        ]

    def outputs(self, name: str) -> DiagnosticStatus:
        """Tell the log of subscribers that hear nothing, and return the status of all outputs."""
        for events in self._outputs:
            self._tell(events, refused_subscriptions, situations.REFUSED_SUBSCRIBER)
        refused = [events for events in self._outputs if events.incompatible]
        return DiagnosticStatus(
            name=f"{name}: outputs",
            level=DiagnosticStatus.OK,
            message="the QoS of some subscribers did not match" if refused else "sent",
            values=[
                KeyValue(
                    key=printable(f"qos_incompatible.{events.topic}"),
                    value=str(events.incompatible),
                )
                for events in refused
            ],
        )

    def _tell(
        self,
        events: TopicEvents,
        refused: Callable[[Node, str, str], Iterable[Refusal]],
        row: Situation,
    ) -> None:
        if not events.looks:
            return
        events.looks -= 1
        unsaid = 0
        found = list(refused(self._node, events.topic, events.type))
        for each in found:
            key = (events.topic, each.peer)
            if key in self._told or len(self._told) >= MOST_TOLD:
                continue
            if each.peer.endswith(UNNAMED) and events.looks:
                unsaid += 1
                continue
            text = row.text(topic=events.topic, **each._asdict())
            if self._warn(events.topic, text, f"QoS of {each.peer}"):
                self._told.add(key)
            else:
                unsaid += 1
        if found and not unsaid:
            events.looks = 0


def _seconds(limit_s: float) -> str:
    return f"{limit_s:g} s"
