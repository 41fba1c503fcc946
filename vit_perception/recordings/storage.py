"""What the readers of recordings share: their limits, what they give, and how they say that a file
is not right.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

# A bag may come from anybody, and a few kilobytes can unpack to gigabytes: these are the most that
# is accepted.
MOST_TOPICS = 2000
MOST_MESSAGE_BYTES = 128 << 20  # an image of 8K in RGB has 100 MB
MOST_CHUNK_BYTES = 256 << 20
MOST_OPEN_BYTES = 384 << 20  # of chunks whose times overlap, together
MOST_DEFINITION_BYTES = 1 << 20  # of one message type
# Zstandard packs zeros 30,000 times; recordings of cameras are packed 2 to 20 times, and black ones
# a few hundred.
MOST_TIMES_UNPACKED = 1000
ALWAYS_UNPACKED_BYTES = 1 << 30
LONGEST_STAMP_NS = (1 << 63) - 1  # what ROS, SQLite and tables of features hold

_TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*/(msg|srv|action)/[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_LONGEST_NAME = 255  # of a topic or type in ROS
_SHOWN = 200  # characters of what a file holds


class Unreadable(Exception):
    """Something of a recording that is not as it should be: ``str()`` is a bounded text without the
    file's name.
    """


class TooLarge(Unreadable):
    """A message that is larger than what is read."""


@dataclass(frozen=True)
class Channel:
    """One topic of one file: what is read of it. ``encoding`` and ``definition`` are of its message
    type, as recorded; ``digest`` is the type's RIHS01 hash, and ``qos`` what the recorded
    publishers offered, as YAML or parsed.
    """

    id: int
    topic: str
    type_name: str
    encoding: str = ""
    definition: str = ""
    digest: str = ""
    qos: Any = ""


@dataclass(frozen=True)
class LeftOut:
    """A topic that cannot be read, and why; of a file's channel, or ``count`` messages."""

    topic: str
    why: str
    channel: int | None = None
    count: int = 0


@dataclass
class Summary:
    """What one file holds: channels that can be read, topics that cannot, messages by channel,
    times in ns.

    ``counted`` is False where the file does not say how many messages it has, so that ``counts`` is
    a guess. ``start_ns`` is of the first message and ``stop_ns`` 1 ns behind the last; both are 0
    where there is none.
    """

    channels: list[Channel]
    left_out: list[LeftOut]
    counts: dict[int, int]
    counted: bool = True
    start_ns: int = 0
    stop_ns: int = 0

    def take(self, channel: Channel, serialization: str) -> None:
        """Add ``channel``, or leave its topic out by name where its messages are none of ROS 2."""
        if len(self.channels) + len(self.left_out) >= MOST_TOPICS:
            raise Unreadable(f"it has more than {MOST_TOPICS} topics")
        if why := _why_left_out(channel, serialization):
            self.left_out.append(
                LeftOut(shown(channel.topic) or "a topic without a name", why, channel.id)
            )
        else:
            self.channels.append(channel)

    def leave_out(self, name: str, why: str, count: int) -> None:
        """Say that ``count`` messages are not read."""
        self.left_out.append(LeftOut(name, why, None, count))

    def widen(self, start_ns: int, last_ns: int) -> None:
        """Take messages of these times into account. Raises Unreadable where they are none."""
        if not 0 <= start_ns <= last_ns < LONGEST_STAMP_NS:
            raise Unreadable(
                f"its messages are of {start_ns} to {last_ns} ns; accepted: 0 to "
                f"{LONGEST_STAMP_NS - 1}"
            )
        self.start_ns = min(self.start_ns, start_ns) if self.stop_ns else start_ns
        self.stop_ns = max(self.stop_ns, last_ns + 1)


def _why_left_out(channel: Channel, serialization: str) -> str:
    if not 0 < len(channel.topic) <= _LONGEST_NAME or not channel.topic.isprintable():
        return f"its name is none of a topic (at most {_LONGEST_NAME} printable characters)"
    if serialization != "cdr":
        return (
            f"its messages are {shown(serialization)!r} of type {shown(channel.type_name)!r}, not "
            "CDR"
        )
    if len(channel.type_name) > _LONGEST_NAME or not _TYPE_NAME.fullmatch(channel.type_name):
        return f"its type {shown(channel.type_name)!r} is none of ROS 2, as package/msg/Name"
    return ""


def by_topic(entries: list[LeftOut]) -> list[LeftOut]:
    """One entry a topic, with the first one's reason and all their messages."""
    found: dict[str, LeftOut] = {}
    for entry in entries:
        before = found.get(entry.topic)
        found[entry.topic] = replace(before, count=before.count + entry.count) if before else entry
    return list(found.values())


def shown(text: object, most: int = _SHOWN) -> str:
    """``text`` from a file in one line of about ``most`` characters, without what a terminal takes
    for a command.
    """
    cut = " ".join(str(text)[: 4 * most].split())
    cut = "".join(c if c.isprintable() else "\ufffd" for c in cut)
    return cut if len(cut) <= most else f"{cut[:most]} ..."


def some_of(names: list[str], most: int = 20) -> str:
    """Names behind commas, of which a bag of strangers may have thousands."""
    more = len(names) - most
    return ", ".join(shown(name) for name in names[:most]) + (
        f" and {more} more" if more > 0 else ""
    )


def most_unpacked(packed_bytes: int) -> int:
    """How many bytes may come out of ``packed_bytes`` in all."""
    return max(ALWAYS_UNPACKED_BYTES, MOST_TIMES_UNPACKED * packed_bytes)


def mib(size_bytes: int) -> str:
    """A size as people read it."""
    return (
        f"{size_bytes / (1 << 20):.0f} MiB"
        if size_bytes < 10 << 30
        else f"{size_bytes / (1 << 30):.0f} GiB"
    )
