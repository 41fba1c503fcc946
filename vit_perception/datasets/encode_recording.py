"""A bag through the pipeline: the frames of a node that keeps up with every image."""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vit_perception.config.settings import BadSetting
from vit_perception.datasets.accounts import Dropped, SkippedMessages, refusal
from vit_perception.datasets.batches.windows import Replayed, assembled, in_windows
from vit_perception.datasets.history_start import encoded_from
from vit_perception.datasets.recorded_columns import ColumnStreams, RecordedColumn
from vit_perception.image.camera_info import INFO_TYPE
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.prepare import Prepared
from vit_perception.recordings.reader import BagReader, StoredBytes, Undecodable
from vit_perception.streams.calibrations import Calibrations
from vit_perception.streams.depths import Depths
from vit_perception.streams.recorded_groups import ImageGroups
from vit_perception.streams.sample_history import JUMP_BACK_NS, MOST_KEPT_S
from vit_perception.streams.source_streams import SourceStreams
from vit_perception.tokens.camera import TYPES
from vit_perception.tokens.source import calibrated, listening, sampled
from vit_perception.wire.records import NANOSECONDS_PER_SECOND, BadInput, FrameResult
from vit_perception.wire.stamps import stamp_ns_of

# Poses and joints recorded this long after an image can still be at or before its stamp.
LATEST_SAMPLE_NS = NANOSECONDS_PER_SECOND // 2
# Times of recording may hardly advance: the size and the number of the groups that may wait for
# samples.
MOST_READY_BYTES = 192 << 20
MOST_READY = 1000

WHY_NOT_GROUPED = {
    "unmatched": "nothing from the other cameras near it",
    "late": "an image of the camera with this stamp or a later one came first",
    "crowded": "too many images waited for those of the other cameras",
}


@dataclass(frozen=True, eq=False)
class _Group:
    """Images that belong together."""

    # The recorded time of the message that completed it, and of its own last image.
    decided_ns: int
    recorded_ns: int
    # The latest stamp of its images.
    latest_ns: int
    # By camera.
    messages: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """The size of its images."""
        return sum(len(message.data) for message in self.messages.values())


def replay(pipeline: Pipeline, bag: BagReader) -> Iterator[FrameResult | Dropped]:
    """Encode every group of images in ``bag``, in the order of recording.

    Poses and other samples are those at its stamp. Topics, grouping and masks are those of
    ``pipeline.settings``. Memory is bounded: an image waits only until the samples around its stamp
    have been read. A result is valid until the next one is asked for. Skipped messages are logged
    once per topic and reason.

    Raises:
        BagError: The bag cannot be read.
    """
    told: set[tuple[str, str]] = set()
    for replayed in replay_from(pipeline, bag):
        for (topic, reason), text in replayed.skips.texts.items():
            if (topic, reason) not in told:
                told.add((topic, reason))
                logging.getLogger(__name__).warning(
                    "%s: %s; it is left out, as are others of the topic", bag.path, text
                )
        if replayed.result is not None:
            yield replayed.result


def replay_from(
    pipeline: Pipeline,
    bag: BagReader,
    first: int = 0,
    columns: Sequence[RecordedColumn] = (),
) -> Iterator[Replayed]:
    """Replay as :func:`replay`, with the place of each result, and with ``columns``.

    Results before ``first`` are read and not encoded, but for those in its history.
    """
    pipeline.history.clear()
    begin = first
    if first and pipeline.settings.history.rule:
        with BagReader(bag.path) as again:
            # The same columns: they decide when a group is complete.
            begin = encoded_from(pipeline, _Replay(pipeline, columns).groups(again), first)
    pass_over_bag = _Replay(pipeline, columns)
    if pipeline.together is not None:
        encoded = in_windows(pipeline, pass_over_bag, bag, begin)
    else:
        encoded = _one_by_one(pass_over_bag, bag, begin, first)
    complaint = ""
    for replayed in encoded:
        if pipeline.history.complaint and not complaint:
            complaint = pipeline.history.complaint
            logging.getLogger(__name__).warning("%s: %s", bag.path, complaint)
        if replayed.index >= first or replayed.result is None:
            yield replayed


