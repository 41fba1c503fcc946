"""What is counted of a recording beside its frames: dropped images, omitted messages."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_perception.pipeline.pipeline import Pipeline
    from vit_perception.pipeline.prepare import Prepared


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
