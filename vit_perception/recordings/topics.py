"""The topics of a bag, collected over all its files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vit_perception.files.errors import nearest
from vit_perception.recordings.kind import BagError
from vit_perception.recordings.storage import (
    MOST_TOPICS,
    Channel,
    LeftOut,
    Summary,
    Unreadable,
    by_topic,
    shown,
    some_of,
)

_MOST_LISTED = 3  # topics that are left out, in an error


class RecordedTopic(NamedTuple):
    """One topic of a bag."""

    name: str
    type_name: str  # of its messages; if there are several, the type of most of them
    count: int  # number of messages of this type


@dataclass
class _OneType:
    """All messages of one topic that have the same type."""

    channel: Channel  # of the first file that has it
    count: int = 0


class BagTopics:
    """The topics of the bag at ``path``. Files are added with :meth:`add`, then :meth:`finish`."""

    def __init__(self, path: Path):
        self._path = path
        self._types: dict[str, dict[str, _OneType]] = {}  # by topic, then by type
        self.left_out: list[LeftOut] = []
        # Of the first message, and 1 ns after the last one; both 0 if there is none.
        self.start_ns = 0
        self.end_ns = 0
        # Whether every file says how many messages it has.
        self.counted = True

    def add(self, summary: Summary) -> None:
        """Add what one file holds.

        Raises:
            Unreadable: there are too many topics.
        """
        self.counted &= summary.counted
        for channel in summary.channels:
            types = self._types.setdefault(channel.topic, {})
            one = types.setdefault(channel.type_name, _OneType(channel))
            one.count += summary.counts.get(channel.id, 0)
        for entry in summary.left_out:
            count = entry.count or summary.counts.get(entry.channel, 0)
            self.left_out.append(replace(entry, channel=None, count=count))
        if len(self._types) + len(self.left_out) > MOST_TOPICS:
            raise Unreadable(f"it has more than {MOST_TOPICS} topics")
        if summary.stop_ns:
            start_ns = summary.start_ns
            self.start_ns = min(self.start_ns, start_ns) if self.end_ns else start_ns
            self.end_ns = max(self.end_ns, summary.stop_ns)

    def finish(self) -> None:
        """Leave out the rarer types of topics that have several."""
        for topic, types in self._types.items():
            for kind in types.keys() - {self.row(topic).type_name}:
                why = f"it is recorded as {kind} also"
                self.left_out.append(LeftOut(topic, why, count=types[kind].count))
        self.left_out = by_topic(self.left_out)

    def rows(self) -> dict[str, RecordedTopic]:
        """Return every topic by its name."""
        return {topic: self.row(topic) for topic in self._types}

    def row(self, topic: str) -> RecordedTopic:
        """Return one topic. Raises BagError as :meth:`types_of`."""
        types = self._of(topic)
        kind = max(types, key=lambda name: types[name].count)
        return RecordedTopic(topic, kind, types[kind].count)

    def types_of(self, topic: str) -> list[str]:
        """Return all types that messages of ``topic`` have; nearly always one.

        Raises:
            BagError: there is no such topic; the message names those that there are.
        """
        return list(self._of(topic))

    def channel_of(self, topic: str) -> Channel:
        """Return the first channel of ``topic`` with its type. Raises BagError as above."""
        return self._of(topic)[self.row(topic).type_name].channel

    def count(self, topic: str, type_name: str) -> int:
        """Return the number of messages of ``topic`` with this type."""
        return self._of(topic)[type_name].count

    def listed(self) -> str:
        """Return the topics, and those that are left out with the reason, for an error."""
        left_out = "; ".join(
            f"{entry.topic} is left out: {entry.why}" for entry in self.left_out[:_MOST_LISTED]
        )
        names = some_of(sorted(self._types)) or "none"
        return f"there are: {names}{'; ' if left_out else ''}{left_out}"

    def _of(self, topic: str) -> Mapping[str, _OneType]:
        if topic not in self._types:
            reasons = [e.why for e in self.left_out if e.topic == shown(topic)]
            why = f" that is read ({reasons[0]})" if reasons else ""
            raise BagError(
                f"{self._path} has no topic {shown(topic)}{why}; {self.listed()}",
                hint="" if why else nearest(topic, sorted(self._types)),
            )
        return self._types[topic]
