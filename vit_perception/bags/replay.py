"""A bag through the pipeline: the frames that the node would publish if it were fast enough for every image."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vit_perception.bags.reader import BagReader
from vit_perception.image.decode import stamp_ns_of
from vit_perception.pipeline import Pipeline
from vit_perception.pose.history import PoseHistory, pose_of
from vit_perception.types import NANOSECONDS_PER_SECOND, BadInput, FrameResult

# Poses recorded this long after an image can still be at or before its stamp.
LATEST_POSE_NS = NANOSECONDS_PER_SECOND // 2


@dataclass(frozen=True)
class Dropped:
    """Images of the bag that gave no frame, and why."""

    reason: str
    text: str


def replay(pipeline: Pipeline, bag: BagReader) -> Iterator[FrameResult | Dropped]:
    """Every group of images in ``bag``, in stamp order, with the poses at its stamp.

    Reads topics as ``pipeline.settings`` name them. Memory stays bounded: an image waits only until the poses
    around its stamp have been read. Results hold until the next one is asked for. Raises BagError.
    """
    settings = pipeline.settings
    cameras = {c.topic: c.name for c in settings.cameras}
    arms = {p.topic: p for p in settings.poses}
    histories = {p.name: PoseHistory() for p in settings.poses}
    images = ImageGroups(list(cameras.values()), round(settings.sync.slop_s * NANOSECONDS_PER_SECOND))
    ready: deque[tuple[int, int, dict[str, Any]]] = deque()
    for topic, recorded_ns, message in bag.messages([*cameras, *arms]):
        try:
            if topic in arms:
                histories[arms[topic].name].add(pose_of(message, arms[topic].frame_id))
            else:
                for stamp_ns, group in images.add(cameras[topic], stamp_ns_of(message.header), message):
                    ready.append((recorded_ns, stamp_ns, group))
        except BadInput as error:
            if topic in cameras:
                yield Dropped(error.reason, f"{topic}: {error}")
            continue
        while ready and (all(history.covers(ready[0][1]) for history in histories.values())
                         or recorded_ns > ready[0][0] + LATEST_POSE_NS):
            yield _encode(pipeline, histories, *ready.popleft()[1:])
    for _, stamp_ns, group in ready:
        yield _encode(pipeline, histories, stamp_ns, group)


def _encode(pipeline: Pipeline, histories: dict[str, PoseHistory], stamp_ns: int,
            group: dict[str, Any]) -> FrameResult | Dropped:
    prepared = pipeline.prepare(group)
    if prepared.refused:
        error = next(iter(prepared.refused.values()))
        return Dropped(error.reason, str(error))
    skews_ns = {p.name: round(p.max_skew_s * NANOSECONDS_PER_SECOND) for p in pipeline.settings.poses}
    output = pipeline.encode(prepared)
    poses = {name: history.lookup(prepared.first.stamp_ns, skews_ns[name]) for name, history in histories.items()}
    try:
        return pipeline.assemble(prepared, output, poses)
    except BadInput as error:
        return Dropped(error.reason, str(error))


class ImageGroups:
    """Images of several cameras, one of each, whose stamps lie within the slop; each image is used once."""

    def __init__(self, cameras: list[str], slop_ns: int):
        self._slop_ns = slop_ns
        self._waiting: dict[str, deque[tuple[int, Any]]] = {camera: deque() for camera in cameras}

    def add(self, camera: str, stamp_ns: int, message: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Take one image; give the groups (latest stamp in ns, message by camera) that it completes."""
        self._waiting[camera].append((stamp_ns, message))
        while all(self._waiting.values()):
            heads = {name: waiting[0] for name, waiting in self._waiting.items()}
            earliest = min(heads, key=lambda name: heads[name][0])
            latest_ns = max(stamp for stamp, _ in heads.values())
            if latest_ns - heads[earliest][0] > self._slop_ns:
                # Its partners are later than the slop allows, and so will be all that follow.
                self._waiting[earliest].popleft()
                continue
            for waiting in self._waiting.values():
                waiting.popleft()
            yield latest_ns, {name: message for name, (_, message) in heads.items()}
