"""Whether what went wrong with a source is tried again, and whose fault it was."""

import json
from collections import Counter
from dataclasses import dataclass

from vit_perception.datasets.embed_journal import JOURNAL
from vit_perception.datasets.fleet.plan import Job
from vit_perception.datasets.fleet.tasks import Outcome
from vit_perception.files.errors import UserError

# Lost workers and unexpected errors of a source, one after the other without a further shard.
MOST_TRIES = 3


@dataclass(frozen=True)
class Verdict:
    """One of them is set, or nothing where the source is simply tried again."""

    bad_source: str = ""
    bad_worker: str = ""
    busy: bool = False


class Retries:
    """What has gone wrong so far. With ``strict`` the first bad source ends the run."""

    def __init__(self, job: Job, strict: bool):
        self.strict = strict
        self._job = job
        self._tries: Counter[int] = Counter()
        self._finished: dict[int, int] = {}

    def of_lost_worker(self, number: int) -> str:
        """Return why ``number`` is given up, after it has lost one more worker; else ``""``.

        A machine may be taken away at any time: only workers that finish no shard are counted.
        """
        try:
            finished = (self._job.staging / f"{number:06d}" / JOURNAL).read_text().count("\n")
        except OSError:
            finished = 0
        if finished > self._finished.get(number, 0):
            self._finished[number] = finished
            self._tries[number] = 0
        self._tries[number] += 1
        if self._tries[number] < MOST_TRIES:
            return ""
        return f"{MOST_TRIES} workers one after the other ended while they read it"

    def of(self, outcome: Outcome) -> Verdict:
        """Say what an outcome means that is neither shards nor a certain fault."""
        if outcome.busy:
            return Verdict(busy=True)
        expected = self._job.identities[outcome.number]
        try:
            found = json.loads(json.dumps(self._job.sources[outcome.number].identity()))
        except (UserError, OSError) as error:
            return Verdict(bad_source=str(error))
        if found != expected:
            return Verdict(bad_source="it changed since this run was begun")
        if outcome.differs:
            return Verdict(bad_worker=f"does not see sources as this machine: {outcome.differs}")
        self._tries[outcome.number] += 1
        if self._tries[outcome.number] >= MOST_TRIES:
            return Verdict(bad_source=outcome.doubtful)
        return Verdict()
