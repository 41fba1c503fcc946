"""What runs on the workers: one opened engine, and one source at a time.

Ray makes an actor of :class:`EmbedWorker`. The class itself does not import Ray. A worker holds an
engine, the shard in the making and the messages that are being read; it takes no further source
before its shards are on the disk. So memory does not grow with slow storage or with long bags, and
no frame goes through Ray's object store.
"""

import json
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.plan import Begin, Job
from vit_perception.datasets.fleet.tasks import Done, Outcome, Task, embed_task, failed

if TYPE_CHECKING:
    from vit_perception.datasets.fleet.trial import Trial
    from vit_perception.pipeline.pipeline import Pipeline
    from vit_perception.wire.basis import Basis

# Those that files or features depend on. Ray itself compares its own version and Python's.
PACKAGES = ("numpy", "torch", "pyarrow", "safetensors", "openvino", "onnxruntime", "tensorrt")


@dataclass(frozen=True)
class Machine:
    """Where a worker runs, and on what."""

    host: str
    pid: int
    node_id: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Opened:
    """What a worker has opened."""

    # As ``run_of``, without the sources.
    run: dict[str, Any]
    min_cosine: float
    what_runs: str
    basis: "Basis | None"
    model: str


def versions_here() -> dict[str, str]:
    """Return the versions of this package, of Python, and of what features depend on."""
    from vit_perception import __version__

    found = {"vit_perception": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


class EmbedWorker:
    """One opened engine in a process of its own. Its methods are called one after the other.

    Only :meth:`results` may be called while another method runs.
    """

    def __init__(self, node_id: str):
        self._node_id = node_id
        self._job: Job | None = None
        self._begin: Begin | None = None
        self._pipeline: Pipeline | None = None
        self._results = 0

    def machine(self) -> Machine:
        """Say where this is. Nothing is loaded yet, so that other versions can be refused."""
        return Machine(socket.gethostname(), os.getpid(), self._node_id, versions_here())

    def open(self, job: Job) -> Opened | str:
        """Open the engine; it is built once a machine, while other workers wait for its lock.

        Return why it cannot be opened here, as text.
        """
        from vit_perception.datasets.embed_identity import run_of
        from vit_perception.files import telemetry
        from vit_perception.files.errors import is_for_the_user
        from vit_perception.files.log import SILENT
        from vit_perception.pipeline.frames_together import opened_pipeline

        telemetry.off()
        asked = job.settings.engine.threads
        settings = replace(
            job.settings, engine=replace(job.settings.engine, threads=asked or job.threads)
        )
        try:
            pipeline = opened_pipeline(settings, job.options.batch, SILENT)
        except Exception as error:
            if is_for_the_user(error):
                return str(error)
            raise
        run = run_of(pipeline, [], job.options)
        # Of the run, not of this worker's share of a machine.
        run["settings"]["engine"]["threads"] = asked
        self._job = job
        self._pipeline = pipeline
        return Opened(
            run=json.loads(json.dumps(run)),
            min_cosine=pipeline.layout().min_cosine,
            what_runs=pipeline.what_runs(),
            basis=pipeline.parts.basis,
            model=pipeline.card.name,
        )

    def begin(self, begin: Begin) -> None:
        """Take what is known of the run once a first worker has opened its engine."""
        self._begin = begin

    def trial(self, number: int, frames: int) -> "Trial | str":
        """Embed a few frames of a source to nowhere; return why that is not possible as text."""
        from vit_perception.datasets.fleet.trial import trial
        from vit_perception.files.errors import told

        try:
            return trial(self._pipeline, self._job.sources[number], self._job.options, frames)
        except Exception as error:
            return told(error)

    def embed(self, task: Task) -> Outcome:
        """Make the shards of one source."""
        self._results = 0
        return embed_task(self._pipeline, self._job, self._begin, task, self._advance)

    def relabel(self, done: Done, truth: Before) -> Outcome:
        """Correct numbers in the shards of one source."""
        from vit_perception.datasets.fleet.relabel import relabelled

        self._results = 0
        cameras = [camera.name for camera in self._job.settings.cameras]
        file_format = self._job.options.file_format
        try:
            return relabelled(self._job.staging, done, truth, file_format, cameras)
        except Exception as error:
            return failed(done.number, error)

    def results(self) -> int:
        """Return how many results of the source at hand are done."""
        return self._results

    def _advance(self, results: int) -> None:
        self._results += results


# What makes a worker of a node's id, for those that bring an engine of their own.
WorkerClass = Callable[[str], EmbedWorker]
