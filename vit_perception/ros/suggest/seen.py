"""What was seen of the topics on a ROS graph while somebody listened. Plain values, no ROS."""

import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from vit_perception.image.camera_info import Calibration
from vit_perception.image.video.decoder import VideoDecoder

MOST_KEPT = 4000  # arrivals of a topic; at 1000 Hz those of the last 4 s


class Arrival(NamedTuple):
    """One message, by two clocks."""

    stamp_ns: int  # of its header
    wall_ns: int  # this machine's clock when it was taken


@dataclass
class TopicSeen:
    """A topic that the node could listen to."""

    name: str  # full
    type: str  # such as sensor_msgs/msg/Image
    # Each publisher with its policies, printable: ``/driver: reliable, volatile``.
    publishers: tuple[str, ...] = ()
    received: int = 0
    arrivals: deque[Arrival] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    # How often each frame id was named, of messages that the node can use.
    frame_ids: Counter[str] = field(default_factory=Counter)
    # Joints with positions, in the order of the messages; several drivers may share a topic.
    joints: dict[str, None] = field(default_factory=dict)
    # Messages of one topic that name different joints come from so many drivers.
    drivers: set[tuple[str, ...]] = field(default_factory=set)
    has_velocities: bool = False
    # Of images, what the last one was: ``640×480 bgr8``.
    picture: str = ""
    largest_bytes: int = 0  # of a message's data
    video: VideoDecoder | None = None  # of a video, until its first picture
    calibration: Calibration | None = None  # of CameraInfo, the latest usable one
    # Why the node cannot use the last message that it cannot use, and whether one was usable.
    refused: str = ""
    usable: bool = False

    @property
    def period_s(self) -> float | None:
        """The median time from one stamp of a driver to its next, in s; None of too few."""
        steps_ns = [later.stamp_ns - earlier.stamp_ns for earlier, later in pairwise(self.arrivals)]
        # A looped recording steps back, and repeated stamps say nothing.
        forward_ns = [step for step in steps_ns if step > 0]
        if len(forward_ns) < 3:
            return None
        return statistics.median(forward_ns) / 1e9 * max(1, len(self.drivers))

    @property
    def arrived_hz(self) -> float:
        """Messages a second that arrived; 0 of fewer than two."""
        if len(self.arrivals) < 2:
            return 0.0
        taken_s = (self.arrivals[-1].wall_ns - self.arrivals[0].wall_ns) / 1e9
        return (len(self.arrivals) - 1) / taken_s if taken_s > 0 else 0.0

    @property
    def delay_s(self) -> float | None:
        """The median time from a message's stamp until it was taken, in s; negative where stamps
        are ahead of this machine's clock; None without messages.
        """
        if not self.arrivals:
            return None
        return statistics.median(a.wall_ns - a.stamp_ns for a in self.arrivals) / 1e9

    @property
    def frame_id(self) -> str:
        """The frame that most headers name; "" where most name none."""
        return self.frame_ids.most_common(1)[0][0] if self.frame_ids else ""

    @property
    def rate_text(self) -> str:
        """The rate for people, by the stamps."""
        period_s = self.period_s
        return "a few messages" if period_s is None else f"{1.0 / period_s:.3g} Hz"


class Mismatch(NamedTuple):
    """A publisher and a subscription of one topic that DDS does not connect."""

    topic: str
    publisher: str  # full name of its node
    subscriber: str
    policies: str  # which do not fit
    cure: str

    def __str__(self) -> str:
        return (
            f"{self.topic}: nothing goes from {self.publisher} to {self.subscriber}: "
            f"{self.policies}; {self.cure}"
        )


@dataclass(frozen=True)
class GraphSeen:
    """What is on the graph."""

    domain: str  # of ROS
    listened_s: float
    topics: tuple[TopicSeen, ...] = ()
    infos: tuple[TopicSeen, ...] = ()  # those of CameraInfo
    mismatches: tuple[Mismatch, ...] = ()
    has_clock: bool = False  # somebody publishes /clock
    has_tf: bool = False
    # Encoder nodes that run: their own outputs are not among ``topics``.
    encoders: tuple[str, ...] = ()
    # Topics of these types beyond those that are listened to at once.
    unheard: tuple[str, ...] = ()

    def of_type(self, types: Sequence[str]) -> list[TopicSeen]:
        """Return the topics of one of ``types``, by name."""
        return sorted((t for t in self.topics if t.type in types), key=lambda t: t.name)
