"""What the user chooses of a playback: topics, names, range, rate, loops, clock, QoS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.exceptions import InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name

from vit_perception.files.errors import InvalidValue
from vit_perception.ros.playback.replay_qos import QOS_CHOICES

NODE_NAME = "bag_player"
# What the fields with a number of seconds or Hz are called on the command line.
_ARGUMENTS = {
    "start_s": "start",
    "duration_s": "duration",
    "clock_hz": "clock",
    "wait_s": "wait_s",
}


@dataclass(frozen=True)
class PlayOptions:
    """How to play. Times are in seconds of the bag; ``duration_s`` 0 is to the end; ``loops`` 0 is
    until interrupted; ``clock_hz`` 0 publishes no /clock. Raises ValueError naming the option as
    the command line has it.
    """

    topics: tuple[str, ...] = ()
    remaps: tuple[tuple[str, str], ...] = ()
    rate: float = 1.0
    start_s: float = 0.0
    duration_s: float = 0.0
    loops: int = 1
    clock_hz: float = 0.0
    qos: str = "recorded"
    wait_s: float = 0.0

    def __post_init__(self):
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise InvalidValue(
                f" is {self.rate}; accepted: more than 0, and finite", argument="rate"
            )
        for name, argument in _ARGUMENTS.items():
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise InvalidValue(
                    f" is {getattr(self, name)}; accepted: 0 or more, and finite",
                    argument=argument,
                )
        if self.loops < 0:
            raise InvalidValue(
                f" is {self.loops}; accepted: 1 or more, or 0 or no number for ever",
                argument="loop",
            )
        for topic, name in self.remaps:
            if self.topics and topic not in self.topics:
                raise InvalidValue(
                    f" is '{topic}:={name}', and {topic} is not played; accepted: one of "
                    f"{', '.join(self.topics)}",
                    argument="remap",
                )
        if self.qos not in QOS_CHOICES:
            raise InvalidValue(
                f" is {self.qos!r}; accepted: {', '.join(QOS_CHOICES)}", argument="qos"
            )


def parse_remaps(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """``from:=to`` as ROS writes it. Raises ValueError, also where ``to`` is no name of a topic."""
    pairs: dict[str, str] = {}
    for text in given:
        source, separator, target = text.partition(":=")
        if not separator or not source or not target:
            raise InvalidValue(f" is {text!r}; accepted: /from:=/to", argument="remap")
        if source in pairs:
            raise InvalidValue(
                f" is {text!r}, and {source} is {pairs[source]} already; accepted: one name",
                argument="remap",
            )
        try:
            validate_full_topic_name(expand_topic_name(target, NODE_NAME, "/"))
        except (InvalidTopicNameException, ValueError) as error:
            raise InvalidValue(
                f" is {text!r}; accepted: the name of a topic behind := "
                f"({str(error).splitlines()[0]})",
                argument="remap",
            ) from error
        pairs[source] = target
    return tuple(pairs.items())
