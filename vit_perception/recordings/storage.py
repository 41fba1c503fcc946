"""What all readers of recordings share: limits, what a file holds, and texts for errors."""

import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

# A bag may come from anybody, and a few kilobytes can unpack to gigabytes. These are the limits.
MOST_TOPICS = 2000
MOST_MESSAGE_BYTES = 128 << 20  # an 8K image in RGB has 100 MB
MOST_CHUNK_BYTES = 256 << 20
MOST_OPEN_BYTES = 384 << 20  # of all chunks whose times overlap
MOST_DEFINITION_BYTES = 1 << 20  # of one message type
# Zstandard packs zeros 30,000 times; recordings of cameras are packed 2 to 20 times, and black
# images a few hundred.
MOST_TIMES_UNPACKED = 1000
ALWAYS_UNPACKED_BYTES = 1 << 30
LONGEST_STAMP_NS = (1 << 63) - 1  # what ROS, SQLite and tables of features hold

_TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*/(msg|srv|action)/[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_LONGEST_NAME = 255  # of a topic or type in ROS
_SHOWN = 200  # characters of a file's content


class Unreadable(Exception):
    """A recording, or a part of it, is not as it should be.

    The text is bounded and does not contain the file's name.
    """


class TooLarge(Unreadable):
    """A message is larger than what is read."""


class StoredMessage(NamedTuple):
    """One message of a file."""

    channel: int  # its id in the file
    stamp_ns: int  # time of recording
    data: bytes | Unreadable  # as recorded, or why there are none


class Definition(NamedTuple):
    """A message definition as recorded."""

    type_name: str  # such as sensor_msgs/msg/Image
    encoding: str = ""  # ros2msg, ros2idl, ...
    text: str = ""  # empty if none is recorded


@dataclass(frozen=True)
class Channel:
    """Messages of one topic and type in one file."""

    id: int
    topic: str
    definition: Definition
    digest: str = ""  # the type's RIHS01 hash; empty if none is recorded
    qos: Any = ""  # the profiles that its publishers offered: YAML, or parsed

    @property
    def type_name(self) -> str:
        """Its message type, such as ``sensor_msgs/msg/Image``."""
        return self.definition.type_name


@dataclass(frozen=True)
class LeftOut:
    """A topic that cannot be read."""

    topic: str  # printable and bounded
    why: str
    channel: int | None = None  # its id in the file
    count: int = 0  # number of its messages


@dataclass
class Summary:
    """What one file holds."""

    channels: list[Channel]  # that can be read
    left_out: list[LeftOut]  # topics that cannot
    counts: dict[int, int]  # number of messages by channel
    counted: bool = True  # False: the file does not say the counts, so they may be too low
    start_ns: int = 0  # of the first message; 0 if there is none
    stop_ns: int = 0  # 1 ns after the last message; 0 if there is none

    def take(self, channel: Channel, serialization: str) -> None:
        """Add ``channel``, or leave its topic out if its messages are not those of ROS 2.

        Raises:
            Unreadable: there are too many topics.
        """
        if len(self.channels) + len(self.left_out) >= MOST_TOPICS:
            raise Unreadable(f"it has more than {MOST_TOPICS} topics")
        if why := _why_left_out(channel, serialization):
            topic = shown(channel.topic) or "a topic without a name"
            self.left_out.append(LeftOut(topic, why, channel.id))
        else:
            self.channels.append(channel)

    def leave_out(self, name: str, why: str, count: int) -> None:
        """Note that ``count`` messages are not read."""
        self.left_out.append(LeftOut(name, why, count=count))

    def add_count(self, channel: int, count: int) -> None:
        """Add ``count`` messages of a channel."""
        self.counts[channel] = self.counts.get(channel, 0) + count

    def widen(self, start_ns: int, last_ns: int) -> None:
        """Extend the times so that messages of ``start_ns`` to ``last_ns`` are within them.

        Raises:
            Unreadable: these are not times.
        """
        if not 0 <= start_ns <= last_ns < LONGEST_STAMP_NS:
            raise Unreadable(
                f"its messages are of {start_ns} to {last_ns} ns; accepted: 0 to "
                f"{LONGEST_STAMP_NS - 1}"
            )
        self.start_ns = min(self.start_ns, start_ns) if self.stop_ns else start_ns
        self.stop_ns = max(self.stop_ns, last_ns + 1)


def _why_left_out(channel: Channel, serialization: str) -> str:
    kind = channel.type_name
    if not 0 < len(channel.topic) <= _LONGEST_NAME or not channel.topic.isprintable():
        return f"its name is none of a topic (at most {_LONGEST_NAME} printable characters)"
    if serialization != "cdr":
        return f"its messages are {shown(serialization)!r} of type {shown(kind)!r}, not CDR"
    if len(kind) > _LONGEST_NAME or not _TYPE_NAME.fullmatch(kind):
        return f"its type {shown(kind)!r} is none of ROS 2, as package/msg/Name"
    return ""


def by_topic(entries: list[LeftOut]) -> list[LeftOut]:
    """Return one entry per topic, with the first one's reason and the sum of the messages."""
    found: dict[str, LeftOut] = {}
    for entry in entries:
        first = found.get(entry.topic)
        found[entry.topic] = replace(first, count=first.count + entry.count) if first else entry
    return list(found.values())


def shown(text: object, most: int = _SHOWN) -> str:
    """Return ``text`` of a file in one line of about ``most`` characters, all printable."""
    cut = " ".join(str(text)[: 4 * most].split())
    cut = "".join(c if c.isprintable() else "\ufffd" for c in cut)
    return cut if len(cut) <= most else f"{cut[:most]} ..."


def some_of(names: list[str], most: int = 20) -> str:
    """Return the first ``most`` names, separated by commas, and how many more there are."""
    more = len(names) - most
    listed = ", ".join(shown(name) for name in names[:most])
    return listed + (f" and {more} more" if more > 0 else "")


def most_unpacked(packed_bytes: int) -> int:
    """Return how many bytes ``packed_bytes`` may unpack to."""
    return max(ALWAYS_UNPACKED_BYTES, MOST_TIMES_UNPACKED * packed_bytes)


def mib(size_bytes: int) -> str:
    """Return a size in MiB, or from 10 GiB on in GiB."""
    if size_bytes < 10 << 30:
        return f"{size_bytes / (1 << 20):.0f} MiB"
    return f"{size_bytes / (1 << 30):.0f} GiB"


def one_line(error: Exception) -> str:
    """Return the text of an error in one bounded line, without the full stop."""
    return shown(error, 500).rstrip(".") or type(error).__name__


def accepted_instead(error: Exception, what: str) -> str:
    """Return that ``what`` is accepted, unless the text of ``error`` says what is."""
    return "" if "; accepted: " in one_line(error) else f"; accepted: {what}"
