"""1,000 recordings on 64 workers whose engine sleeps: does the driver or the commit hold them up?

python -m benchmarks.fleet_plan_bench --out benchmarks/results/fleet_plan.json

Scheduling, journals, commits and manifest are the real ones; a shard's file has 1 kB. Afterwards
the commit step runs alone, as fast as it can. No model is loaded, so that 64 processes fit a small
machine.
"""

import json
import os
import platform
import shlex
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vit_perception.datasets.accounts import Entry
from vit_perception.datasets.embed_journal import Journal
from vit_perception.datasets.fleet.actors import EmbedWorker, Opened
from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.plan import Begin, Job, Surveyed
from vit_perception.datasets.fleet.tasks import Outcome, Task, run_task
from vit_perception.datasets.fleet.trial import Trial
from vit_perception.files.atomic import file_sha256, write_whole

LAYOUT = {"layout_id": "0" * 16, "min_cosine": 1.0}
SEEN: dict[str, list] = {"camera": [240, 320, "camera"]}


@dataclass(frozen=True)
class SleepingSource:
    """A source of which only the number is real."""

    number: int

    def identity(self) -> dict[str, Any]:
        return {"kind": "sleeping", "name": f"bag_{self.number:04d}"}


class SleepingWorker(EmbedWorker):
    """Sleeps instead of encoding, and writes small shards through the real journal."""

    def open(self, job: Job) -> Opened:
        self._job = job
        return Opened(job.options.run, 1.0, "a sleeping engine", None, "sleep")

    def trial(self, number: int, frames: int) -> Trial:
        return Trial(1, 0.0, 0, 0, Before(seen=SEEN, layouts=(LAYOUT,)))

    def embed(self, task: Task) -> Outcome:
        return run_task(self._job, self._begin, task, lambda *made: self._make(task, *made))

    def _make(self, task: Task, journal: Journal, before: Before) -> None:
        sleeping = self._job.options
        for shard in range(sleeping.shards):
            # Sources are not equally long.
            time.sleep(sleeping.seconds / sleeping.shards * (0.5 + task.number % 11 / 10))
            entry = Entry(task.number, shard * 40, (shard + 1) * 40, frames=40)
            entry.file = f"features_{shard:06d}.parquet"
            path = journal.out / entry.file
            write_whole(path, lambda file: file.write_bytes(os.urandom(1024)))
            entry.sha256 = file_sha256(path)
            entry.size_bytes = 1024
            entry.source_done = shard + 1 == sleeping.shards
            entry.episode = before.episode + 1
            entry.seen = SEEN
            entry.layouts = [] if before.layouts or shard else [LAYOUT]
            journal.append(entry)
            self._advance(40)
        journal.finish()


