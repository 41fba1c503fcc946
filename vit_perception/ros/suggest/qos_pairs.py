"""Publishers and subscriptions on the graph that DDS does not connect, and what to change."""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.ros.suggest.seen import Mismatch

MOST_TOPICS = 1000  # of a graph that are looked at
MOST_PAIRS = 400  # of a topic
MOST_FOUND = 20


def policies(profile: QoSProfile) -> str:
    """Return reliability and durability of a profile, for people: ``reliable, volatile``."""
    return ", ".join(
        policy.name.lower().replace("_", " ")
        for policy in (profile.reliability, profile.durability)
    )


def node_name(endpoint: Any) -> str:
    """Return the full name of the node that an endpoint belongs to, printable."""
    name = f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
    return printable(name, MOST_SHOWN, keep="")


def mismatches(node: Node) -> list[Mismatch]:
    """Return the pairs on the graph that ``node`` sees, at most MOST_FOUND; without its own."""
    return list(islice(_mismatches(node), MOST_FOUND))


def _mismatches(node: Node) -> Iterator[Mismatch]:
    own = f"{node.get_namespace().rstrip('/')}/{node.get_name()}"
    for topic, _ in node.get_topic_names_and_types()[:MOST_TOPICS]:
        pairs = product(
            node.get_publishers_info_by_topic(topic), node.get_subscriptions_info_by_topic(topic)
        )
        for publisher, subscription in islice(pairs, MOST_PAIRS):
            if publisher.topic_type != subscription.topic_type or own == node_name(subscription):
                continue
            fits, why = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
            if fits == QoSCompatibility.ERROR:
                yield Mismatch(
                    topic=printable(topic, MOST_SHOWN, keep=""),
                    publisher=node_name(publisher),
                    subscriber=node_name(subscription),
                    policies=why.removeprefix("ERROR: ").strip("; "),
                    cure=_cure(publisher.qos_profile, subscription.qos_profile),
                )


def _cure(offered: QoSProfile, wanted: QoSProfile) -> str:
    """What to change so that ``wanted`` asks for no more than is ``offered``."""
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
