"""What is counted of a recording: frames by shard, dropped images, omitted messages."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_perception.pipeline.pipeline import Pipeline
    from vit_perception.pipeline.prepare import Prepared


# Fields of an entry that earlier versions do not have.
LATER = ("failed", "batch")


@dataclass(frozen=True)
class Dropped:
    """An image (or a group of them) of the bag that gave no frame, and why."""

    # The short key under which it is counted.
    reason: str
    # One line for people.
    text: str


@dataclass
class SkippedMessages:
    """What was left out in addition to dropped frames.

    These are samples that cannot be used, and images whose camera is masked in a frame.
    """

    # How many messages, by topic and reason.
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    # The text of the first one, by topic and reason.
    texts: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, topic: str, reason: str, text: str, count: int = 1) -> None:
        """Count ``count`` more messages of ``topic``, of which the first has ``text``."""
        self.counts[topic, reason] = self.counts.get((topic, reason), 0) + count
        self.texts.setdefault((topic, reason), text)

    def rows(self) -> list[dict[str, Any]]:
        """A row a topic and reason, with the count and the first one's text."""
        return [
            {"topic": topic, "reason": reason, "count": count, "first": self.texts[topic, reason]}
            for (topic, reason), count in self.counts.items()
        ]

    def update(self, other: "SkippedMessages") -> None:
        """Add what was skipped later."""
        for (topic, reason), count in other.counts.items():
            self.add(topic, reason, other.texts[topic, reason], count)


def joined(lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Join rows of :meth:`SkippedMessages.rows`, with one row per topic and reason."""
    together = SkippedMessages()
    for row in chain.from_iterable(lists):
        together.add(row["topic"], row["reason"], row["first"], row["count"])
    return together.rows()


@dataclass
class Entry:
    """One line of the journal: what one shard holds, and the state to continue with."""

    # Results ``first`` to ``next`` (exclusive) of source number ``source`` are done.
    source: int
    first: int
    next: int
    # Whether no results of the source remain.
    source_done: bool = False
    # Name, digest and size of the shard; the name is empty if there were no frames.
    file: str = ""
    sha256: str = ""
    size_bytes: int = 0
    # In this shard.
    frames: int = 0
    # Count and first text of dropped frames, by reason.
    dropped: dict[str, int] = field(default_factory=dict)
    drop_texts: dict[str, str] = field(default_factory=dict)
    # Rows of topic, reason, count and first text.
    skipped: list[dict[str, Any]] = field(default_factory=list)
    # Layouts that no earlier entry has.
    layouts: list[dict] = field(default_factory=list)
    # The state to continue with.
    seen: dict[str, list] = field(default_factory=dict)
    episode: int = -1
    # Of the shard's frames.
    first_stamp_ns: int = 0
    last_stamp_ns: int = 0
    # Why the rest of the source could not be read, where a run goes on without it.
    failed: str = ""
    # How far frames that were encoded together are from single ones, at the start of the source.
    batch: dict[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """Return the entry as a line of the journal; ``failed`` and ``batch`` if there is any."""
        fields = asdict(self)
        return json.dumps({k: v for k, v in fields.items() if v or k not in LATER}) + "\n"

    def note_dropped(self, dropped: Dropped) -> None:
        """Count what gave no frame."""
        self.dropped[dropped.reason] = self.dropped.get(dropped.reason, 0) + 1
        self.drop_texts.setdefault(dropped.reason, dropped.text)

    def note_skips(self, skips: SkippedMessages) -> None:
        """Count what was left out in addition to dropped frames."""
        if skips.counts:
            self.skipped = joined([self.skipped, skips.rows()])


def refusal(
    pipeline: "Pipeline", prepared: "Prepared", name: str, skips: SkippedMessages
) -> Dropped | None:
    """Return what a group is dropped for, if its images were refused; None if others are encoded.

    Images that are masked are added to ``skips``. ``name`` is what a message calls the group.
    """
    if prepared.refused and (pipeline.settings.sync.policy == "wait" or not prepared.images):
        camera, error = next(iter(prepared.refused.items()))
        return Dropped(error.reason, f"{name}camera {camera}: {error}")
    topics = {camera.name: camera.topic for camera in pipeline.settings.cameras}
    for camera, error in prepared.refused.items():
        skips.add(topics[camera], error.reason, f"{name}camera {camera}: {error}")
    return None
