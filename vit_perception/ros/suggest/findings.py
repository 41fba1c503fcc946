"""What doctor says of the graph: topics, QoS that does not fit, clocks, and shared memory."""

from vit_perception.files.errors import printable
from vit_perception.ros.suggest.choice import (
    LISTENED,
    POSE,
    RAW,
    STATE,
    TRANSPORTS,
    WRENCH,
    why_not,
)
from vit_perception.ros.suggest.seen import GraphSeen, TopicSeen
from vit_perception.ros.suggest.shared_memory import Segment, free_bytes, memory_lines
from vit_perception.ros.suggest.timing import clock_findings

_MOST_TOPICS = 20
_LONGEST = 400
_WIDTH = 12
_KINDS = {POSE: "pose", STATE: "joint state", WRENCH: "wrench"}
# Below that part of the images that the stamps promise, some get lost.
_ENOUGH = 0.8


def graph_lines(graph: GraphSeen, segment: Segment | None) -> list[str]:
    """Return a line for each finding, its kind first, faults as WARNING.

    ``segment`` is what Fast DDS takes of the shared memory; None with another middleware.
    """
    lines = [("graph", text) for text in _topics(graph)]
    pairs = [f"WARNING: {pair}" for pair in graph.mismatches]
    lines += [("QoS", text) for text in pairs or ["every publisher matches every subscription"]]
    cameras = [t for t in graph.of_type(tuple(TRANSPORTS)) if t.usable]
    samples = [t for t in graph.of_type((POSE, STATE, WRENCH)) if t.usable]
    wrong, known = clock_findings(cameras, samples)
    lines += [("clocks", f"WARNING: {text}") for text in wrong]
    lines += [("clocks", text) for text in known]
    if segment is not None:
        images = graph.of_type((RAW,))
        largest = max(images, key=lambda topic: topic.largest_bytes, default=TopicSeen("", RAW))
        memory = memory_lines(segment, largest.largest_bytes, largest.name, free_bytes())
        lines += [("memory", text) for text in memory]
    shown = ""
    result = []
    for kind, text in lines:
        head = kind if kind != shown else ""
        shown = kind
        result.append(f"{head:<{_WIDTH}} {printable(text, _LONGEST, keep='')}")
    return result


def _topics(graph: GraphSeen) -> list[str]:
    if not graph.topics:
        return [f"no camera, pose, joint state or wrench is published on ROS domain {graph.domain}"]
    running = f"; {', '.join(graph.encoders)} is running" if graph.encoders else ""
    head = f"{len(graph.topics)} topics for the node on ROS domain {graph.domain}{running}"
    order = {kind: place for place, kind in enumerate(LISTENED)}
    topics = sorted(graph.topics, key=lambda topic: (order[topic.type], topic.name))
    lines = [head, *map(_topic, topics[:_MOST_TOPICS])]
    more = len(topics) - _MOST_TOPICS + len(graph.unheard)
    return [*lines, f"{more} more topics"] if more > 0 else lines


def _topic(topic: TopicSeen) -> str:
    kind = f"{TRANSPORTS[topic.type]} image" if topic.type in TRANSPORTS else _KINDS[topic.type]
    why = why_not(topic)
    if why:
        return f"{topic.name}: {kind}, left out: {why}"
    what = [kind, topic.picture, topic.rate_text, *topic.publishers]
    text = f"{topic.name}: {', '.join(filter(None, what))}"
    period_s = topic.period_s
    if period_s and topic.arrived_hz < _ENOUGH / period_s:
        text += (
            f"; {topic.arrived_hz:.3g} Hz arrive here: the others are lost on the way, or it is a "
            "recording that is played slowly"
        )
    return text
