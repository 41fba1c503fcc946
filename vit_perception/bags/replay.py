"""A bag through the pipeline: the frames that the node would publish if it were fast enough for every image."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vit_perception.bags.image_groups import ImageGroups
from vit_perception.bags.reader import BagReader, Undecodable
from vit_perception.image.decode import stamp_ns_of
from vit_perception.pipeline import Pipeline
from vit_perception.pose.body import BodyStreams
from vit_perception.pose.samples import JUMP_BACK_NS, MOST_KEPT_S
from vit_perception.settings import BadSetting
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, FrameResult

# Poses and joints recorded this long after an image can still be at or before its stamp.
LATEST_BODY_NS = NANOSECONDS_PER_SECOND // 2

WHY_NOT_GROUPED = {"unmatched": "nothing from the other cameras near it",
                   "late": "an image of the camera at or behind this stamp came before it"}


@dataclass(frozen=True, eq=False)
class _Group:
    """Images that belong together: recorded time of the message that decided it and of its own last image, its
    latest stamp, all in ns, and its messages by camera."""

    decided_ns: int
    recorded_ns: int
    latest_ns: int
    messages: dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """An image (or a group of them) of the bag that gave no frame, and why."""

    reason: str
    text: str


@dataclass(frozen=True, eq=False)
class Replayed:
    """One result of a bag: its place among all of them, from 0, and when its last image was recorded, in ns."""

    index: int
    recorded_ns: int
    result: FrameResult | Dropped


def replay(pipeline: Pipeline, bag: BagReader) -> Iterator[FrameResult | Dropped]:
    """Every group of images in ``bag``, in the order of recording, with the poses and joint states at its stamp.

    Reads topics as ``pipeline.settings`` name them, and groups and masks by its ``sync``. Memory stays bounded:
    an image waits only until the samples around its stamp have been read. Results hold until the next one is
    asked for. Raises BagError.
    """
    return (replayed.result for replayed in replay_from(pipeline, bag))


def replay_from(pipeline: Pipeline, bag: BagReader, first: int = 0) -> Iterator[Replayed]:
    """As :func:`replay`, with each result's place in it. Those before ``first`` are read but not encoded."""
    pass_over_bag = _Replay(pipeline)
    for index, (recorded_ns, item) in enumerate(pass_over_bag.groups(bag)):
        if index >= first:
            yield Replayed(index, recorded_ns, item if isinstance(item, Dropped) else pass_over_bag.encode(item))


class _Replay:
    """One pass over a bag: what waits between reading and encoding."""

    def __init__(self, pipeline: Pipeline):
        settings = pipeline.settings
        self._pipeline = pipeline
        self._cameras: dict[str, list[str]] = {}
        for camera in settings.cameras:
            self._cameras.setdefault(camera.topic, []).append(camera.name)
        for arm in settings.poses:
            if arm.source == "tf":
                raise BadSetting(f"poses.{arm.name}.source", arm.source, "topic, for a bag: the topic of its "
                                 "PoseStamped messages")
        self._body = BodyStreams(settings.poses, settings.states, keep_s=MOST_KEPT_S)
        self._groups = ImageGroups([c.name for c in settings.cameras],
                                   round(settings.sync.slop_s * NANOSECONDS_PER_SECOND),
                                   settings.sync.policy == "mask",
                                   round(settings.sync.silent_after_s * NANOSECONDS_PER_SECOND))
        self._ready: deque[_Group] = deque()

    def groups(self, bag: BagReader) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        """(recorded ns, messages by camera or what was dropped). A group is to be encoded before the next is taken."""
        newest_ns: dict[str, int] = {}
        recorded_ns = 0
        for topic, recorded_ns, message in bag.messages([*self._cameras, *self._body.topics], tell=self._cameras):
            if isinstance(message, Undecodable):
                yield recorded_ns, Dropped("undecodable", message.text)
                continue
            try:
                if topic in self._body.topics:
                    self._body.add(topic, message)
                else:
                    stamp_ns = stamp_ns_of(message.header)
                    if stamp_ns < newest_ns.get(topic, stamp_ns) - JUMP_BACK_NS:
                        yield from self._finish(recorded_ns)
                        self._body.forget_after(stamp_ns)
                        newest_ns.clear()
                    newest_ns[topic] = max(stamp_ns, newest_ns.get(topic, stamp_ns))
                    for camera in self._cameras[topic]:
                        self._take(self._groups.add(camera, stamp_ns, (recorded_ns, message)), recorded_ns)
            except BadInput as error:
                if topic in self._cameras:
                    yield recorded_ns, Dropped(error.reason, f"{topic}: {error}")
                continue
            yield from self._encodable(recorded_ns)
        yield from self._finish(recorded_ns)

    def _take(self, groups: list[dict[str, tuple[int, Any]]], recorded_ns: int) -> None:
        for group in groups:
            latest_ns = max(stamp_ns for stamp_ns, _ in group.values())
            self._ready.append(_Group(recorded_ns, max(recorded for _, (recorded, _) in group.values()), latest_ns,
                                      {name: message for name, (_, (_, message)) in group.items()}))

    def _finish(self, recorded_ns: int) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        """All that waits: the bag has ended, or time has jumped back."""
        self._take(self._groups.flush(), recorded_ns)
        while self._ready:
            group = self._ready.popleft()
            yield group.recorded_ns, group.messages
        yield from self._dropped(recorded_ns)

    def _dropped(self, recorded_ns: int) -> Iterator[tuple[int, Dropped]]:
        for camera, stamp_ns, reason in self._groups.take_dropped():
            yield recorded_ns, Dropped(reason, f"camera {camera}, {stamp_ns} ns: {WHY_NOT_GROUPED[reason]}")

    def _encodable(self, recorded_ns: int) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        yield from self._dropped(recorded_ns)
        while self._ready and (self._body.covers(self._ready[0].latest_ns)
                               or recorded_ns > self._ready[0].decided_ns + LATEST_BODY_NS):
            group = self._ready.popleft()
            yield group.recorded_ns, group.messages

    def encode(self, group: dict[str, Any]) -> FrameResult | Dropped:
        """One group through the pipeline, with poses and joint states as they are known now."""
        prepared = self._pipeline.prepare(group)
        if prepared.refused and (self._pipeline.settings.sync.policy == "wait" or not prepared.images):
            camera, error = next(iter(prepared.refused.items()))
            return Dropped(error.reason, f"camera {camera}: {error}")
        output = self._pipeline.encode(prepared)
        try:
            return self._pipeline.assemble(prepared, output, *self._body.at(prepared.first.stamp_ns))
        except BadInput as error:
            return Dropped(error.reason, str(error))
