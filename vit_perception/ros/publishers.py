"""Who publishes on a topic from which nothing comes: nobody, one with another type or QoS, or one
that is silent.
"""

from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from sensor_msgs.msg import CompressedImage, Image, JointState

from vit_perception.config.settings import CameraSettings, PoseSettings, StateSettings
from vit_perception.files.errors import MOST_SHOWN, printable

Source = CameraSettings | PoseSettings | StateSettings
_MOST_NAMED = 3


def wanted_type(source: Source) -> type:
    """The message type that is subscribed to for ``source``."""
    if isinstance(source, CameraSettings):
        return CompressedImage if source.transport == "compressed" else Image
    return PoseStamped if isinstance(source, PoseSettings) else JointState


def why_nothing_comes(node: Node, source: Source, received: int, age_s: float | None) -> str:
    """What the ROS graph says of the topic of ``source``, as one text for the user.

    ``received``: the messages so far; ``age_s``: since when no usable one came, None where that is
    not known.
    """
    publishers = node.get_publishers_info_by_topic(source.topic)
    if not publishers:
        return "nothing publishes on it; is the name right, does it publish?"
    wanted = type_name(wanted_type(source))
    right = [p for p in publishers if p.topic_type == wanted]
    if not right:
        return _other_type(node, source, wanted, sorted({p.topic_type for p in publishers}))
    refused = _incompatible(node, source.topic, wanted, right)
    if len(refused) == len(right):
        return "; ".join(refused[:_MOST_NAMED])
    many = "one publisher" if len(right) == 1 else f"{len(right)} publishers"
    since = "" if age_s is None else f" for {age_s:.0f} s"
    text = f"{many}, no {'usable ' if received else ''}message{since or ' yet'}"
    return "; ".join([text, *refused[:_MOST_NAMED]])


def type_name(kind: type) -> str:
    """The name of a message class as the ROS graph has it, such as ``sensor_msgs/msg/Image``."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _other_type(node: Node, source: Source, wanted: str, found: list[str]) -> str:
    said = " and ".join(printable(name, MOST_SHOWN, keep="") for name in found[:_MOST_NAMED])
    if not isinstance(source, CameraSettings):
        what = "an arm" if isinstance(source, PoseSettings) else "a state"
        return f"it is published as {said}; {what} wants {wanted}"
    text = f"it is published as {said}; transport {source.transport} wants {wanted}"
    beside = f"{source.topic}/compressed"
    if source.transport == "compressed" and any(
        p.topic_type == wanted for p in node.get_publishers_info_by_topic(beside)
    ):
        return f"{text}, which is on {beside}"
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
