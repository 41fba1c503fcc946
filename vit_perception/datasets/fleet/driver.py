"""Who does what when: sources to workers, finished ones to the output, and what is lost again.

Actors hold an opened engine for the whole run. Tasks of Ray would open one for each source, and
Ray Data would pass the features through its object store and give no say in which file a frame
ends up: actors that write their own shards need neither, and only they can be byte for byte equal
to one process.
"""

import json
import time
from collections.abc import Sequence
from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import Any

from vit_perception.datasets.embed import check_batch
from vit_perception.datasets.embed_journal import Journal, check_out
from vit_perception.datasets.fleet.actors import Machine, Opened
from vit_perception.datasets.fleet.before import Before
from vit_perception.datasets.fleet.cluster import Crew, Worker
from vit_perception.datasets.fleet.commits import Commits, remove_task
from vit_perception.datasets.fleet.plan import TOKEN, Begin, Job, Surveyed
from vit_perception.datasets.fleet.progress import Listener, Progress
from vit_perception.datasets.fleet.retries import Retries
from vit_perception.datasets.fleet.staff import Asked, Lost, Staff
from vit_perception.datasets.fleet.tasks import Done, Outcome, Task
from vit_perception.datasets.fleet.trial import Trial
from vit_perception.datasets.shards import FORMATS
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import OperationFailed
from vit_perception.policy.basis_file import FILE_NAME, save_basis
from vit_perception.wire.json_values import differing_fields

LOOK_S = 1.0
# Before a folder is tried again that the worker of a killed driver still has.
BUSY_S = 0.2


