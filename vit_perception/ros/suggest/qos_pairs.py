"""Publishers and subscriptions on the graph that DDS does not connect, and what to change."""

from collections.abc import Iterator
from itertools import islice, product

from rclpy.node import Node

from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.ros.events.pairs import cure, difference, node_name
from vit_perception.ros.suggest.seen import Mismatch

MOST_TOPICS = 1000  # of a graph that are looked at
MOST_PAIRS = 400  # of a topic
MOST_FOUND = 20


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
            if why := difference(publisher.qos_profile, subscription.qos_profile):
                yield Mismatch(
                    topic=printable(topic, MOST_SHOWN, keep=""),
                    publisher=node_name(publisher),
                    subscriber=node_name(subscription),
                    policies=why,
                    cure=cure(publisher.qos_profile, subscription.qos_profile),
                )
