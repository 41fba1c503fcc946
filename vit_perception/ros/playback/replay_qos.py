"""What `replay` offers on each topic, and what latched topics said before the place where it
begins.
"""

from collections import deque
from collections.abc import Collection

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.reader import BagReader, RawMessage

PLAY_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
QOS_CHOICES = ("recorded", "reliable")
# Latched by convention, where a recording does not say.
LATCHED_NAMES = ("tf_static", "robot_description")
MOST_LATCHED = 1000  # messages of a topic
MOST_LATCHED_BYTES = 256 << 20  # of all topics together


def play_qos(bag: BagReader, topic: str, choice: str) -> tuple[QoSProfile, str]:
    """What to offer on ``topic`` with one of ``QOS_CHOICES``, and what is wrong with the recorded
    profiles, or ''.
    """
    wrong = ""
    try:
        recorded = recorded_qos(bag, topic)
    except InvalidValue as error:
        recorded, wrong = None, f"{error}"
    if recorded is None or (recorded == PLAY_QOS and topic.rsplit("/", 1)[-1] in LATCHED_NAMES):
        recorded = _latched(MOST_LATCHED) if topic.rsplit("/", 1)[-1] in LATCHED_NAMES else PLAY_QOS
    if choice == "recorded":
        return recorded, wrong
    # A latched offer matches every subscriber too, and a volatile one does not match who wants a
    # latched topic.
    return (_latched(recorded.depth) if is_latched(recorded) else PLAY_QOS), ""


def _latched(depth: int) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def is_latched(qos: QoSProfile) -> bool:
    """Whether late subscribers get what was sent before."""
    return qos.durability == DurabilityPolicy.TRANSIENT_LOCAL


def recorded_qos(bag: BagReader, topic: str) -> QoSProfile:
    """What the recorded publishers of ``topic`` offered; where they differed, or the bag does not
    say, what every subscriber matches. Raises InvalidValue where the bag says what no publisher can
    offer.
    """
    offered = bag.qos_of(topic)
    if not offered:
        return PLAY_QOS
    reliable = any(q.reliability != "best_effort" for q in offered)
    latched = all(q.durability == "transient_local" for q in offered)
    keep_all = any(q.history == "keep_all" for q in offered)
    depths = [max(1, q.depth) for q in offered]
    return QoSProfile(
        # The one publisher here stands for all of them, each of which would give a late subscriber
        # its own.
        depth=min(sum(depths), MOST_LATCHED) if latched else max(depths),
        history=HistoryPolicy.KEEP_ALL if keep_all else HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def latched_before(
    bag: BagReader, offered: dict[str, QoSProfile], topics: Collection[str], start_ns: int
) -> list[RawMessage]:
    """What who listened from the beginning would hold of the latched ``topics`` at ``start_ns``, in
    its order.

    Of each topic the newest messages, as many as its publishers kept. Above ``MOST_LATCHED_BYTES``
    the oldest go.
    """
    depths = {
        topic: MOST_LATCHED
        if offered[topic].history == HistoryPolicy.KEEP_ALL
        else offered[topic].depth
        for topic in topics
        if is_latched(offered[topic])
    }
    if not depths or start_ns <= bag.start_ns:
        return []
    kept: dict[str, deque[RawMessage]] = {topic: deque() for topic in depths}
    size_bytes = 0
    for message in bag.raw(list(depths), None, start_ns):
        queue = kept[message.topic]
        queue.append(message)
        size_bytes += len(message.data)
        while len(queue) > depths[message.topic] or (
            size_bytes > MOST_LATCHED_BYTES and len(queue) > 1
        ):
            size_bytes -= len(queue.popleft().data)
    return sorted(
        (message for queue in kept.values() for message in queue),
        key=lambda message: message.stamp_ns,
    )
