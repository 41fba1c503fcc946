"""Run `embed` on a Ray cluster, with one bar over all sources; or print the plan of a run."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vit_perception.cli.fleet.options import FleetToRead
from vit_perception.cli.fleet.plan_text import plan_lines
from vit_perception.datasets.embed_options import EmbedOptions
from vit_perception.datasets.fleet.plan import Job, Surveyed, survey
from vit_perception.datasets.fleet.progress import Progress
from vit_perception.files.errors import OperationFailed, printable
from vit_perception.files.heartbeat import Heartbeat
from vit_perception.files.log import PrintedLog

if TYPE_CHECKING:
    from vit_perception.datasets.fleet.cluster import Crew


def embed_on_ray(
    args: Namespace, out: Path, read: FleetToRead, options: EmbedOptions
) -> dict[str, Any]:
    """Embed all sources on the cluster, and return the manifest.

    Raises:
        UserError: As ``Driver.run``.
    """
    from vit_perception.datasets.fleet.cluster import OutputClaim
    from vit_perception.datasets.fleet.driver import Driver

    with (
        _connected(args, out) as (crew, workers),
        # Ray ends the actor with the last reference to it.
        OutputClaim.take(crew.ray, out),
        ShownProgress() as shown,
    ):
        sources = survey(read.sources, read.names)
        shown.info(f"{len(sources)} sources; room for {workers} workers")
        return Driver(
            crew=crew,
            job=_job(args, out, read, options, sources),
            sources=sources,
            listener=shown,
            strict=args.strict,
        ).run()


def print_plan(args: Namespace, out: Path, read: FleetToRead, options: EmbedOptions) -> int:
    """Print what a run would read and write, and how long it would take. Nothing is written."""
    from vit_perception.datasets.fleet.trial import FRAMES, trial
    from vit_perception.pipeline.frames_together import opened_pipeline

    sources = survey(read.sources, read.names)
    number = next((source.number for source in sources if source.frames), None)
    if number is None:
        raise OperationFailed(sources[0].why_not or "no source has an image to encode")
    workers = 1
    if args.ray:
        with _connected(args, out) as (crew, workers):
            found = crew.trial(_job(args, out, read, options, sources), number, FRAMES)
    else:
        with Heartbeat(PrintedLog()) as log:
            pipeline = opened_pipeline(read.chosen.settings, options.batch, log)
        try:
            found = trial(pipeline, read.sources[number], options)
        finally:
            pipeline.close()
    for line in plan_lines(sources, found, workers, options):
        print(printable(line))
    return 0


class _connected:
    """The cluster that the options choose, and how many workers it has room for."""

    def __init__(self, args: Namespace, out: Path):
        self._args = args
        self._out = out

    def __enter__(self) -> tuple["Crew", int]:
        from vit_perception.datasets.fleet.cluster import Crew, Share, connect

        args = self._args
        self._ray = connect(args.ray)
        crew = Crew(
            ray=self._ray,
            share=Share(args.ray_cpus, args.ray_gpus),
            title=f"embed {self._out.name}",
            most=args.ray_workers,
        )
        return crew, min(filter(None, (crew.room(), args.ray_workers)), default=0)

    def __exit__(self, *unused: object) -> None:
        self._ray.shutdown()


def _job(
    args: Namespace,
    out: Path,
    read: FleetToRead,
    options: EmbedOptions,
    sources: list[Surveyed],
) -> Job:
    return Job(
        settings=read.chosen.settings,
        options=options,
        sources=tuple(read.sources),
        identities=tuple(source.identity for source in sources),
        out=out.absolute(),
        threads=args.ray_cpus,
    )


class ShownProgress:
    """One bar over all sources, with the rate, the time left, workers and failures."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("frames", total=None, rate="", more="waiting for workers")

    def __enter__(self) -> "ShownProgress":
        self._bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bar.stop()

    def progress(self, progress: Progress) -> None:
        failed = f", {len(progress.failed)} failed" if progress.failed else ""
        speed = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            completed=progress.results,
            total=progress.total,
            rate=f"{speed:.1f}/s" if speed else "",
            more=f"{progress.sources_done}/{progress.sources} sources, {progress.busy} of "
            f"{progress.workers} workers busy{failed}",
        )

    def info(self, text: str) -> None:
        self._bar.console.print(printable(text), markup=False, highlight=False)

    def warning(self, text: str) -> None:
        self.info(f"WARNING: {text}")


def failed_lines(manifest: dict[str, Any]) -> list[str]:
    """Return one line per source that failed."""
    sources = manifest["run"]["sources"]
    return [
        printable(f"failed: {sources[row['source']]['name']}: {row['why']}")
        for row in manifest.get("failed", [])
    ]