def _one_by_one(
    pass_over_bag: "_Replay", bag: BagReader, begin: int, first: int
) -> Iterator[Replayed]:
    """Encode each group before the next one is read; of those before ``first`` no columns."""
    index = 0
    recorded_ns = 0
    for index, (recorded_ns, item) in enumerate(pass_over_bag.groups(bag), 1):
        skips = pass_over_bag.take_skips()
        if index <= begin:
            continue
        result = item if isinstance(item, Dropped) else pass_over_bag.encode(item, skips)
        values: Mapping[str, Any] = {}
        if isinstance(result, FrameResult) and index > first:
            values = pass_over_bag.columns_at(result.stamp_ns, skips)
        yield Replayed(
            index=index - 1, recorded_ns=recorded_ns, result=result, skips=skips, columns=values
        )
    if (skips := pass_over_bag.take_skips()).counts:
        yield Replayed(index=index, recorded_ns=recorded_ns, result=None, skips=skips)


class _Replay:
    """One pass over a bag: what waits between reading and encoding."""

    def __init__(self, pipeline: Pipeline, columns: Sequence[RecordedColumn] = ()):
        settings = pipeline.settings
        self._columns = ColumnStreams(columns)
        self._pipeline = pipeline
        self._cameras: dict[str, list[str]] = {}
        self._types: dict[str, str] = {}
        for camera in settings.cameras:
            self._cameras.setdefault(camera.topic, []).append(camera.name)
        for source in listening(pipeline.sources):
            if source.topic is None:
                raise BadSetting(
                    f"{source.group}.{source.name}.source",
                    "tf",
                    "topic, for a bag: the topic of its PoseStamped messages",
                )
            self._types[source.topic] = source.message_type
        self._samples = SourceStreams(sampled(pipeline.sources), keep_s=MOST_KEPT_S)
        self._calibrations = Calibrations(settings.cameras, calibrated(pipeline.sources))
        self._types |= dict.fromkeys(self._calibrations.by_topic, INFO_TYPE)
        self._depths = Depths(settings.cameras, keep_s=MOST_KEPT_S)
        self._types |= dict.fromkeys(self._depths.by_topic, TYPES["raw"])
        self._groups = ImageGroups(
            cameras=[c.name for c in settings.cameras],
            slop_ns=round(settings.sync.slop_s * NANOSECONDS_PER_SECOND),
            mask=settings.sync.policy == "mask",
            silent_after_ns=round(settings.sync.silent_after_s * NANOSECONDS_PER_SECOND),
            size_of=lambda recorded: len(recorded[1].data),
        )
        self._ready: deque[_Group] = deque()
        self._ready_bytes = 0
        self._skips = SkippedMessages()

    def columns_at(self, stamp_ns: int, skips: SkippedMessages) -> Mapping[str, Any]:
        """Return the numbers of the columns at an image; those without any are in ``skips``."""
        return self._columns.at(stamp_ns, lambda topic, text: skips.add(topic, "no_value", text))

    def take_skips(self) -> SkippedMessages:
        """Return what was skipped since the earlier call."""
        skips = self._skips
        self._skips = SkippedMessages()
        return skips

    def groups(self, bag: BagReader) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        """Yield (recorded ns, messages by camera or what was dropped).

        A group must be encoded before the next one is taken.
        """
        newest_ns: dict[str, int] = {}
        recorded_ns = 0
        for entry in bag.left_out:
            self._skips.add(
                entry.topic, "foreign", f"{entry.topic}: {entry.why}", max(1, entry.count)
            )
        for topic, recorded_ns, message in bag.messages(
            self._types, tell={**self._types, **self._columns.types}, stored=self._columns.types
        ):
            if isinstance(message, Undecodable):
                if topic in self._cameras:
                    yield recorded_ns, Dropped("undecodable", message.text)
                else:
                    self._skips.add(topic, "undecodable", message.text)
                continue
            try:
                if isinstance(message, StoredBytes):
                    self._columns.add(topic, recorded_ns, message)
                elif topic in self._samples.by_topic:
                    self._samples.add(topic, message)
                elif topic in self._calibrations.by_topic:
                    self._calibrations.add(self._calibrations.by_topic[topic], message)
                elif topic in self._depths.by_topic:
                    self._depths.add(self._depths.by_topic[topic], message)
                else:
                    stamp_ns = stamp_ns_of(message.header)
                    if stamp_ns < newest_ns.get(topic, stamp_ns) - JUMP_BACK_NS:
                        yield from self._finish(recorded_ns)
                        self._samples.forget_after(stamp_ns)
                        self._calibrations.forget_after(stamp_ns)
                        self._depths.forget_after(stamp_ns)
                        self._columns.forget_after(stamp_ns, JUMP_BACK_NS)
                        newest_ns.clear()
                    newest_ns[topic] = max(stamp_ns, newest_ns.get(topic, stamp_ns))
                    for camera in self._cameras[topic]:
                        self._take(
                            self._groups.add(camera, stamp_ns, (recorded_ns, message)), recorded_ns
                        )
            except BadInput as error:
                if topic in self._cameras and not isinstance(message, StoredBytes):
                    yield recorded_ns, Dropped(error.reason, f"{topic}: {error}")
                else:
                    self._skips.add(
                        topic, error.reason, f"{topic} recorded at {recorded_ns} ns: {error}"
                    )
                continue
            yield from self._encodable(recorded_ns)
        for topic, (declared, present) in bag.shortfall.items():
            self._skips.add(topic, "missing", bag.shortfall_text(topic), abs(declared - present))
        yield from self._finish(recorded_ns)

    def _take(self, groups: list[dict[str, tuple[int, Any]]], recorded_ns: int) -> None:
        for group in groups:
            latest_ns = max(stamp_ns for stamp_ns, _ in group.values())
            self._ready.append(
                _Group(
                    decided_ns=recorded_ns,
                    recorded_ns=max(recorded for _, (recorded, _) in group.values()),
                    latest_ns=latest_ns,
                    messages={name: message for name, (_, (_, message)) in group.items()},
                )
            )
            self._ready_bytes += self._ready[-1].size_bytes

    def _next(self) -> tuple[int, dict[str, Any]]:
        group = self._ready.popleft()
        self._ready_bytes -= group.size_bytes
        return group.recorded_ns, group.messages

    def _finish(self, recorded_ns: int) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        """Yield everything that waits: the bag has ended, or time has jumped back."""
        self._take(self._groups.flush(), recorded_ns)
        while self._ready:
            yield self._next()
        yield from self._dropped(recorded_ns)

    def _dropped(self, recorded_ns: int) -> Iterator[tuple[int, Dropped]]:
        for camera, stamp_ns, reason in self._groups.take_dropped():
            yield (
                recorded_ns,
                Dropped(reason, f"camera {camera}, {stamp_ns} ns: {WHY_NOT_GROUPED[reason]}"),
            )

    def _encodable(self, recorded_ns: int) -> Iterator[tuple[int, "dict[str, Any] | Dropped"]]:
        yield from self._dropped(recorded_ns)
        while self._ready and (
            self._covers(self._ready[0].latest_ns)
            or recorded_ns > self._ready[0].decided_ns + LATEST_SAMPLE_NS
            or self._ready_bytes > MOST_READY_BYTES
            or len(self._ready) > MOST_READY
        ):
            yield self._next()

    def _covers(self, stamp_ns: int) -> bool:
        streams = (self._samples, self._columns, self._calibrations, self._depths)
        return all(each.covers(stamp_ns) for each in streams)

    def prepare(self, group: dict[str, Any], skips: SkippedMessages) -> Prepared | Dropped:
        """Decode and resize the images of one group."""
        stamps_ns = {name: stamp_ns_of(message.header) for name, message in group.items()}
        calibrations = self._calibrations.at(stamps_ns)
        depths = self._depths.at(stamps_ns)
        prepared = self._pipeline.prepare(group, calibrations=calibrations, depths=depths)
        dropped = refusal(pipeline=self._pipeline, prepared=prepared, name="", skips=skips)
        return dropped or prepared

    def samples_at(self, stamp_ns: int) -> Mapping[str, Any]:
        """Return the samples of each source at an image, of those that are known now."""
        return self._samples.at(stamp_ns)

    def encode(self, group: dict[str, Any], skips: SkippedMessages) -> FrameResult | Dropped:
        """Encode one group with the samples that are known now."""
        prepared = self.prepare(group, skips)
        if isinstance(prepared, Dropped):
            return prepared
        output = self._pipeline.encode(prepared)
        samples = self.samples_at(prepared.first.stamp_ns)
        return assembled(self._pipeline, prepared, output, samples, skips)
