"""Read rosbag2 recordings (sqlite3 or MCAP) without ROS, through the library ``rosbags``."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Qos
from rosbags.typesys import Stores, get_typestore

from vit_perception.bags.mcap_chunks import LongReader
from vit_perception.bags.recording_kind import ACCEPTED, BagError, check_recording, cut_off

MOST_EXCESS = 32  # bytes that may stand behind a message


@dataclass(frozen=True, eq=False)
class RawMessage:
    """One message as recorded: ``stamp_ns`` is the time of recording, ``data`` the CDR bytes."""

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class Undecodable:
    """In the place of a message that could not be read: ``text`` names topic, time and what is wrong."""

    text: str


class BagReader:
    """A bag, opened for reading: ``with BagReader(path) as bag: ...``. Raises BagError when it is none.

    Memory: of an MCAP file a row of its index a chunk, and the chunks whose times overlap, each about three times.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.undecodable: Counter[str] = Counter()  # messages by topic, of all passes
        check_recording(self.path)
        try:
            # Recordings of other distributions bring their own definitions along; this is for those that don't.
            self._reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_KILTED))
            self._reader.readers = [LongReader(self.path)]
            # It takes a folder whose name ends in .bag for a recording of ROS 1.
            self._reader.is2 = True
            self._reader.open()
        except Exception as error:  # the library's own errors, SQLite's, and those of three decompressors
            raise BagError(f"{self.path} is no readable bag: {_line(error)}{cut_off(self.path)}; accepted: "
                           f"{ACCEPTED}") from error

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, *unused) -> None:
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic."""
        return {c.topic: c.msgtype for c in self._reader.connections}

    def type_of(self, topic: str) -> str:
        """The message type of ``topic``. Raises BagError naming the topics that there are."""
        return self._connections([topic])[0].msgtype

    @property
    def start_ns(self) -> int:
        """When the first message was recorded."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """1 ns after the last message was recorded."""
        return self._reader.end_time

    def count(self, topic: str) -> int:
        """How many messages ``topic`` holds."""
        return sum(c.msgcount for c in self._connections([topic]))

    def _connections(self, topics: list[str]) -> list:
        missing = sorted(set(topics) - set(self.topics))
        if missing:
            raise BagError(f"{self.path} has no topic {', '.join(missing)}; there are: "
                           f"{', '.join(sorted(self.topics))}")
        return [c for c in self._reader.connections if c.topic in topics]

    def qos_of(self, topic: str) -> list[Qos]:
        """The profiles that the recorded publishers of ``topic`` offered; empty where the bag does not say."""
        return [qos for c in self._connections([topic]) for qos in c.ext.offered_qos_profiles]

    def raw(self, topics: list[str], start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[RawMessage]:
        """Messages of ``topics`` in the order of recording, not deserialised.

        ``start_ns`` is the earliest time of recording, ``stop_ns`` the first that is too late. Raises BagError
        where the bag is damaged further in.
        """
        for connection, stamp_ns, data in self._read(topics, start_ns, stop_ns):
            yield RawMessage(connection.topic, connection.msgtype, stamp_ns, data)

    def messages(self, topics: list[str], tell: Collection[str] = ()) -> Iterator[tuple[str, int, Any]]:
        """(topic, recorded ns, message) of ``topics`` in the order of recording; fields as in ROS. Raises BagError.

        A message whose bytes are none of its type is counted in ``undecodable`` and left out; the log says it once a
        topic. Of the topics in ``tell`` an :class:`Undecodable` stands in its place.
        """
        for connection, stamp_ns, data in self._read(topics, None, None):
            try:
                message = self._deserialised(data, connection.msgtype)
            except Exception as error:  # what the generated code of a type stumbles over: struct's, numpy's, Unicode's
                topic = connection.topic
                text = (f"a message of {topic} at {stamp_ns} ns, of {len(data)} bytes, cannot be read as "
                        f"{connection.msgtype}: {_line(error)}")
                self.undecodable[topic] += 1
                if topic in tell:
                    yield topic, stamp_ns, Undecodable(text)
                elif self.undecodable[topic] == 1:
                    logging.getLogger(__name__).warning("%s: %s; it is left out, as are others of the topic",
                                                        self.path, text)
                continue
            yield connection.topic, stamp_ns, message

    def _deserialised(self, data: bytes, type_name: str) -> Any:
        try:
            return self._reader.deserialize(data, type_name)
        except AnyReaderError as error:
            # Bags written through `rclpy.serialization` have bytes behind a message: it sizes its buffer by an upper
            # bound, up to 4 bytes too large for each empty sequence (a JointState without efforts has one).
            for excess in range(4, MOST_EXCESS + 1, 4):
                try:
                    return self._reader.deserialize(data[:-excess], type_name)
                except AnyReaderError:
                    continue
            raise error

    def _read(self, topics: list[str], start_ns: int | None, stop_ns: int | None) -> Iterator[tuple]:
        connections = self._connections(topics)
        if not connections:
            return  # rosbags takes none for all
        try:
            yield from self._reader.messages(connections=connections, start=start_ns, stop=stop_ns)
        except Exception as error:  # as on opening: whatever a decompressor or SQLite finds further in
            raise BagError(f"{self.path} is damaged: {_line(error)}; accepted: a whole bag") from error


def _line(error: Exception) -> str:
    """What an error of the library says, in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
