"""Read rosbag2 recordings (sqlite3 or MCAP) without ROS, whoever made them."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vit_perception.files.errors import InvalidValue, nearest
from vit_perception.recordings.bag_files import STORAGE, PackedFile, PlainFile
from vit_perception.recordings.bag_folder import BagFolder, read_folder
from vit_perception.recordings.definitions import deserialised, difference, why_not_readable
from vit_perception.recordings.kind import ACCEPTED, BagError, check_recording, cut_off
from vit_perception.recordings.recorded_qos import RecordedQos, recorded_profiles
from vit_perception.recordings.storage import (
    MOST_MESSAGE_BYTES,
    MOST_TIMES_UNPACKED,
    MOST_TOPICS,
    Channel,
    LeftOut,
    TooLarge,
    Unreadable,
    by_topic,
    mib,
    most_unpacked,
    shown,
    some_of,
)
from vit_perception.recordings.unpacking import ZSTD_MAGIC, unpacked_message

_MOST_SAID = 3  # topics that are left out, in an error


@dataclass(frozen=True, eq=False)
class RawMessage:
    """One message as recorded: ``stamp_ns`` is the time of recording, ``data`` the CDR bytes."""

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class Undecodable:
    """In the place of a message that could not be read: ``text`` names topic, time and what is
    wrong.
    """

    text: str


class BagReader:
    """A bag, opened for reading: ``with BagReader(path) as bag: ...``. Raises BagError when it is
    none.

    Memory: of one MCAP file at a time a row of its index a chunk, and the unpacked chunks whose
    times overlap. The limits of ``bags.storage`` hold. ``left_out`` are topics that cannot be read,
    ``undecodable`` counts messages by topic, of all passes, and ``shortfall`` has (said, found) by
    topic where a pass over the whole bag found other numbers of messages than the bag says that it
    holds.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.undecodable: Counter[str] = Counter()
        self.left_out: list[LeftOut] = []
        self.shortfall: dict[str, tuple[int, int]] = {}
        self.start_ns = self.end_ns = 0
        self._counted = True
        self._told: set[str] = set()  # topics of which the log has said that a message is left out
        self._folder: BagFolder | None = None
        self._files: list[PlainFile | PackedFile] = []
        self._channels: dict[str, dict[str, Channel]] = {}  # by topic and type
        self._counts: dict[tuple[str, str], int] = {}
        check_recording(self.path)
        try:
            self._open()
        except (Unreadable, InvalidValue, OSError) as error:
            self.close()
            raise BagError(
                f"{self.path} is no readable bag: "
                f"{_line(error)}{cut_off(self.path)}{_accepted(error, ACCEPTED)}"
            ) from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if not self.path.is_dir():
            self._files = [PlainFile(self.path, STORAGE[self.path.suffix])]
        else:
            self._folder = read_folder(self.path)
            if self._folder.storage not in STORAGE.values():
                raise Unreadable(
                    f"its storage is {shown(self._folder.storage)!r}; accepted: "
                    f"{', '.join(STORAGE.values())}"
                )
            self._open_files(self._folder)
        for file in self._files:
            self._take_summary(file)
        for topic, kinds in self._channels.items():
            for kind in kinds.keys() - {self.type_of(topic)}:
                self.left_out.append(
                    LeftOut(
                        topic, f"it is recorded as {kind} also", None, self._counts[topic, kind]
                    )
                )
        self.left_out = by_topic(self.left_out)

    def _open_files(self, folder: BagFolder) -> None:
        left_bytes = most_unpacked(sum(file.stat().st_size for file in folder.files))
        for path in folder.files:
            if folder.compression == "file":
                self._files.append(PackedFile(path, folder.storage, left_bytes))
                left_bytes -= self._files[-1].size_bytes
            else:
                self._files.append(PlainFile(path, folder.storage))

    def _take_summary(self, file: PlainFile | PackedFile) -> None:
        with file.opened() as opened:
            summary = opened.summary
        self._counted &= summary.counted
        for channel in summary.channels:
            kinds = self._channels.setdefault(channel.topic, {})
            kinds.setdefault(channel.type_name, channel)
            key = channel.topic, channel.type_name
            self._counts[key] = self._counts.get(key, 0) + summary.counts.get(channel.id, 0)
        self.left_out += [
            replace(entry, channel=None, count=entry.count or summary.counts.get(entry.channel, 0))
            for entry in summary.left_out
        ]
        if len(self._channels) + len(self.left_out) > MOST_TOPICS:
            raise Unreadable(f"it has more than {MOST_TOPICS} topics")
        if summary.stop_ns:
            self.start_ns = (
                min(self.start_ns, summary.start_ns) if self.end_ns else summary.start_ns
            )
            self.end_ns = max(self.end_ns, summary.stop_ns)

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, *unused) -> None:
        self.close()

    def close(self) -> None:
        """Close its files; what was unpacked is gone with them."""
        for file in self._files:
            file.close()

    @property
    def topics(self) -> dict[str, str]:
        """Message type by topic; of one that was recorded with several types, the one with most
        messages.
        """
        return {topic: self.type_of(topic) for topic in self._channels}

    def type_of(self, topic: str) -> str:
        """The message type of ``topic``. Raises BagError naming the topics that there are."""
        return max(self._kinds(topic), key=lambda kind: self._counts[topic, kind])

    def types_of(self, topic: str) -> list[str]:
        """All types that messages of ``topic`` were recorded with; nearly always one. Raises
        BagError as above.
        """
        return list(self._kinds(topic))

    def count(self, topic: str) -> int:
        """How many messages ``topic`` holds, of its type."""
        return self._counts[topic, self.type_of(topic)]

    def qos_of(self, topic: str) -> list[RecordedQos]:
        """The profiles that the recorded publishers of ``topic`` offered; empty where the bag does
        not say.

        Raises InvalidValue, with what is wrong, where it says what no publisher can have.
        """
        said = self._folder.qos.get(topic) if self._folder else None
        return recorded_profiles(said or self._kinds(topic)[self.type_of(topic)].qos)

    def why_not_readable(self, topic: str) -> str:
        """Why no message of ``topic`` can be read as its type, by the definition that the bag has
        of it; else empty.
        """
        return why_not_readable(self._kinds(topic)[self.type_of(topic)])

    def difference(self, topic: str) -> str:
        """How the bag's definition of the type of ``topic`` differs from ROS's: others would
        misread the bytes. Else empty, also for a type that is unknown here.
        """
        return difference(self._kinds(topic)[self.type_of(topic)])

    def what_there_is(self) -> str:
        """The topics that are read, and those that are left out with why, for an error."""
        left_out = "; ".join(
            f"{entry.topic} is left out: {entry.why}" for entry in self.left_out[:_MOST_SAID]
        )
        return (
            "there are: "
            f"{some_of(sorted(self._channels)) or 'none'}{'; ' if left_out else ''}{left_out}"
        )

    def _kinds(self, topic: str) -> dict[str, Channel]:
        if topic not in self._channels:
            why = next(
                (f" that is read ({e.why})" for e in self.left_out if e.topic == shown(topic)), ""
            )
            raise BagError(
                f"{self.path} has no topic {shown(topic)}{why}; {self.what_there_is()}",
                hint="" if why else nearest(topic, sorted(self._channels)),
            )
        return self._channels[topic]

    def raw(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """Messages of ``topics`` in the order of recording, not deserialised.

        ``start_ns`` is the earliest time of recording, ``stop_ns`` the first that is too late.
        Raises BagError where the bag is damaged further in. Messages without bytes are left out,
        and said in the log once a topic.
        """
        for channel, stamp_ns, data in self._read(
            {topic: self.type_of(topic) for topic in topics}, start_ns, stop_ns
        ):
            if isinstance(data, Unreadable):
                self._leave_out(channel.topic, _undecodable(channel, stamp_ns, data))
            else:
                yield RawMessage(channel.topic, channel.type_name, stamp_ns, data)
        if start_ns is None and stop_ns is None:
            self._say_shortfall()

    def messages(
        self, topics: Collection[str] | Mapping[str, str], tell: Collection[str] = ()
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, recorded ns, message) of ``topics`` in the order of recording; fields as in ROS.
        Raises BagError.

        ``topics`` may name the type that each must have: BagError where it was recorded with
        another one alone. A message whose bytes are none of its type is counted in ``undecodable``
        and left out; the log says it once a topic. Of the topics in ``tell`` an
        :class:`Undecodable` stands in its place, and the log says nothing.
        """
        wanted = (
            {t: self.type_of(t) for t in topics}
            if not isinstance(topics, Mapping)
            else dict(topics)
        )
        for topic, kind in wanted.items():
            if kind not in self._kinds(topic):
                raise BagError(
                    f"{self.path}: {topic} is recorded as {some_of(self.types_of(topic))}; "
                    f"accepted: {kind}"
                )
        unreadable: dict[
            int, str
        ] = {}  # why messages of a channel cannot be read; the definitions of files may differ
        for channel, stamp_ns, data in self._read(wanted, None, None):
            if id(channel) not in unreadable:
                unreadable[id(channel)] = why_not_readable(channel)
            why = unreadable[id(channel)] or data
            message = (
                deserialised(data, channel.type_name)
                if isinstance(why, bytes)
                else Unreadable(str(why))
            )
            if not isinstance(message, Unreadable):
                yield channel.topic, stamp_ns, message
                continue
            text = _undecodable(channel, stamp_ns, message)
            if channel.topic in tell:
                self.undecodable[channel.topic] += 1
                yield channel.topic, stamp_ns, Undecodable(text)
            else:
                self._leave_out(channel.topic, text)
        if not tell:
            self._say_shortfall()

    def _leave_out(self, topic: str, text: str) -> None:
        self.undecodable[topic] += 1
        if topic not in self._told:
            self._told.add(topic)
            logging.getLogger(__name__).warning(
                "%s: %s; it is left out, as are others of the topic", self.path, text
            )

    def _say_shortfall(self) -> None:
        for topic in self.shortfall:
            logging.getLogger(__name__).warning("%s: %s", self.path, self.shortfall_text(topic))

    def shortfall_text(self, topic: str) -> str:
        """What ``shortfall`` says of ``topic``, in words."""
        said, found = self.shortfall[topic]
        return f"it says that {topic} has {said} messages, and {found} are there"

    def _read(
        self, wanted: Mapping[str, str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes | Unreadable]]:
        """Channel, time and bytes of the messages of topics with their types, file by file."""
        found: Counter[str] = Counter()
        unpacked_bytes, most_bytes = (
            0,
            most_unpacked(sum(file.path.stat().st_size for file in self._files)),
        )
        packed = self._folder is not None and self._folder.compression == "message"
        for file in self._files:
            try:
                with file.opened() as opened:
                    by_id = {
                        c.id: c
                        for c in opened.summary.channels
                        if wanted.get(c.topic) == c.type_name
                    }
                    for number, stamp_ns, data in (
                        opened.messages(by_id, start_ns, stop_ns) if by_id else ()
                    ):
                        # A message in CDR never begins so; single files do not say that theirs are
                        # packed.
                        if isinstance(data, bytes) and (packed or data[:4] == ZSTD_MAGIC):
                            data = _unpacked(data)
                            size = MOST_MESSAGE_BYTES if isinstance(data, TooLarge) else 0
                            unpacked_bytes += len(data) if isinstance(data, bytes) else size
                            if unpacked_bytes > most_bytes:
                                raise Unreadable(
                                    f"its messages unpack to more than {mib(most_bytes)}; "
                                    f"accepted: at most that, or {MOST_TIMES_UNPACKED} times its "
                                    "size"
                                )
                        found[by_id[number].topic] += 1
                        yield by_id[number], stamp_ns, data
            except (Unreadable, InvalidValue, OSError) as error:
                raise BagError(
                    f"{file.path} is damaged: {_line(error)}{_accepted(error, 'a whole bag')}"
                ) from error
        if start_ns is None and stop_ns is None:
            said = {topic: self._said(topic, kind, found[topic]) for topic, kind in wanted.items()}
            self.shortfall = {t: (said[t], found[t]) for t in wanted if said[t] != found[t]}

    def _said(self, topic: str, kind: str, found: int) -> int:
        """How many messages the bag says that it has; ``found`` where it does not."""
        if (
            self._folder is not None
            and len(self._channels[topic]) == 1
            and topic in self._folder.counts
        ):
            return self._folder.counts[topic]
        return self._counts[topic, kind] if self._counted else found


def _unpacked(data: bytes) -> bytes | Unreadable:
    try:
        return unpacked_message(data)
    except Unreadable as error:
        return error


def _undecodable(channel: Channel, stamp_ns: int, why: Unreadable) -> str:
    return (
        f"a message of {channel.topic} at {stamp_ns} ns cannot be read as {channel.type_name}: "
        f"{why}"
    )


def _accepted(error: Exception, what: str) -> str:
    """What would be accepted, where ``error`` does not say it itself."""
    return "" if "; accepted: " in _line(error) else f"; accepted: {what}"


def _line(error: Exception) -> str:
    """What an error says, in one bounded line."""
    return shown(error, 500).rstrip(".") or type(error).__name__
