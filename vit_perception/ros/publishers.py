"""Who publishes on a topic from which nothing comes: nobody, one with another type or QoS, or one
that is silent.
"""

from rclpy.node import Node

from vit_perception.config.cameras.transports import NAMES, instead_of
from vit_perception.files.errors import MOST_SHOWN, printable
from vit_perception.ros.events.pairs import refused_publishers
from vit_perception.ros.health import situations
from vit_perception.ros.health.judge import Finding
from vit_perception.tokens.source import TokenSource

_MOST_NAMED = 3
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
    refused = refused_publishers(node, topic, wanted)
    if len(refused) == len(right):
        return Finding(situations.OTHER_QOS, found | refused[0]._asdict())
    many = "one publisher" if len(right) == 1 else f"{len(right)} publishers"
    others = [situations.OTHER_QOS.cause.format(**r._asdict()) for r in refused[:_MOST_NAMED]]
    found["publishers"] = many + (f" ({'; '.join(others)})" if others else "")
    return Finding(_WITH_PUBLISHER.get(situation, situation), found)


def _other_type(node: Node, source: TokenSource, types: list[str]) -> dict[str, str]:
    wanted = source.message_type
    near = f"{source.topic}/{NAMES.get(wanted, '')}"
    is_near = wanted in NAMES and any(
        p.topic_type == wanted for p in node.get_publishers_info_by_topic(near)
    )
    cures = [cure for kind in types if (cure := instead_of(source.name, kind))]
    is_camera = source.group == "cameras"
    return {
        "found": " and ".join(printable(name, MOST_SHOWN, keep="") for name in types[:_MOST_NAMED]),
        "wants": source.wants,
        "wanted": wanted,
        "nearby": f", which is on {near}" if is_near else "",
        "instead": f", or {cures[0]}" if is_camera and cures else "",
    }