class Quiet:
    """Counts what a run says."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.most_busy = 0

    def progress(self, progress: Any) -> None:
        self.most_busy = max(self.most_busy, progress.busy)

    def info(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--sources", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--shards", type=int, default=5, help="of a source (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="mean of a source (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def main() -> None:
    import ray

    from vit_perception.datasets.fleet.cluster import Crew, Share

    args = parse()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.getcwd(), os.getenv("PYTHONPATH"))))
    run = {"sources": [], "file_format": "parquet"}
    options = SimpleNamespace(
        run=run, file_format="parquet", batch=1, shards=args.shards, seconds=args.seconds
    )
    found = [
        Surveyed(n, f"bag_{n:04d}", SleepingSource(n).identity(), 40 * args.shards)
        for n in range(args.sources)
    ]
    total_s = sum(args.seconds * (0.5 + n % 11 / 10) for n in range(args.sources))
    with tempfile.TemporaryDirectory(prefix="vf", dir="/tmp") as name:
        folder = Path(name)
        job = Job(
            settings=SimpleNamespace(cameras=()),
            options=options,
            sources=tuple(SleepingSource(n) for n in range(args.sources)),
            identities=tuple(source.identity for source in found),
            out=folder / "out",
            threads=1,
        )
        ray.init(num_cpus=args.workers, include_dashboard=False, _temp_dir=str(folder / "r"))
        quiet = Quiet()
        crew = Crew(ray, Share(), "bench", worker_class=SleepingWorker)
        driver = timed_driver()(crew, job, found, quiet)
        begun_s = time.monotonic()
        begun_cpu_s = time.process_time()
        manifest = driver.run()
        wall_s = time.monotonic() - driver.first_s
        cpu_s = time.process_time() - begun_cpu_s
        start_s = driver.first_s - begun_s
        alone_s = commit_alone(folder, args.sources, args.shards, run)
    per_source_s = (driver.commit_s + driver.answer_s) / args.sources
    result = {
        "command": shlex.join(["python", "-m", "benchmarks.fleet_plan_bench", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "on": platform.platform()},
        "versions": {"ray": version("ray")},
        "shards": len(manifest["shards"]),
        "warnings": quiet.warnings[:5],
        "most_workers_busy": quiet.most_busy,
        # Until the first worker was ready; all processes start on this machine.
        "start_s": round(start_s, 2),
        "wall_s": round(wall_s, 2),
        "sleep_s_per_worker": round(total_s / args.workers, 2),
        "driver_cpu_s": round(cpu_s, 2),
        "driver_cpu_share": round(cpu_s / (wall_s + start_s), 4),
        "driver_commit_ms_per_source": round(1e3 * driver.commit_s / args.sources, 2),
        "driver_answer_ms_per_source": round(1e3 * driver.answer_s / args.sources, 2),
        "commit_alone_ms_per_source": round(1e3 * alone_s / args.sources, 2),
        # Beyond it sources end faster than the driver takes them.
        "driver_sources_per_s": round(1 / per_source_s, 1),
        "workers_for_sources_of_60_s": round(60 / per_source_s),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if args.out:
        write_whole(args.out, lambda file: file.write_text(text))
    ray.shutdown()


def timed_driver() -> type:
    from vit_perception.datasets.fleet.driver import Driver

    class Timed(Driver):
        """Notes when the first worker was ready, and the time that the driver itself took."""

        first_s = 0.0
        commit_s = 0.0
        answer_s = 0.0

        def _take_begin(self, *given: Any) -> None:
            self.first_s = self.first_s or time.monotonic()
            super()._take_begin(*given)

        def _commit(self) -> None:
            begun_s = time.monotonic()
            super()._commit()
            self.commit_s += time.monotonic() - begun_s

        def _give_work(self) -> None:
            begun_s = time.monotonic()
            super()._give_work()
            self.answer_s += time.monotonic() - begun_s

    return Timed


def commit_alone(folder: Path, sources: int, shards: int, run: dict[str, Any]) -> float:
    """Return how long the commits of finished sources take, one after the other."""
    from vit_perception.datasets.fleet.commits import Commits
    from vit_perception.datasets.fleet.plan import STAGING

    out = folder / "alone"
    options = SimpleNamespace(file_format="parquet", shards=shards, seconds=0.0)
    job = Job(
        settings=SimpleNamespace(cameras=()),
        options=options,
        sources=tuple(SleepingSource(n) for n in range(sources)),
        identities=tuple(SleepingSource(n).identity() for n in range(sources)),
        out=out,
        threads=1,
    )
    journal = Journal(out, run)
    (out / STAGING).mkdir()
    (out / STAGING / "run").write_text("run")
    commits = Commits(journal, out / STAGING, sources, 1.0)
    worker = SleepingWorker("here")
    worker._job = job
    worker._begin = Begin("run")
    commits.guess(Before(seen=SEEN, layouts=(LAYOUT,)))
    for number in range(sources):
        before = commits.before(number)
        before = replace(before, episode=number - 1)
        commits.add(worker.embed(Task(number, before)).done)
    begun_s = time.monotonic()
    if commits.commit() or not commits.finished:
        raise RuntimeError("a source had to be corrected")
    commits.finish("parquet")
    journal.close()
    return time.monotonic() - begun_s


if __name__ == "__main__":
    main()
