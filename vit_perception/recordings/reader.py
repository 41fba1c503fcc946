"""Read rosbag2 recordings (sqlite3 or MCAP) of any origin, without ROS."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.bag_files import BagFiles
from vit_perception.recordings.definitions import deserialised, difference, why_not_readable
from vit_perception.recordings.kind import ACCEPTED, BagError, check_recording, cut_off
from vit_perception.recordings.one_pass import FoundMessage, OnePass
from vit_perception.recordings.recorded_qos import RecordedQos, recorded_profiles
from vit_perception.recordings.storage import (
    Channel,
    LeftOut,
    Unreadable,
    accepted_instead,
    one_line,
    some_of,
)
from vit_perception.recordings.topics import BagTopics, RecordedTopic

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RawMessage:
    """One message as recorded."""

    topic: str
    type_name: str  # such as sensor_msgs/msg/Image
    stamp_ns: int  # time of recording
    data: bytes  # CDR


@dataclass(frozen=True)
class Undecodable:
    """Takes the place of a message that cannot be read."""

    text: str  # names the topic, the time and the fault


class RecordedMessage(NamedTuple):
    """One message, deserialised."""

    topic: str
    stamp_ns: int  # time of recording
    message: Any  # fields as in ROS; or an Undecodable, or StoredBytes


class StoredBytes(NamedTuple):
    """A message as its bytes, and where its type is defined."""

    channel: Channel
    data: bytes  # CDR


class Shortfall(NamedTuple):
    """Numbers of messages of a topic that should be equal."""

    stated: int  # by the bag
    found: int


class BagReader:
    """Read one rosbag2 recording; use it in a `with` block.

    Memory: of one MCAP file at a time, 100 bytes per chunk, and the unpacked chunks that overlap in
    time. The limits of :mod:`vit_perception.recordings.storage` hold.

    Raises:
        BagError: ``path`` is not a readable recording.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        # Number of messages that could not be read, by topic, over all passes.
        self.undecodable: Counter[str] = Counter()
        # Of topics whose number of messages differs, after a pass over the complete bag.
        self.shortfall: dict[str, Shortfall] = {}
        self._warned: set[str] = set()  # topics with a warning about a message that is left out
        self._topics = BagTopics(self.path)
        check_recording(self.path)
        try:
            self._files = BagFiles(self.path)
            try:
                for file in self._files:
                    with file.opened() as opened:
                        self._topics.add(opened.summary)
            except BaseException:
                self.close()
                raise
        except (Unreadable, InvalidValue, OSError) as error:
            raise BagError(
                f"{self.path} is no readable bag: "
                f"{one_line(error)}{cut_off(self.path)}{accepted_instead(error, ACCEPTED)}"
            ) from error
        self._topics.finish()

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, *unused) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; what was unpacked is deleted."""
        self._files.close()

    @property
    def topics(self) -> dict[str, RecordedTopic]:
        """Every topic that can be read, by its name."""
        return self._topics.rows()

    @property
    def left_out(self) -> list[LeftOut]:
        """The topics that cannot be read."""
        return self._topics.left_out

    @property
    def start_ns(self) -> int:
        """The time of recording of the first message; 0 if there is none."""
        return self._topics.start_ns

    @property
    def end_ns(self) -> int:
        """1 ns after the time of recording of the last message; 0 if there is none."""
        return self._topics.end_ns

    def type_of(self, topic: str) -> str:
        """Return the message type of ``topic``.

        Raises:
            BagError: there is no such topic; the message names those that there are. All methods
                that take a topic raise it.
        """
        return self._topics.row(topic).type_name

    def types_of(self, topic: str) -> list[str]:
        """Return all types that messages of ``topic`` have; nearly always one."""
        return self._topics.types_of(topic)

    def count(self, topic: str) -> int:
        """Return the number of messages of ``topic``, of its type."""
        return self._topics.row(topic).count

    def qos_of(self, topic: str) -> list[RecordedQos]:
        """Return the profiles that the publishers of ``topic`` offered; [] if none are recorded.

        Raises:
            InvalidValue: a profile is one that no publisher can have.
        """
        folder = self._files.folder
        stated = folder.qos.get(topic) if folder else None
        return recorded_profiles(stated or self._topics.channel_of(topic).qos)

    def why_not_readable(self, topic: str) -> str:
        """Return why no message of ``topic`` can be read as its type; "" if they can."""
        return why_not_readable(self._topics.channel_of(topic))

    def difference(self, topic: str) -> str:
        """Return how the recorded definition of a topic's type differs from that of ROS, or "".

        Readers with the definition of ROS would misread the bytes. The text is also empty for a
        type that is unknown here.
        """
        return difference(self._topics.channel_of(topic))

    def channel_of(self, topic: str) -> Channel:
        """Return the first channel of ``topic`` with its type; it has the recorded definition."""
        return self._topics.channel_of(topic)

    def what_there_is(self) -> str:
        """Return the topics, and those that are left out with the reason, for an error."""
        return self._topics.listed()

    def raw(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Yield messages of ``topics`` in the order of recording, not deserialised.

        They were recorded from ``start_ns`` until before ``stop_ns``. Messages without bytes are
        left out, with one warning per topic.

        Raises:
            BagError: the bag is damaged.
        """
        wanted = {topic: self.type_of(topic) for topic in topics}
        for found in self._read(wanted, start_ns, stop_ns):
            topic = found.channel.topic
            if isinstance(found.data, Unreadable):
                self._leave_out(topic, _undecodable(found, found.data))
            else:
                yield RawMessage(
                    topic=topic,
                    type_name=found.channel.type_name,
                    stamp_ns=found.stamp_ns,
                    data=found.data,
                )
        if start_ns is None and stop_ns is None:
            self._warn_of_shortfall()

    def stored(self, topics: Collection[str]) -> Iterator[StoredBytes]:
        """Yield messages of ``topics`` as bytes; those without bytes are left out, unannounced.

        Raises:
            BagError: the bag is damaged.
        """
        for found in self._read({topic: self.type_of(topic) for topic in topics}, None, None):
            if not isinstance(found.data, Unreadable):
                yield StoredBytes(found.channel, found.data)

    def messages(
        self,
        topics: Collection[str] | Mapping[str, str],
        tell: Collection[str] = (),
        stored: Mapping[str, str] | None = None,
    ) -> Iterator[RecordedMessage]:
        """Yield messages of ``topics`` in the order of recording.

        ``stored`` has topics with their types whose messages come as :class:`StoredBytes`; those of
        a topic that is in both come twice.

        As a mapping, ``topics`` names the type that each must have. A message whose bytes are not
        of its type is counted in ``undecodable``. For topics in ``tell`` an :class:`Undecodable`
        takes its place; for others it is left out, with one warning per topic.

        Raises:
            BagError: the bag is damaged, or a topic has only other types.
        """
        as_bytes = stored or {}
        if not isinstance(topics, Mapping):
            topics = {topic: self.type_of(topic) for topic in topics}
        wanted = {**as_bytes, **topics}
        for topic, kind in wanted.items():
            types = self.types_of(topic)
            if kind not in types:
                raise BagError(
                    f"{self.path}: {topic} is recorded as {some_of(types)}; accepted: {kind}"
                )
        # Why messages of a channel cannot be read: the definitions of the files may differ.
        reasons: dict[int, str] = {}
        for found in self._read(wanted, None, None):
            channel = found.channel
            if channel.topic in as_bytes and not isinstance(found.data, Unreadable):
                message = StoredBytes(channel, found.data)
                yield RecordedMessage(channel.topic, found.stamp_ns, message)
                if channel.topic not in topics:
                    continue
            if id(channel) not in reasons:
                reasons[id(channel)] = why_not_readable(channel)
            if why := reasons[id(channel)]:
                message = Unreadable(why)
            elif isinstance(found.data, Unreadable):
                message = found.data
            else:
                message = deserialised(found.data, channel.type_name)
            if not isinstance(message, Unreadable):
                yield RecordedMessage(channel.topic, found.stamp_ns, message)
                continue
            text = _undecodable(found, message)
            if channel.topic in tell:
                self.undecodable[channel.topic] += 1
                yield RecordedMessage(channel.topic, found.stamp_ns, Undecodable(text))
            else:
                self._leave_out(channel.topic, text)
        if not tell:
            self._warn_of_shortfall()

    def _leave_out(self, topic: str, text: str) -> None:
        self.undecodable[topic] += 1
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning("%s: %s; it is left out, as are others of the topic", self.path, text)

    def _warn_of_shortfall(self) -> None:
        for topic in self.shortfall:
            _log.warning("%s: %s", self.path, self.shortfall_text(topic))

    def shortfall_text(self, topic: str) -> str:
        """Return the ``shortfall`` of ``topic`` in words."""
        stated, found = self.shortfall[topic]
        return f"it says that {topic} has {stated} messages, and {found} are there"

    def _read(
        self, wanted: Mapping[str, str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FoundMessage]:
        """Yield messages of topics with their types; note the shortfall after a complete pass."""
        one_pass = OnePass(self._files, wanted, start_ns, stop_ns=stop_ns)
        yield from one_pass
        if start_ns is None and stop_ns is None:
            self.shortfall = {}
            for topic, kind in wanted.items():
                stated = self._stated(topic, kind)
                found = one_pass.counts[topic]
                if stated is not None and stated != found:
                    self.shortfall[topic] = Shortfall(stated, found)

    def _stated(self, topic: str, kind: str) -> int | None:
        """Return how many messages the bag says that it has; None if it does not say."""
        folder = self._files.folder
        if folder is not None and topic in folder.counts and len(self.types_of(topic)) == 1:
            return folder.counts[topic]
        return self._topics.count(topic, kind) if self._topics.counted else None


def _undecodable(found: FoundMessage, why: Unreadable) -> str:
    return (
        f"a message of {found.channel.topic} at {found.stamp_ns} ns cannot be read as "
        f"{found.channel.type_name}: {why}"
    )
