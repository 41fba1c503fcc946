"""A publisher and a subscription whose QoS does not match: both sides, and what to change."""

from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from vit_perception.files.errors import MOST_SHOWN, printable

# Longer than any deadline that somebody asks for: no deadline. DDS has several values for "never".
_NEVER_NS = 10**18
# What the graph says of a peer whose topics are known before its name is.
UNNAMED = "_NODE_NAME_UNKNOWN_"


class Refusal(NamedTuple):
    """A peer that DDS does not connect with a topic of the node; fields of a situation's texts."""

    # The full name of its node.
    peer: str
    # What the publisher offers, and what the subscription asks for.
    offered: str
    wanted: str
    # What does not match, in rclpy's words.
    policies: str


def policies(profile: QoSProfile) -> str:
    """Return a profile for people: ``reliable, volatile``, then deadline and liveliness if any."""
    texts = [
        policy.name.lower().replace("_", " ")
        for policy in (profile.reliability, profile.durability)
    ]
    for name, limit in (
        ("deadline", profile.deadline),
        ("liveliness", profile.liveliness_lease_duration),
    ):
        if 0 < limit.nanoseconds < _NEVER_NS:
            texts.append(f"{name} {limit.nanoseconds / 1e9:g} s")
    if profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC:
        texts.append("liveliness manual by topic")
    return ", ".join(texts)


def node_name(endpoint: Any) -> str:
    """Return the full name of the node that an endpoint belongs to, printable."""
    name = f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
    return printable(name, MOST_SHOWN, keep="")


def difference(offered: QoSProfile, wanted: QoSProfile) -> str:
    """Return what keeps the two apart, in rclpy's words; empty if they match."""
    fits, why = qos_check_compatible(offered, wanted)
    return why.removeprefix("ERROR: ").strip("; ") if fits == QoSCompatibility.ERROR else ""


def cure(offered: QoSProfile, wanted: QoSProfile) -> str:
    """Return what to change so that ``wanted`` asks for no more than is ``offered``."""
    cures = []
    if (
        offered.reliability == ReliabilityPolicy.BEST_EFFORT
        and wanted.reliability == ReliabilityPolicy.RELIABLE
    ):
        cures.append("subscribe best effort")
    if (
        offered.durability == DurabilityPolicy.VOLATILE
        and wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL
    ):
        cures.append("subscribe volatile")
    what = " and ".join(cures) or "ask for no more than it offers in the subscription"
    return f"{what} (parameters qos_overrides, or in its code), or change the publisher"


def refused_publishers(node: Node, topic: str, kind: str) -> list[Refusal]:
    """Return the publishers of ``topic``, of type ``kind``, that ``node`` does not hear."""
    own = _own(node, node.get_subscriptions_info_by_topic(topic), kind)
    publishers = [p for p in node.get_publishers_info_by_topic(topic) if p.topic_type == kind]
    return _refused([(p, p.qos_profile, mine) for p in publishers for mine in own[:1]])


def refused_subscriptions(node: Node, topic: str, kind: str) -> list[Refusal]:
    """Return the subscriptions of ``topic``, of type ``kind``, that do not hear ``node``."""
    own = _own(node, node.get_publishers_info_by_topic(topic), kind)
    subscriptions = [s for s in node.get_subscriptions_info_by_topic(topic) if s.topic_type == kind]
    return _refused([(s, mine, s.qos_profile) for s in subscriptions for mine in own[:1]])


def _own(node: Node, endpoints: list[Any], kind: str) -> list[QoSProfile]:
    """The profiles of the endpoints that are ``node``'s."""
    return [
        each.qos_profile
        for each in endpoints
        if each.topic_type == kind
        and each.node_name == node.get_name()
        and each.node_namespace == node.get_namespace()
    ]


def _refused(pairs: list[tuple[Any, QoSProfile, QoSProfile]]) -> list[Refusal]:
    return [
        Refusal(
            peer=node_name(peer), offered=policies(offered), wanted=policies(wanted), policies=why
        )
        for peer, offered, wanted in pairs
        if (why := difference(offered, wanted))
    ]
