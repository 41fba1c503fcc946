"""The plan of a run as text."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.filesize import decimal

from vit_perception.datasets.embed_options import EmbedOptions
from vit_perception.datasets.fleet.plan import Surveyed
from vit_perception.datasets.fleet.trial import Trial
from vit_perception.files.errors import OperationFailed

MOST_LISTED = 20


def plan_lines(
    sources: Sequence[Surveyed], found: Trial | str, workers: int, options: EmbedOptions
) -> Iterator[str]:
    """Yield the lines of the plan.

    Raises:
        OperationFailed: The trial gave no frame.
    """
    if isinstance(found, str):
        raise OperationFailed(f"the trial failed: {found}")
    frames = sum(source.frames for source in sources)
    for source in sources[:MOST_LISTED]:
        yield f"{source.frames:>9} frames  {source.name}" + (
            f"  will be left out: {source.why_not}" if source.why_not else ""
        )
    if len(sources) > MOST_LISTED:
        left = sources[MOST_LISTED:]
        yield f"{sum(s.frames for s in left):>9} frames  {len(left)} further sources"
    failing = sum(1 for source in sources if source.why_not)
    yield f"{frames:>9} frames  {len(sources)} sources" + (
        f", of which {failing} cannot be read" if failing else ""
    )
    if not found.frames_per_s:
        raise OperationFailed(f"the trial gave {found.frames} frames; accepted: at least 2")
    frame_bytes = found.size_bytes / found.frames
    all_bytes = decimal(round(frames * frame_bytes))
    yield f"bytes to write: {all_bytes}, {decimal(round(frame_bytes))} a frame"
    yield (
        f"memory of a worker: {decimal(found.resident_bytes)} in the trial, and up to 3 shards of "
        f"{decimal(options.shard_bytes)}"
    )
    rate = found.frames_per_s
    yield (
        f"time: {timedelta(seconds=round(frames / rate / max(1, workers)))} on {workers} "
        f"worker{'s' * (workers != 1)}, at {rate:.1f} frames/s each, as {found.frames} frames took "
        "in a trial"
    )
    if workers > len(sources):
        yield f"only {len(sources)} workers will have work: a source is read by one worker"