class Driver:
    """One run. ``sources`` are what was found of the sources of ``job``."""

    def __init__(
        self,
        crew: Crew,
        job: Job,
        sources: Sequence[Surveyed],
        listener: Listener,
        strict: bool = False,
    ):
        self._staff = Staff(crew, listener)
        self._job = job
        self._job_ref = crew.ray.put(job)
        self._sources = sources
        self._listener = listener
        self._retries = Retries(job, strict)
        self._begin: Begin | None = None
        self._run: dict[str, Any] = {}
        self._journal: Journal | None = None
        self._commits: Commits | None = None
        # Sources that no worker has, and shards to be corrected.
        self._open: list[int] = []
        self._wrong: list[tuple[Done, Before]] = []
        self._trying: int | None = None
        self._look_s = 0.0

    def run(self) -> dict[str, Any]:
        """Embed everything, and return the manifest.

        Raises:
            UserError: The output or the cluster cannot be used, or with ``strict`` a source.
            OSError: There is no room in the output.
        """
        check_out(self._job.out)
        try:
            while not (self._commits and self._commits.finished):
                left = len(self._sources) - (self._commits.next if self._commits else 0)
                self._staff.hire(left)
                self._give_work()
                for answer in self._staff.answers():
                    if isinstance(answer, Lost):
                        self._lost(answer)
                    else:
                        (worker, what, about), value = answer
                        getattr(self, f"_take_{what}")(worker, value, about)
                if self._commits:
                    self._commit()
                self._look()
            return self._commits.finish(self._job.options.file_format)
        finally:
            self._staff.dismiss()
            if self._journal:
                self._journal.close()

    # -- workers -----------------------------------------------------------------------------------

    def _take_machine(self, worker: Worker, machine: Machine, about: None) -> None:
        if self._staff.has_our_versions(worker, machine):
            worker.state = "opening"
            self._staff.ask(worker, "open", worker.actor.open.remote(self._job_ref))

    def _take_open(self, worker: Worker, opened: Opened | str, about: None) -> None:
        if isinstance(opened, str):
            self._refuse(worker, f"cannot open the engine: {opened}")
            return
        if self._begin is None:
            self._begin_run(opened)
        if differences := differing_fields(self._run, opened.run):
            self._refuse(
                worker,
                f"would make other features ({'; '.join(differences[:4])}); accepted: the same "
                "engine on every machine: name its backend and precision",
            )
            return
        self._staff.ask(worker, "begin", worker.actor.begin.remote(self._begin))

    def _take_begin(self, worker: Worker, answer: None, about: None) -> None:
        self._staff.ready(worker)

    def _begin_run(self, opened: Opened) -> None:
        """The first engine says what the features depend on: open the output for that."""
        self._run = opened.run
        run = {}
        for name, value in opened.run.items():
            run[name] = (
                [source.identity for source in self._sources] if name == "sources" else value
            )
        readable = [each for each in run["sources"] if each["kind"] != "unreadable"]
        check_batch(self._job.options.batch, readable)
        digest = sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
        out = self._job.out
        self._journal = Journal(out, run)
        self._begin = Begin(digest)
        self._commits = Commits(
            self._journal, self._job.staging, len(self._sources), opened.min_cosine
        )
        if self._journal.complete:
            return
        if opened.basis and FORMATS[self._job.options.file_format].is_columns:
            save_basis(out / FILE_NAME, opened.basis, opened.model)
        self._job.staging.mkdir(exist_ok=True)
        write_whole(self._job.staging / TOKEN, lambda file: file.write_text(digest))
        self._open = list(range(self._commits.next, len(self._sources)))
        heapify(self._open)
        self._listener.info(f"{opened.what_runs}; {len(self._open)} sources to do")

    def _refuse(self, worker: Worker, why: str) -> None:
        self._give_back(self._staff.refuse(worker, why))

    def _give_back(self, at_hand: Sequence[Asked]) -> None:
        """Put what lost workers had at hand back to the others."""
        for asked in at_hand:
            if asked.what == "embed":
                heappush(self._open, asked.about)
            elif asked.what == "relabel":
                self._wrong.append(asked.about)
            elif asked.what == "trial":
                self._trying = None

    def _lost(self, lost: Lost) -> None:
        self._give_back(lost.at_hand)
        for asked in lost.at_hand:
            if asked.what == "embed" and (why := self._retries.of_lost_worker(asked.about)):
                self._bad_source(asked.about, why)

    # -- work --------------------------------------------------------------------------------------

    def _give_work(self) -> None:
        for worker in [each for each in self._staff.workers if each.state == "idle"]:
            if self._wrong:
                about = self._wrong.pop()
                self._occupy(worker, about[0].number)
                answer = worker.actor.relabel.options(name=self._named("correct", about[0].number))
                self._staff.ask(worker, "relabel", answer.remote(*about), about)
            elif not self._open:
                return
            elif self._begin_is_known():
                number = heappop(self._open)
                self._occupy(worker, number)
                task = Task(number, self._commits.before(number))
                answer = worker.actor.embed.options(name=self._named("embed", number))
                self._staff.ask(worker, "embed", answer.remote(task), number)
            elif self._trying is None:
                number = self._first_readable()
                self._trying = number
                self._occupy(worker, number)
                answer = worker.actor.trial.options(name=self._named("first frame of", number))
                self._staff.ask(worker, "trial", answer.remote(number, 1), number)

    def _begin_is_known(self) -> bool:
        """Whether sources can be begun as they will have to: one frame says what it begins with."""
        if len(self._open) == 1 and self._open[0] == self._commits.next:
            return True
        return self._commits.knows_the_start

    def _first_readable(self) -> int:
        return next((n for n in sorted(self._open) if not self._sources[n].why_not), self._open[0])

    def _occupy(self, worker: Worker, number: int) -> None:
        worker.state = "busy"
        worker.number = number
        worker.results = 0

    def _named(self, what: str, number: int) -> str:
        return f"{what} {self._sources[number].name} ({number + 1} of {len(self._sources)})"

    def _take_trial(self, worker: Worker, found: "Trial | str", number: int) -> None:
        worker.state = "idle"
        self._trying = None
        # Without a frame nothing is known: what is begun in vain is corrected.
        self._commits.guess(found.begun if isinstance(found, Trial) else Before())

    def _take_results(self, worker: Worker, results: int, about: None) -> None:
        worker.asked = False
        worker.results = results

    def _take_embed(self, worker: Worker, outcome: Outcome, number: int) -> None:
        worker.state = "idle"
        if outcome.done:
            self._commits.add(outcome.done)
        elif outcome.redo:
            remove_task(self._job.staging, number)
            heappush(self._open, number)
        elif outcome.bad_source:
            self._bad_source(number, outcome.bad_source)
        elif outcome.bad_worker:
            heappush(self._open, number)
            self._refuse(worker, outcome.bad_worker)
        else:
            heappush(self._open, number)
            found = self._retries.of(outcome)
            if found.bad_source:
                self._bad_source(number, found.bad_source)
            elif found.bad_worker:
                self._refuse(worker, found.bad_worker)
            elif found.busy:
                time.sleep(BUSY_S)

    def _take_relabel(self, worker: Worker, outcome: Outcome, about: tuple[Done, Before]) -> None:
        self._take_embed(worker, outcome, about[0].number)

    def _bad_source(self, number: int, why: str) -> None:
        name = self._sources[number].name
        if self._retries.strict:
            raise OperationFailed(
                f"{name}: {why}", hint="finished files are kept; the same command continues"
            )
        self._listener.warning(f"{name} is left out: {why}")
        if number in self._open:
            self._open.remove(number)
            heapify(self._open)
        self._commits.fail(number, why)

    def _commit(self) -> None:
        if wrong := self._commits.commit():
            done, truth = wrong
            if done.before.first != truth.first:
                remove_task(self._job.staging, done.number)
                heappush(self._open, done.number)
            else:
                self._wrong.append(wrong)

    # -- how far it is -----------------------------------------------------------------------------

    def _look(self) -> None:
        if time.monotonic() < self._look_s or not self._commits:
            return
        self._look_s = time.monotonic() + LOOK_S
        busy = [worker for worker in self._staff.workers if worker.state == "busy"]
        for worker in busy:
            if not worker.asked:
                worker.asked = True
                results = worker.actor.results.options(concurrency_group="watch")
                self._staff.ask(worker, "results", results.remote())
        at_hand = {worker.number: worker.results for worker in busy}
        done = self._commits.done_sources()
        results = sum(
            self._sources[n].frames
            if n in done
            else min(at_hand.get(n, 0), self._sources[n].frames)
            for n in range(len(self._sources))
        )
        self._listener.progress(
            Progress(
                results=results,
                total=sum(source.frames for source in self._sources),
                busy=len(busy),
                workers=len(self._staff.workers),
                sources_done=len(done),
                sources=len(self._sources),
                failed=self._commits.failed,
            )
        )
