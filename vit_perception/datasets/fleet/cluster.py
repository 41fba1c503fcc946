"""The Ray cluster: connecting to it, and workers on its nodes. The only module that imports Ray."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from vit_perception.datasets.fleet.actors import EmbedWorker
from vit_perception.datasets.fleet.plan import Job
from vit_perception.files import telemetry
from vit_perception.files.errors import InvalidValue, OperationFailed, printable

LOCAL = "local"
AUTO = "auto"
CONNECT_S = 10.0
CLAIM_S = 5.0
NAMESPACE = "vit_perception"
ACCEPTED = (
    "auto (the cluster that this machine is part of), local (the cores of this machine), or "
    "HOST:PORT of a cluster's head"
)


@dataclass(frozen=True)
class Share:
    """What one worker gets of a machine."""

    cpus: int = 1
    # A fraction lets several workers share one GPU.
    gpus: float = 0.0


@dataclass
class Worker:
    """One actor of the cluster, and what it is at."""

    name: str
    node_id: str
    actor: Any
    # "starting", "opening", "waiting" until the run is known, "idle", or "busy".
    state: str = "starting"
    # Of the source at hand.
    number: int = -1
    results: int = 0
    # Whether an answer of ``results`` is outstanding.
    asked: bool = False


def connect(address: str) -> Any:
    """Connect to the cluster at ``address``, and return the module ``ray``.

    A ``local`` cluster keeps its sockets and logs below ``RAY_TMPDIR``, whose path must be short.

    Raises:
        InvalidValue: The address is none, or there is no cluster, or one of another version.
        ModuleNotFoundError: Ray is not installed.
    """
    telemetry.off()
    if address.startswith("ray://"):
        raise InvalidValue(
            f" is {address}: files are written by this machine, which must be part of the cluster; "
            f"accepted: {ACCEPTED}",
            argument="ray",
        )
    if address not in (LOCAL, AUTO):
        _check_reachable(address)
    import ray

    given: dict[str, Any] = {"address": address}
    if address == LOCAL:
        given["include_dashboard"] = False
    try:
        ray.init(
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            **given,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidValue(
            f" is {address}: {printable(first, 400)}; accepted: {ACCEPTED}",
            argument="ray",
            hint="start a cluster with Ray's command `ray start`, with the same versions of Ray "
            "and Python on every machine",
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Ray would wait for minutes, and then print pages."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidValue(f" is {address!r:.200}; accepted: {ACCEPTED}", argument="ray")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise InvalidValue(
            f" is {address}, where nothing answers ({error}); accepted: {ACCEPTED}",
            argument="ray",
            hint="Ray's command `ray start` prints the address on the head machine",
        ) from error


@dataclass
class Crew:
    """The workers of one run: as many as the nodes have room for, also on nodes that join later."""

    ray: Any
    share: Share
    # Names in the dashboard begin with it.
    title: str
    worker_class: type = EmbedWorker
    # At most; 0 for as many as fit.
    most: int = 0
    workers: list[Worker] = field(default_factory=list)
    # Why nodes get no worker any more, by node.
    refused: dict[str, str] = field(default_factory=dict)
    # Workers that ended before they were ready, one after the other, by node.
    false_starts: dict[str, int] = field(default_factory=dict)
    _started: int = 0

    def fill(self, wanted: int) -> list[Worker]:
        """Start workers until there are ``wanted``, if the nodes have room; return the new ones."""
        wanted = min(wanted, self.most) if self.most else wanted
        new = []
        for node_id, room in self._rooms():
            for _ in range(min(room, wanted - len(self.workers))):
                new.append(self._start(node_id))
        return new

    def _rooms(self) -> list[tuple[str, int]]:
        """Return how many further workers each node has room for, the emptiest node first."""
        rooms = []
        for node in self.ray.nodes():
            node_id = node["NodeID"]
            if not node["Alive"] or node_id in self.refused:
                continue
            fit = int(node["Resources"].get("CPU", 0) // self.share.cpus)
            if self.share.gpus:
                fit = min(fit, int(node["Resources"].get("GPU", 0) / self.share.gpus))
            here = sum(1 for worker in self.workers if worker.node_id == node_id)
            rooms.append((node_id, max(0, fit - here)))
        return sorted(rooms, key=lambda room: -room[1])

    def room(self) -> int:
        """Return how many workers the nodes that are there now have room for."""
        return sum(room for _, room in self._rooms())

    def trial(self, job: Job, number: int, frames: int) -> Any:
        """Return what a trial of source ``number`` gives on one new worker, or why it failed.

        Raises:
            OperationFailed: No node has room for a worker.
        """
        self.check_hope()
        worker = self.fill(1)[0]
        try:
            opened = self.ray.get(worker.actor.open.remote(job))
            if isinstance(opened, str):
                return opened
            return self.ray.get(worker.actor.trial.remote(number, frames))
        finally:
            self.drop(worker)

    def _start(self, node_id: str) -> Worker:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        name = f"{self.title} worker {self._started}"
        self._started += 1
        actor = (
            self.ray.remote(concurrency_groups={"watch": 1})(self.worker_class)
            .options(
                name=f"{name} ({os.getpid()})",
                num_cpus=self.share.cpus,
                num_gpus=self.share.gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(node_id)
        )
        worker = Worker(name, node_id, actor)
        self.workers.append(worker)
        return worker

    def drop(self, worker: Worker) -> None:
        """End a worker."""
        if worker in self.workers:
            self.workers.remove(worker)
        self.ray.kill(worker.actor)

    def refuse(self, worker: Worker, why: str) -> Sequence[Worker]:
        """End all workers of the node of ``worker``, which gets no further ones."""
        self.refused[worker.node_id] = why
        lost = [each for each in self.workers if each.node_id == worker.node_id]
        for each in lost:
            self.drop(each)
        return lost

    def host_of(self, node_id: str) -> str:
        """Return the name of a node for people."""
        for node in self.ray.nodes():
            if node["NodeID"] == node_id:
                return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        return node_id[:8]

    def check_hope(self) -> None:
        """Check that there are workers, or nodes that can have some.

        Raises:
            OperationFailed: There are none; the message has the reason of each node.
        """
        if self.workers or any(room for _, room in self._rooms()):
            return
        reasons = [f"{self.host_of(node)}: {why}" for node, why in self.refused.items()]
        asked = f"{self.share.cpus} CPUs" + f" and {self.share.gpus:g} GPUs" * bool(self.share.gpus)
        raise OperationFailed(
            "no machine of the cluster can work: "
            + ("; ".join(reasons) or f"none has {asked} for a worker"),
            hint="finished files are kept; the same command continues",
        )


@dataclass(frozen=True)
class OutputClaim:
    """An actor whose name is the output: two drivers of a cluster never write one folder."""

    actor: Any
    ray: Any

    def __enter__(self) -> "OutputClaim":
        return self

    def __exit__(self, *unused: object) -> None:
        self.ray.kill(self.actor)

    @classmethod
    def take(cls, ray: Any, out: Path) -> "OutputClaim":
        """Claim ``out`` until the end of a `with` block, or of this driver.

        Raises:
            InvalidValue: Another driver of the cluster has it.
        """
        name = f"output {sha256(str(out.resolve()).encode()).hexdigest()[:16]}"
        limit_s = time.monotonic() + CLAIM_S
        while True:
            try:
                actor = ray.remote(_Claim).options(name=name, num_cpus=0).remote()
                ray.get(actor.held.remote())
                return cls(actor, ray)
            except (ValueError, ray.exceptions.RayActorError) as error:
                # A driver that was killed a moment ago still has it for as long as Ray needs.
                if time.monotonic() > limit_s:
                    raise InvalidValue(
                        f": {out} is being written by another run in this cluster; accepted: a "
                        "folder of its own",
                        argument="out",
                    ) from error
                time.sleep(0.5)


class _Claim:
    def held(self) -> bool:
        return True
