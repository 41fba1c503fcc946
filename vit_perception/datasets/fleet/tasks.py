"""What a worker does for one source. There is no Ray here: it is `embed` in a folder of its own.

The folder has a journal and a lock as every folder of `embed`: a task that was killed continues
after its last finished shard, on whatever machine, and two machines never write the same one.
"""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vit_perception.datasets.embed_journal import (
    MANIFEST,
    Entry,
    FolderInUse,
    Journal,
    read_manifest,
)
from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.plan import TOKEN, Begin, Job
from vit_perception.files.errors import InvalidValue, UserError, is_for_the_user, traced
from vit_perception.files.storage.folder import StorageError

if TYPE_CHECKING:
    from vit_perception.pipeline.pipeline import Pipeline

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Task:
    """One source, and what is believed to come before it."""

    number: int
    before: Before


@dataclass(frozen=True)
class Done:
    """The finished shards of one source."""

    number: int
    # Of the task, below the staging folder, and what its shards were made with.
    folder: str
    before: Before
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Outcome:
    """How a task ended: one of the fields is set."""

    number: int
    done: Done | None = None
    # The source cannot be read: the same on every machine.
    bad_source: str = ""
    # The source is not here what the driver saw.
    differs: str = ""
    # Something that should not happen.
    doubtful: str = ""
    # This machine cannot do it, another one may.
    bad_worker: str = ""
    # Another process still writes the task's folder.
    busy: bool = False
    # The shards cannot be corrected, only made again.
    redo: bool = False


def embed_task(
    pipeline: "Pipeline", job: Job, begin: Begin, task: Task, advance: Callable[[int], None]
) -> Outcome:
    """Make the shards of one source, or what is left to do of them."""
    from vit_perception.datasets.embed import embed_source

    def make(journal: Journal, before: Before) -> None:
        embed_source(
            pipeline=pipeline,
            source=job.sources[task.number],
            number=task.number,
            journal=journal,
            options=job.options,
            before=before,
            advance=advance,
        )

    return run_task(job, begin, task, make)


def run_task(
    job: Job, begin: Begin, task: Task, make: Callable[[Journal, Before], None]
) -> Outcome:
    """Let ``make`` write the shards of a task to its folder, and say how that ended."""
    folder = job.staging / f"{task.number:06d}"
    try:
        if not sees_output(job, begin):
            return Outcome(
                task.number,
                bad_worker=f"does not see {job.out}; accepted: a folder that all machines share",
            )
        if why := _differs(job, task.number):
            return Outcome(task.number, differs=why)
        journal, before = _opened(folder, job, begin, task)
        try:
            make(journal, before)
            entries = tuple(journal.entries)
        finally:
            journal.close()
        if why := _differs(job, task.number):
            return _changed(folder, task.number, why)
        return Outcome(task.number, done=Done(task.number, folder.name, before, entries))
    except FolderInUse:
        return Outcome(task.number, busy=True)
    except Exception as error:
        if isinstance(error, UserError) and (why := _differs(job, task.number)):
            return _changed(folder, task.number, why)
        return failed(task.number, error)


def _changed(folder: Path, number: int, why: str) -> Outcome:
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, bad_source=f"it changed while it was read: {why}")


def failed(number: int, error: Exception) -> Outcome:
    """Return the outcome of a task that ``error`` ended."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Outcome(number, bad_worker=f"no room: {error}; accepted: free disk space")
    if isinstance(error, UserError) and not isinstance(error, StorageError):
        return Outcome(number, bad_source=str(error))
    return Outcome(number, doubtful=str(error) if is_for_the_user(error) else traced(error))


def sees_output(job: Job, begin: Begin) -> bool:
    """Whether this machine sees the folder that the driver writes."""
    try:
        return (job.staging / TOKEN).read_text() == begin.run_sha256
    except OSError:
        return False


def _differs(job: Job, number: int) -> str:
    """Return how the source differs from what the driver saw; empty if it does not."""
    expected = job.identities[number]
    if expected["kind"] == "unreadable":
        return ""  # reading it says why
    try:
        found = json.loads(json.dumps(job.sources[number].identity()))
    except (UserError, OSError) as error:
        return str(error)
    changed = [name for name in expected if found.get(name) != expected[name]]
    return ", ".join(f"{n} is {found.get(n)!r:.80}, not {expected[n]!r:.80}" for n in changed)


def _opened(folder: Path, job: Job, begin: Begin, task: Task) -> tuple[Journal, Before]:
    """Open the folder of a task; a run that began it decides what comes before its source."""
    before = task.before
    if (folder / MANIFEST).exists():
        try:
            begun = read_manifest(folder)["run"]
            if begun["run_sha256"] != begin.run_sha256:
                raise InvalidValue("of another run")
            before = Before.from_fields(begun["before"])
        except (InvalidValue, KeyError, TypeError):
            shutil.rmtree(folder)
    try:
        return Journal(folder, task_run(job, begin, task.number, before)), before
    except FolderInUse:
        raise
    except InvalidValue:
        # Damaged: the folder is this run's own, and what it held is made again.
        shutil.rmtree(folder)
        return Journal(folder, task_run(job, begin, task.number, before)), before


def task_run(job: Job, begin: Begin, number: int, before: Before) -> dict[str, Any]:
    """Return what the journal of a task's folder is of."""
    return {
        "file_format": job.options.file_format,
        "run_sha256": begin.run_sha256,
        "source": number,
        "before": asdict(before),
    }
