"""Who publishes on a topic from which nothing comes: nobody, one with another type or QoS, or one
that is silent.
"""

from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.tokens.source import TokenSource

_MOST_NAMED = 3
_COMPRESSED = "sensor_msgs/msg/CompressedImage"


def why_nothing_comes(node: Node, source: TokenSource, received: int, age_s: float | None) -> str:
    """What the ROS graph says of the topic of ``source``, as one text for the user.

    ``received``: the messages so far; ``age_s``: since when no usable one came, None where that is
    not known.
    """
    topic = source.topic or ""
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return "nothing publishes on it; is the name right, does it publish?"
    wanted = source.message_type
    right = [p for p in publishers if p.topic_type == wanted]
    if not right:
        return _other_type(node, source, sorted({p.topic_type for p in publishers}))
    refused = _incompatible(node, topic, wanted, right)
    if len(refused) == len(right):
        return "; ".join(refused[:_MOST_NAMED])
    many = "one publisher" if len(right) == 1 else f"{len(right)} publishers"
    since = "" if age_s is None else f" for {age_s:.0f} s"
    text = f"{many}, no {'usable ' if received else ''}message{since or ' yet'}"
    return "; ".join([text, *refused[:_MOST_NAMED]])


def _other_type(node: Node, source: TokenSource, found: list[str]) -> str:
    said = " and ".join(printable(name, MOST_SHOWN, keep="") for name in found[:_MOST_NAMED])
    wanted = source.message_type
    text = f"it is published as {said}; {source.wants} wants {wanted}"
    compressed = f"{source.topic}/compressed"
    if wanted == _COMPRESSED and any(
        p.topic_type == wanted for p in node.get_publishers_info_by_topic(compressed)
    ):
        return f"{text}, which is on {compressed}"
    return text


def _incompatible(node: Node, topic: str, wanted: str, publishers: list[Any]) -> list[str]:
    """One text for each of ``publishers`` that DDS does not match with our subscription: which
    policy differs.
    """
    own = [
        s.qos_profile
        for s in node.get_subscriptions_info_by_topic(topic)
        if s.topic_type == wanted
        and s.node_name == node.get_name()
        and s.node_namespace == node.get_namespace()
    ]
    texts = []
    for publisher in publishers if own else ():
        found, why = qos_check_compatible(publisher.qos_profile, own[0])
        if found == QoSCompatibility.ERROR:
            name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            texts.append(
                f"the QoS of its publisher {printable(name, MOST_SHOWN, keep='')} does not match: "
                f"{why.removeprefix('ERROR: ').strip('; ')} (qos_overrides)"
            )
    return texts
