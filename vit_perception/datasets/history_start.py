"""Where a resumed run begins to encode, so that its first frame has the history that it had."""

from collections.abc import Iterable
from typing import Any

from vit_perception.datasets.accounts import Dropped
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import NANOSECONDS_PER_SECOND
from vit_perception.wire.stamps import stamp_ns_of


def encoded_from(
    pipeline: Pipeline, groups: Iterable[tuple[int, "dict[str, Any] | Dropped"]], first: int
) -> int:
    """Return the first of ``groups`` that has to be encoded for the history of number ``first``.

    ``groups`` are those of a whole recording, read anew; they are read up to ``first``.
    """
    rule = pipeline.settings.history.rule
    if rule is None:
        return first
    # None of what is dropped, else the latest stamp of the group.
    stamps_ns: list[int | None] = []
    for _, item in groups:
        dropped = isinstance(item, Dropped)
        stamps_ns.append(None if dropped else max(stamp_ns_of(m.header) for m in item.values()))
        if len(stamps_ns) > first and not dropped:
            break
    later_ns = (stamps_ns[-1] if stamps_ns else None) or 0
    # A frame has the stamp of its first camera: the latest stamp may be a slop later.
    slop_ns = 2 * round(pipeline.settings.sync.slop_s * NANOSECONDS_PER_SECOND)
    oldest_ns = later_ns - rule.span_ns - slop_ns
    for index in range(min(first, len(stamps_ns)) - 1, -1, -1):
        stamp_ns = stamps_ns[index]
        if stamp_ns is None:
            continue
        # It is older than the history, or before a step back in time, which ends the history.
        if stamp_ns < oldest_ns or stamp_ns > later_ns + slop_ns:
            return index + 1
        later_ns = stamp_ns
    return 0
