"""`embed` in this process, with a progress bar."""

from pathlib import Path

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
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import Source
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog
from vit_perception.files.storage.folder import StorageFolder
from vit_perception.pipeline.pipeline import Pipeline


class RateColumn(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def with_pipeline(
    settings: EncoderSettings,
    sources: list[Source],
    out: Path | StorageFolder,
    options: EmbedOptions,
) -> dict:
    """Open the engine, and embed in this process."""
    with Heartbeat(PrintedLog()) as log:
        pipeline = Pipeline.open(settings, log)
    try:
        return with_progress(pipeline=pipeline, sources=sources, out=out, options=options)
    finally:
        pipeline.close()


def with_progress(
    pipeline: Pipeline, sources: list[Source], out: Path | StorageFolder, options: EmbedOptions
) -> dict:
    """Run :func:`embed` with a progress bar of rate and remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=10) as progress:
        bar = progress.add_task("frames", total=sum(source.total() for source in sources))
        return embed(
            pipeline, sources, out, options, lambda results: progress.advance(bar, results)
        )
