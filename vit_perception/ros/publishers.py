"""Who publishes on a topic from which nothing comes: nobody, one with another type or QoS, or one
that is silent.
"""

from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.ros.health import situations
from vit_perception.ros.health.judge import Finding
from vit_perception.ros.health.situations import Situation
from vit_perception.tokens.source import TokenSource

_MOST_NAMED = 3
_COMPRESSED = "sensor_msgs/msg/CompressedImage"
# What a situation becomes where somebody publishes with the right type and QoS, and where nobody.
_WITH_PUBLISHER = {situations.NEVER_CAME: situations.NEVER_SENT}
_WITHOUT_PUBLISHER = {situations.STOPPED: situations.GONE}
ASKED = (situations.STARTING, situations.NEVER_CAME, situations.STOPPED)


def why_nothing_comes(node: Node, source: TokenSource, finding: Finding) -> Finding:
    """Return ``finding``, one of ASKED, as the ROS graph narrows it down for the topic of
    ``source``.
    """
    topic = source.topic or ""
    found = {**finding.found, "topic": topic, "publishers": ""}
    situation = finding.situation
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return Finding(_WITHOUT_PUBLISHER.get(situation, situation), found)
    wanted = source.message_type
    right = [p for p in publishers if p.topic_type == wanted]
    if not right:
        types = sorted({p.topic_type for p in publishers})
        return Finding(situations.OTHER_TYPE, found | _other_type(node, source, types))
    refused = _incompatible(node, topic, wanted, right)
    if len(refused) == len(right):
        return Finding(situations.OTHER_QOS, found | refused[0])
    many = "one publisher" if len(right) == 1 else f"{len(right)} publishers"
    others = [_with_other_qos(situations.OTHER_QOS, each) for each in refused[:_MOST_NAMED]]
    found["publishers"] = many + (f" ({'; '.join(others)})" if others else "")
    return Finding(_WITH_PUBLISHER.get(situation, situation), found)


def _with_other_qos(situation: Situation, found: dict[str, str]) -> str:
    return situation.cause.format(**found)


def _other_type(node: Node, source: TokenSource, types: list[str]) -> dict[str, str]:
    wanted = source.message_type
    compressed = f"{source.topic}/compressed"
    is_near = wanted == _COMPRESSED and any(
        p.topic_type == wanted for p in node.get_publishers_info_by_topic(compressed)
    )
    return {
        "found": " and ".join(printable(name, MOST_SHOWN, keep="") for name in types[:_MOST_NAMED]),
        "wants": source.wants,
        "wanted": wanted,
        "nearby": f", which is on {compressed}" if is_near else "",
    }


def _incompatible(
    node: Node, topic: str, wanted: str, publishers: list[Any]
) -> list[dict[str, str]]:
    """Name and differing policies of each of ``publishers`` that DDS does not match with our
    subscription.
    """
    own = [
        s.qos_profile
        for s in node.get_subscriptions_info_by_topic(topic)
        if s.topic_type == wanted
        and s.node_name == node.get_name()
        and s.node_namespace == node.get_namespace()
    ]
    refused = []
    for publisher in publishers if own else ():
        fits, why = qos_check_compatible(publisher.qos_profile, own[0])
        if fits == QoSCompatibility.ERROR:
            name = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
            refused.append(
                {
                    "publisher": printable(name, MOST_SHOWN, keep=""),
                    "policies": why.removeprefix("ERROR: ").strip("; "),
                }
            )
    return refused
