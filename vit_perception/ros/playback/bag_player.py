"""Publish a bag's topics over DDS with recorded timing, as the recorded bytes (CDR): nothing is
converted.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from vit_perception.files.atomic import fresh_file
from vit_perception.recordings.reader import BagError, BagReader, RawMessage
from vit_perception.ros.interfaces import message_class
from vit_perception.ros.playback.play_options import NODE_NAME, PlayOptions, parse_remaps
from vit_perception.ros.playback.replay_qos import (
    PLAY_QOS,
    latched_before,
    play_qos,
    recorded_qos,
)
from vit_perception.wire.records import NANOSECONDS_PER_SECOND

__all__ = [
    "PLAY_QOS",
    "BagPlayer",
    "PlayOptions",
    "message_class",
    "parse_remaps",
    "play_bag",
    "recorded_qos",
]

CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# So that a signal and the clock are not kept waiting by a gap in the bag.
LONGEST_SLEEP_S = 0.1
DELIVERY_S = 2.0


class BagPlayer:
    """Publishers for topics of ``bag`` on ``node``.

    ``skipped`` names topics that cannot be published here, for their type or their name, and those
    that hold no messages of ROS 2; ``replaced`` those whose recorded QoS cannot be offered, so that
    :data:`PLAY_QOS` is. Raises BagError for a topic that is not in the bag, for one that was named
    and cannot be published, and where none is left.
    """

    def __init__(self, node: Node, bag: BagReader, options: PlayOptions):
        self._node, self._bag, self._options = node, bag, options
        names = dict(options.remaps)
        for topic in names:
            bag.type_of(topic)
        self.skipped = [f"{entry.topic}: {entry.why}" for entry in bag.left_out]
        self.replaced: list[str] = []
        self._publishers = {}
        self._offered: dict[str, QoSProfile] = {}
        for topic in options.topics or sorted(bag.topics):
            try:
                self._publishers[topic] = self._publisher(topic, names.get(topic, topic))
            except BagError as error:
                if options.topics:
                    raise
                self.skipped.append(f"{topic}: {error}")
        if not self._publishers:
            more = f"; and {len(self.skipped) - 1} more" if len(self.skipped) > 1 else ""
            raise BagError(
                f"{bag.path} has no topic that can be published here: {self.skipped[0]}{more}"
                if self.skipped
                else f"{bag.path} has no topic"
            )
        self._clock = (
            node.create_publisher(Clock, "/clock", CLOCK_QOS) if options.clock_hz else None
        )
        self.start_ns = bag.start_ns + round(options.start_s * NANOSECONDS_PER_SECOND)
        self.stop_ns = bag.end_ns
        if options.duration_s:
            self.stop_ns = min(
                bag.end_ns, self.start_ns + round(options.duration_s * NANOSECONDS_PER_SECOND)
            )
        if self.start_ns >= bag.end_ns:
            raise BagError(
                f" is {options.start_s:g} s; accepted: less than the {self.length_s(bag):g} "
                "s that "
                f"{bag.path} is long",
                argument="start",
            )
        self.sent: Counter[str] = Counter()
        # Set by whoever wants it to end, between two messages: an exception out of a signal handler
        # could fall between a message and its count.
        self.stopping = False

    def _publisher(self, topic: str, name: str):
        """A publisher of what ``topic`` holds. Raises BagError where there can be none."""
        if differs := self._bag.difference(topic):
            raise BagError(f"{differs}: subscribers would misread it")
        kind = message_class(self._bag.type_of(topic))
        self._offered[topic], wrong = play_qos(self._bag, topic, self._options.qos)
        try:
            publisher = self._node.create_publisher(kind, name, self._offered[topic])
        except (InvalidTopicNameException, ValueError) as error:  # ValueError: NUL, lone surrogates
            raise BagError(
                f"it is no name of a topic in ROS ({str(error).splitlines()[0][:200]}); accepted: "
                "a remap to another one"
            ) from error
        if wrong:
            self.replaced.append(f"{topic}: {wrong}")
        return publisher

    @property
    def _goes_on(self) -> bool:
        return self._node.context.ok() and not self.stopping

    def stop(self, *unused) -> None:
        """End after the message at hand; also a signal handler."""
        self.stopping = True

    @staticmethod
    def length_s(bag: BagReader) -> float:
        """How long the recording is."""
        return (bag.end_ns - bag.start_ns) / NANOSECONDS_PER_SECOND

    def wait_for_subscribers(self, timeout_s: float) -> None:
        """Block until each topic has a subscriber. Raises BagError naming those that have none by
        then.
        """
        deadline_s = time.monotonic() + timeout_s
        while lonely := [
            p.topic_name for p in self._publishers.values() if p.get_subscription_count() == 0
        ]:
            if time.monotonic() > deadline_s:
                raise BagError(f"nobody subscribed to {', '.join(lonely)} within {timeout_s:g} s")
            if not self._goes_on:
                return
            time.sleep(0.02)

    def play(self, sent: Callable[[RawMessage, int], None] = lambda message, wall_ns: None) -> bool:
        """Publish what the options say; whether it came to its end (False: it was interrupted).

        ``sent`` is told each message and the wall-clock time in ns at which it was handed to DDS.
        """
        passes = 0
        while self._goes_on and (self._options.loops == 0 or passes < self._options.loops):
            self._play_once(sent)
            passes += 1
        return self._goes_on

    def _play_once(self, sent: Callable[[RawMessage, int], None]) -> None:
        # What was latched before the start is there at the start, for each pass anew.
        for message in latched_before(self._bag, self._offered, self._publishers, self.start_ns):
            self._send(message, sent)
        pace = _Pace(
            self.start_ns,
            self._options.rate,
            self._clock,
            self._options.clock_hz,
            lambda: self._goes_on,
        )
        for message in self._bag.raw(list(self._publishers), self.start_ns, self.stop_ns):
            if not pace.wait_until(message.stamp_ns):
                return
            self._send(message, sent)
        # The next pass begins when this one's time is over, not when its last message is out.
        if self._options.loops != 1:
            pace.wait_until(self.stop_ns)

    def _send(self, message: RawMessage, sent: Callable[[RawMessage, int], None]) -> None:
        wall_ns = time.time_ns()
        self._publishers[message.topic].publish(message.data)
        self.sent[message.topic] += 1
        sent(message, wall_ns)

    def wait_for_delivery(self) -> None:
        """Reliable topics still deliver what is queued while the publishers live."""
        deadline_s = time.monotonic() + DELIVERY_S
        for publisher in self._publishers.values():
            left_s = max(0.0, deadline_s - time.monotonic())
            publisher.wait_for_all_acked(Duration(seconds=left_s))


class _Pace:
    """When each message is due, and the ticks of /clock between."""

    def __init__(
        self, start_ns: int, rate: float, clock, clock_hz: float, goes_on: Callable[[], bool]
    ):
        self._start_ns, self._rate, self._clock, self._goes_on = start_ns, rate, clock, goes_on
        self._begin_s = time.monotonic()
        self._tick_s = 1.0 / clock_hz if clock_hz else 0.0
        self._next_tick_s = self._begin_s

    def wait_until(self, bag_ns: int) -> bool:
        """Sleep until the bag's time is ``bag_ns``, telling /clock the time meanwhile; False when
        interrupted.
        """
        due_s = self._begin_s + (bag_ns - self._start_ns) / NANOSECONDS_PER_SECOND / self._rate
        while self._goes_on():
            now_s = time.monotonic()
            if self._clock is not None and now_s >= self._next_tick_s:
                self._tick(min(now_s, due_s))
                self._next_tick_s = max(self._next_tick_s + self._tick_s, now_s)
            wait_s = due_s - now_s
            if self._clock is not None:
                wait_s = min(wait_s, self._next_tick_s - now_s)
            if due_s <= now_s:
                return True
            if wait_s > 0:
                time.sleep(min(wait_s, LONGEST_SLEEP_S))
        return False

    def _tick(self, now_s: float) -> None:
        message = Clock()
        elapsed_ns = round((now_s - self._begin_s) * self._rate * NANOSECONDS_PER_SECOND)
        message.clock.sec, message.clock.nanosec = divmod(
            self._start_ns + elapsed_ns, NANOSECONDS_PER_SECOND
        )
        self._clock.publish(message)


def play_bag(
    path: Path,
    options: PlayOptions,
    log: Path | None = None,
    began: Callable[[BagPlayer], None] = lambda player: None,
    progress: Callable[[RawMessage], None] = lambda message: None,
) -> tuple[Counter, bool]:
    """Play one bag from a process of its own: messages sent by topic, and whether it came to its
    end.

    ``log`` gets a JSON line a message: topic, the recorded stamp in ns, and when it was sent (wall
    clock, ns).
    """
    # What is wrong with the bag is said before DDS starts.
    with BagReader(path) as reader:
        # Signals stay Python's: rclpy's handlers would take DDS down under a message that is being
        # counted as sent. The command line is no ROS command line. A context of its own, so that it
        # also plays where the process has one.
        context = Context()
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        node = Node(NODE_NAME, context=context)
        earlier = {}
        lines = fresh_file(log) if log else None  # whole lines, for who reads along
        try:
            player = BagPlayer(node, reader, options)
            earlier = {
                number: signal.signal(number, player.stop)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
            began(player)
            if options.wait_s > 0:
                player.wait_for_subscribers(options.wait_s)

            def note(message: RawMessage, wall_ns: int) -> None:
                if lines:
                    entry = {
                        "topic": message.topic,
                        "stamp_ns": message.stamp_ns,
                        "sent_ns": wall_ns,
                    }
                    lines.write(json.dumps(entry) + "\n")
                progress(message)

            ended = player.play(note)
            player.wait_for_delivery()
            return player.sent, ended
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
            if lines:
                lines.close()
            node.destroy_node()
            rclpy.try_shutdown(context=context)
