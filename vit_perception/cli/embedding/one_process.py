"""`embed` in this process, with a progress bar."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vit_perception.config.settings import EncoderSettings
from vit_perception.datasets.embed_sources import Source
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog
from vit_perception.pipeline.frames_together import opened_pipeline
from vit_perception.pipeline.pipeline import Pipeline

Advance = Callable[[int], None]


class RateColumn(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def with_pipeline(
    settings: EncoderSettings,
    sources: Sequence[Source],
    batch: int,
    work: Callable[[Pipeline, Advance], dict[str, Any]],
) -> dict[str, Any]:
    """Open the engine, do ``work`` with it and a progress bar over ``sources``; return its result.

    ``batch`` frames are encoded in one run.
    ``work`` calls its second argument with the number of further results that are done.
    """
    with Heartbeat(PrintedLog()) as log:
        pipeline = opened_pipeline(settings, batch, log)
    try:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, speed_estimate_period=10) as progress:
            bar = progress.add_task("frames", total=sum(source.total() for source in sources))
            return work(pipeline, lambda results: progress.advance(bar, results))
    finally:
        pipeline.close()
