"""The results of a recording, and how those of one window are encoded together.

Window number k holds the results k * N to (k + 1) * N - 1 of the recording, where N is the number
of frames together. A frame's place in its run follows from its number alone, also in a run that
continues after an interruption.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from vit_perception.datasets.accounts import Dropped, SkippedMessages
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.prepare import Prepared
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.records import BadInput, EncoderOutput, FrameResult


@dataclass(frozen=True, eq=False)
class Replayed:
    """One result of a bag."""

    # Among all results, from 0.
    index: int
    # When its last image was recorded.
    recorded_ns: int
    # None if there are only ``skips``, after the last result.
    result: FrameResult | Dropped | None
    # Messages skipped since the earlier result.
    skips: SkippedMessages = field(default_factory=SkippedMessages)
    # The numbers of its columns, by name.
    columns: Mapping[str, Any] = field(default_factory=dict)


class PassOverBag(Protocol):
    """One pass over a bag, which knows the samples around the group that it gave last."""

    def groups(self, bag: BagReader) -> Iterator[tuple[int, dict[str, Any] | Dropped]]:
        """Yield recorded ns, and images by camera or what was dropped."""

    def take_skips(self) -> SkippedMessages:
        """Return what was skipped since the earlier call."""

    def prepare(self, group: dict[str, Any], skips: SkippedMessages) -> Prepared | Dropped:
        """Decode and resize the images of one group."""

    def samples_at(self, stamp_ns: int) -> Mapping[str, Any]:
        """Return the samples at an image."""

    def columns_at(self, stamp_ns: int, skips: SkippedMessages) -> Mapping[str, Any]:
        """Return the numbers of the columns at an image."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A result whose window is not full yet."""

    replayed: Replayed
    # Of a group that is encoded.
    prepared: Prepared | None = None
    samples: Mapping[str, Any] = field(default_factory=dict)


def in_windows(
    pipeline: Pipeline, pass_over_bag: PassOverBag, bag: BagReader, begin: int
) -> Iterator[Replayed]:
    """Yield the results from the window of number ``begin`` on, each window encoded in one run.

    A result is valid until the one after its window is asked for.
    """
    size = pipeline.together.frames
    begin -= begin % size
    window: list[_Waiting] = []
    index = -1
    recorded_ns = 0
    for index, (recorded_ns, item) in enumerate(pass_over_bag.groups(bag)):
        skips = pass_over_bag.take_skips()
        if index < begin:
            continue
        window.append(
            _waiting(pipeline, pass_over_bag, item, Replayed(index, recorded_ns, None, skips))
        )
        if (index + 1) % size == 0:
            yield from _finished(pipeline, window)
            window = []
    yield from _finished(pipeline, window)
    if (skips := pass_over_bag.take_skips()).counts:
        yield Replayed(index=index + 1, recorded_ns=recorded_ns, result=None, skips=skips)


def _waiting(
    pipeline: Pipeline,
    pass_over_bag: PassOverBag,
    item: dict[str, Any] | Dropped,
    replayed: Replayed,
) -> _Waiting:
    """Take what is known of a group now: the samples around it are forgotten later."""
    if not isinstance(item, Dropped):
        item = pass_over_bag.prepare(item, replayed.skips)
    if isinstance(item, Dropped):
        return _Waiting(replace(replayed, result=item))
    pipeline.together.put(replayed.index % pipeline.together.frames, item)
    stamp_ns = item.first.stamp_ns
    return _Waiting(
        replayed=replace(replayed, columns=pass_over_bag.columns_at(stamp_ns, replayed.skips)),
        prepared=item,
        samples=pass_over_bag.samples_at(stamp_ns),
    )


def _finished(pipeline: Pipeline, window: list[_Waiting]) -> Iterator[Replayed]:
    if not window:
        return
    size = pipeline.together.frames
    outputs = pipeline.together.run(measured=window[0].replayed.index < size)
    for each in window:
        replayed = each.replayed
        if each.prepared is None:
            yield replayed
            continue
        output = outputs[replayed.index % size]
        result = assembled(pipeline, each.prepared, output, each.samples, replayed.skips)
        columns = replayed.columns if isinstance(result, FrameResult) else {}
        yield replace(replayed, result=result, columns=columns)


def assembled(
    pipeline: Pipeline,
    prepared: Prepared,
    output: EncoderOutput,
    samples: Mapping[str, Any],
    skips: SkippedMessages,
) -> FrameResult | Dropped:
    """Make the result of one group; what is masked in it is added to ``skips``."""
    try:
        result = pipeline.assemble(prepared, output, samples)
    except BadInput as error:
        return Dropped(error.reason, str(error))
    for masked in result.sequence.groups:
        if masked.why:
            skips.add(masked.name, masked.why.reason, f"{masked.name}: {masked.why}")
    return result
