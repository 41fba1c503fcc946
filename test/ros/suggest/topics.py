"""Topics as they are seen, made up: rates, delays and frames are chosen by the test."""

from collections import Counter

from vit_perception.image.camera_info import INFO_TYPE
from vit_perception.ros.suggest.choice import COMPRESSED, POSE, RAW, STATE, WRENCH
from vit_perception.ros.suggest.seen import Arrival, GraphSeen, TopicSeen

START_NS = 1_700_000_000_000_000_000
COUNT = 40


def topic(
    name: str,
    kind: str,
    rate_hz: float = 30.0,
    delay_s: float = 0.0,
    phase_s: float = 0.0,
    frame_id: str = "base_link",
    **fields,
) -> TopicSeen:
    """A topic whose messages came at ``rate_hz``, each ``delay_s`` after its stamp."""
    made = TopicSeen(name, kind, publishers=("/driver (reliable, volatile)",), **fields)
    for k in range(COUNT):
        stamp_ns = START_NS + round(1e9 * (phase_s + k / rate_hz))
        made.arrivals.append(Arrival(stamp_ns, stamp_ns + round(1e9 * delay_s)))
    made.received = COUNT
    made.usable = True
    made.frame_ids = Counter({frame_id: COUNT})
    return made


def image(name: str, rate_hz: float = 30.0, kind: str = RAW, **fields) -> TopicSeen:
    return topic(name, kind, rate_hz, **({"picture": "640×480 bgr8"} | fields))


def jpeg(name: str, rate_hz: float = 30.0, **fields) -> TopicSeen:
    return image(name, rate_hz, COMPRESSED, picture="640×480 jpeg", **fields)


def pose(name: str, rate_hz: float = 100.0, **fields) -> TopicSeen:
    return topic(name, POSE, rate_hz, **fields)


def joints(name: str, *names: str, **fields) -> TopicSeen:
    given = {"joints": dict.fromkeys(names), "drivers": {names}} | fields
    return topic(name, STATE, 100.0, **given)


def wrench(name: str, **fields) -> TopicSeen:
    return topic(name, WRENCH, 500.0, **fields)


def info(name: str, calibration, **fields) -> TopicSeen:
    """A CameraInfo; ``calibration`` is what it says, None where it cannot be used."""
    return topic(name, INFO_TYPE, calibration=calibration, **fields)


def silent(name: str, kind: str) -> TopicSeen:
    """A topic with a publisher and no message."""
    return TopicSeen(name, kind, publishers=("/driver (reliable, volatile)",))


def refused(name: str, kind: str, why: str) -> TopicSeen:
    """A topic whose messages the node cannot use."""
    return TopicSeen(name, kind, received=10, refused=why)


def graph(*topics: TopicSeen, **fields) -> GraphSeen:
    return GraphSeen(**({"domain": "7", "listened_s": 4.0, "topics": topics} | fields))
