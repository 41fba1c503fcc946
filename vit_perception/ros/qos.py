"""Quality of service of what the node sends and takes, and the users' overrides of it."""

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from vit_perception.config.input_qos import asked_of
from vit_perception.config.settings import BadSetting

PREFIX = "qos_overrides."
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
_CHOICES = {
    "reliability": ("reliable", "best_effort", "system_default"),
    "history": ("keep_last", "keep_all", "system_default"),
}
_DEEPEST = 10_000


# Functions, because rclpy writes a topic's overrides into the profile that it is given: a shared
# one would hand them on to the next topic.
def tensor_qos() -> QoSProfile:
    """A policy wants the newest tensor whole: reliable, and nothing older queued behind it."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


def image_qos() -> QoSProfile:
    """Best effort matches every publisher. Deep enough for a scheduling hiccup: a frame lost here
    is uncounted.
    """
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def video_qos() -> QoSProfile:
    """As for images, and deeper: a packet that is lost costs all pictures until a key frame."""
    return QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


def sample_qos() -> QoSProfile:
    """As for images; poses and joint states come up to 1000 times a second."""
    return QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)


def with_events(profile: QoSProfile, settings: object) -> QoSProfile:
    """Return ``profile`` with the deadline and the liveliness that ``settings`` ask for."""
    deadline_s, liveliness_s = asked_of(settings)
    if deadline_s:
        profile.deadline = Duration(nanoseconds=round(deadline_s * 1e9))
    if liveliness_s:
        profile.liveliness = LivelinessPolicy.AUTOMATIC
        profile.liveliness_lease_duration = Duration(nanoseconds=round(liveliness_s * 1e9))
    return profile


def check_overrides(node: Node) -> None:
    """Raise BadSetting for a ``qos_overrides`` parameter that rclpy would fail on once the topic is
    made.

    Overrides are read when the node starts: another value needs a new start.
    """
    for name, parameter in _given(node).items():
        accepted = _accepted(name.rsplit(".", 1)[-1], parameter.value)
        if accepted:
            raise BadSetting(name, parameter.value, f"{accepted}; start the node anew with it")


def _accepted(policy: str, value: Any) -> str:
    """What would be accepted instead of ``value``; empty where it is good, or no policy of ours."""
    if policy in _CHOICES and value not in _CHOICES[policy]:
        return "one of " + ", ".join(_CHOICES[policy])
    if policy == "depth" and not (type(value) is int and 1 <= value <= _DEEPEST):
        return f"int from 1 to {_DEEPEST}"
    return ""


def warn_of_unused_overrides(node: Node) -> None:
    """Log the overrides that were given and that no topic has taken: another topic's name, or
    another policy.
    """
    for name in _given(node):
        if not node.has_parameter(name):
            node.get_logger().warning(
                f"parameter '{name}' belongs to no topic of this node, and does nothing"
            )


def _given(node: Node) -> dict[str, Any]:
    return {name: p for name, p in node._parameter_overrides.items() if name.startswith(PREFIX)}
