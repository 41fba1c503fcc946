"""A bag through the pipeline: the frames that the node would publish if it were fast enough for every image."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vit_perception.bags.image_groups import ImageGroups
from vit_perception.bags.reader import BagReader
from vit_perception.image.decode import stamp_ns_of
from vit_perception.pipeline import Pipeline
from vit_perception.pose.history import JUMP_BACK_NS, PoseHistory, pose_of
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, FrameResult

# Poses recorded this long after an image can still be at or before its stamp.
LATEST_POSE_NS = NANOSECONDS_PER_SECOND // 2


@dataclass(frozen=True)
class Dropped:
    """An image (or a group of them) of the bag that gave no frame, and why."""

    reason: str
    text: str


def replay(pipeline: Pipeline, bag: BagReader) -> Iterator[FrameResult | Dropped]:
    """Every group of images in ``bag``, in the order of recording, with the poses at its stamp.

    Reads topics as ``pipeline.settings`` name them, and groups and masks by its ``sync``. Memory stays bounded:
    an image waits only until the poses around its stamp have been read. Results hold until the next one is
    asked for. Raises BagError.
    """
    return _Replay(pipeline).run(bag)


class _Replay:
    """One pass over a bag: what waits between reading and encoding."""

    def __init__(self, pipeline: Pipeline):
        settings = pipeline.settings
        self._pipeline = pipeline
        self._cameras: dict[str, list[str]] = {}
        for camera in settings.cameras:
            self._cameras.setdefault(camera.topic, []).append(camera.name)
        self._arms = {p.topic: p for p in settings.poses}
        self._histories = {p.name: PoseHistory() for p in settings.poses}
        self._skews_ns = {p.name: round(p.max_skew_s * NANOSECONDS_PER_SECOND) for p in settings.poses}
        self._groups = ImageGroups([c.name for c in settings.cameras],
                                   round(settings.sync.slop_s * NANOSECONDS_PER_SECOND),
                                   settings.sync.policy == "mask",
                                   round(settings.sync.silent_after_s * NANOSECONDS_PER_SECOND))
        self._ready: deque[tuple[int, int, dict[str, Any]]] = deque()  # recorded ns, stamp ns, message by camera

    def run(self, bag: BagReader) -> Iterator[FrameResult | Dropped]:
        newest_ns: int | None = None
        recorded_ns = 0
        for topic, recorded_ns, message in bag.messages([*self._cameras, *self._arms]):
            try:
                if topic in self._arms:
                    self._histories[self._arms[topic].name].add(pose_of(message, self._arms[topic].frame_id))
                else:
                    stamp_ns = stamp_ns_of(message.header)
                    if newest_ns is not None and stamp_ns < newest_ns - JUMP_BACK_NS:
                        yield from self._finish(recorded_ns)
                        self._forget_after(stamp_ns)
                    newest_ns = stamp_ns
                    for camera in self._cameras[topic]:
                        self._take(self._groups.add(camera, stamp_ns, message), recorded_ns)
            except BadInput as error:
                if topic in self._cameras:
                    yield Dropped(error.reason, f"{topic}: {error}")
                continue
            yield from self._encode_ready(recorded_ns)
        yield from self._finish(recorded_ns)

    def _take(self, groups: list[dict[str, tuple[int, Any]]], recorded_ns: int) -> None:
        for group in groups:
            latest_ns = max(stamp_ns for stamp_ns, _ in group.values())
            self._ready.append((recorded_ns, latest_ns, {name: message for name, (_, message) in group.items()}))

    def _finish(self, recorded_ns: int) -> Iterator[FrameResult | Dropped]:
        """Encode all that waits: the bag has ended, or time has jumped back."""
        self._take(self._groups.flush(), recorded_ns)
        while self._ready:
            yield self._encode(self._ready.popleft()[2])
        yield from self._unmatched()

    def _unmatched(self) -> Iterator[Dropped]:
        for camera, stamp_ns in self._groups.take_unmatched():
            yield Dropped("unmatched", f"camera {camera}: nothing from the other cameras near {stamp_ns} ns")

    def _encode_ready(self, recorded_ns: int) -> Iterator[FrameResult | Dropped]:
        yield from self._unmatched()
        while self._ready and (all(h.covers(self._ready[0][1]) for h in self._histories.values())
                               or recorded_ns > self._ready[0][0] + LATEST_POSE_NS):
            yield self._encode(self._ready.popleft()[2])

    def _forget_after(self, stamp_ns: int) -> None:
        for history in self._histories.values():
            if history.covers(stamp_ns + JUMP_BACK_NS):
                history.clear()

    def _encode(self, group: dict[str, Any]) -> FrameResult | Dropped:
        prepared = self._pipeline.prepare(group)
        if prepared.refused and (self._pipeline.settings.sync.policy == "wait" or not prepared.images):
            camera, error = next(iter(prepared.refused.items()))
            return Dropped(error.reason, f"camera {camera}: {error}")
        output = self._pipeline.encode(prepared)
        stamp_ns = prepared.first.stamp_ns
        poses = {name: history.lookup(stamp_ns, self._skews_ns[name]) for name, history in self._histories.items()}
        try:
            return self._pipeline.assemble(prepared, output, poses)
        except BadInput as error:
            return Dropped(error.reason, str(error))
