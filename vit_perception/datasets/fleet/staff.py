"""The workers of a run: hired where there is room, asked, given up when they are lost."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from vit_perception.datasets.fleet.actors import Machine, versions_here
from vit_perception.datasets.fleet.cluster import Crew, Worker
from vit_perception.datasets.fleet.progress import Listener
from vit_perception.wire.json_values import differing_fields

# Time between two looks for nodes that have joined.
NODES_S = 2.0
# Workers that end one after the other before they are ready, until their node gets no more.
FALSE_STARTS = 3


class Asked(NamedTuple):
    """What a worker was asked, and about which source or shards."""

    worker: Worker
    what: str
    about: Any


class Lost(NamedTuple):
    """What a lost worker had at hand; ``was_asked`` is what showed that it is lost."""

    worker: Worker
    was_asked: Asked
    at_hand: list[Asked]


class Staff:
    """All workers, and the answers that are waited for."""

    def __init__(self, crew: Crew, listener: Listener):
        self._crew = crew
        self._ray = crew.ray
        self._listener = listener
        self._asked: dict[Any, Asked] = {}
        self._nodes_s = 0.0

    @property
    def workers(self) -> list[Worker]:
        return self._crew.workers

    def hire(self, wanted: int) -> None:
        """Start workers until there are ``wanted``, where nodes have room, and ask who they are.

        Raises:
            OperationFailed: No node can have a worker.
        """
        if time.monotonic() < self._nodes_s:
            return
        self._nodes_s = time.monotonic() + NODES_S
        for worker in self._crew.fill(wanted):
            self.ask(worker, "machine", worker.actor.machine.remote())
        self._crew.check_hope()

    def ask(self, worker: Worker, what: str, answer: Any, about: Any = None) -> None:
        """Wait for ``answer`` of ``worker``."""
        self._asked[answer] = Asked(worker, what, about)

    def answers(self) -> Iterator[tuple[Asked, Any] | Lost]:
        """Yield the answers that have come, and workers that were lost instead."""
        if not self._asked:
            time.sleep(0.05)
            return
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=0.2)
        more, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for answer in dict.fromkeys([*ready, *more]):
            if answer not in self._asked:
                continue  # of a worker that was given up in between
            asked = self._asked.pop(answer)
            try:
                value = self._ray.get(answer)
            except (self._ray.exceptions.RayError, ImportError, AttributeError) as error:
                yield self._lost(asked, error)
                continue
            yield asked, value

    def has_our_versions(self, worker: Worker, machine: Machine) -> bool:
        """Whether a worker runs what this machine runs; else its node gets no work."""
        differences = differing_fields(machine.versions, versions_here())
        if differences:
            self._complain(
                worker,
                f"has other versions than this machine ({'; '.join(differences[:4])}); accepted: "
                "the same ones on every machine",
            )
        return not differences

    def refuse(self, worker: Worker, why: str) -> list[Asked]:
        """End all workers of a node, which gets no further ones; return what they had at hand."""
        self._complain(worker, why)
        lost = self._crew.refuse(worker, why)
        return [asked for each in lost for asked in self._forget(each)]

    def _complain(self, worker: Worker, why: str) -> None:
        host = self._crew.host_of(worker.node_id)
        self._listener.warning(f"{host} gets no work: it {why}")
        self._crew.refused[worker.node_id] = why

    def ready(self, worker: Worker) -> None:
        """Note that a worker has opened its engine and can be given work."""
        self._crew.false_starts.pop(worker.node_id, None)
        worker.state = "idle"

    def _lost(self, asked: Asked, error: Exception) -> Lost:
        """A worker has ended, however that came."""
        worker = asked.worker
        why = _last_line(error)
        self._listener.warning(
            f"{worker.name} on {self._crew.host_of(worker.node_id)} was lost: {why}"
        )
        at_hand = self._forget(worker)
        self._crew.drop(worker)
        if worker.state not in ("idle", "busy"):
            count = self._crew.false_starts.get(worker.node_id, 0) + 1
            self._crew.false_starts[worker.node_id] = count
            if count >= FALSE_STARTS:
                self._complain(worker, f"ends workers before they are ready: {why}")
        self._nodes_s = 0.0
        return Lost(worker, asked, [asked, *at_hand])

    def _forget(self, worker: Worker) -> list[Asked]:
        of_worker = [ref for ref, asked in self._asked.items() if asked.worker is worker]
        return [self._asked.pop(ref) for ref in of_worker]

    def dismiss(self) -> None:
        """End all workers."""
        for worker in list(self._crew.workers):
            self._crew.drop(worker)


def _last_line(error: Exception) -> str:
    """Return what a worker's end was, without Ray's pages about it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
