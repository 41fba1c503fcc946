"""Faults of a fleet, and what each must lead to. Each gets a run of its own."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.fleet.nodes import WORKER, Cluster, wait_until
from tools.fleet.runs import Run, Unexpected, Work, check_same


@dataclass(frozen=True)
class Fault:
    """What is done to a running fleet, and what is promised."""

    name: str
    expected: str
    inject: Callable[[Cluster, Work, Path], str]


def _started(cluster: Cluster, work: Work, name: str, shards: int = 2) -> Run:
    run = Run(cluster, work, name)
    run.until_committed(shards)
    return run


def worker_killed(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "worker_killed")
    cluster.kill(1, WORKER)
    seconds = run.end()
    if "was lost" not in run.said():
        raise Unexpected(f"the driver does not say that a worker was lost: {run.said()}")
    return f"{check_same(run.out, one)} files are the same, after {seconds:.0f} s"


def raylet_killed(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "raylet_killed")
    cluster.kill(1, "raylet/raylet")
    seconds = run.end()
    return f"{check_same(run.out, one)} files are the same, after {seconds:.0f} s"


def driver_killed(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "driver_killed")
    run.kill()
    kept = run.lines
    again = Run(cluster, work, "driver_killed")
    again.end()
    return f"{check_same(again.out, one)} files are the same; {kept} shards were not made again"


def head_killed(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "head_killed")
    kept = run.lines
    cluster.kill(0, "gcs/gcs_server")
    status = wait_until(lambda: (run.status(),) if run.status() is not None else None, "the end")[0]
    if not status:
        raise Unexpected(f"the driver ended with 0: {run.said()}")
    for number in (1, 0):
        cluster.stop(number)
    for number in (0, 1):
        cluster.start(number)
    Run(cluster, work, "head_killed").end()
    same = check_same(run.out, one)
    return f"exit status {status}; then {same} files are the same, {kept} shards of before"


def joins_late(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "joins_late", shards=1)
    with cluster.paused(WORKER, nodes=[0]):
        cluster.start(1)
        wait_until(lambda: cluster.pids(1, WORKER), "a worker on the second node")
        run.until_staged_more()
    run.end()
    return f"it gets a worker; {check_same(run.out, one)} files are the same"


def second_driver(cluster: Cluster, work: Work, one: Path) -> str:
    run = _started(cluster, work, "second_driver", shards=1)
    with cluster.paused(WORKER, nodes=[0, 1]):
        second = Run(cluster, work, "second_driver_2", out=run.out)
        second.end(expected=1)
    if "is being written by another" not in second.said():
        raise Unexpected(second.said())
    run.end()
    return f"the second is refused; {check_same(run.out, one)} files are the same"


def output_full(cluster: Cluster, work: Work, one: Path) -> str:
    """A file system that is too small for all workers, and then made larger."""
    place = work.folder / "small"
    place.mkdir(exist_ok=True)
    needed = sum(path.stat().st_size for path in one.iterdir())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={needed // 3}", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        # Nodes have the mounts of this machine, but not those made after they began.
        for number in (1, 0):
            cluster.stop(number)
        for number in (0, 1):
            cluster.start(number)
        full = Run(cluster, work, "output_full", out=place / "out")
        full.end(expected=1)
        if "free disk space" not in full.said():
            raise Unexpected(full.said())
        kept = full.lines
        larger = f"remount,size={4 * needed}"
        subprocess.run(["mount", "-o", larger, str(place)], check=True)
        for number in (1, 0):
            cluster.stop(number)
        for number in (0, 1):
            cluster.start(number)
        Run(cluster, work, "output_full", out=full.out).end()
        same = check_same(full.out, one)
    finally:
        for number in (1, 0):
            cluster.stop(number)
        subprocess.run(["umount", "-l", str(place)], check=True)
        for number in (0, 1):
            cluster.start(number)
    return f"one line, {kept} shards kept; then {same} files are the same"


SAME = "the run goes on; byte for byte the files of one process"
FAULTS = (
    Fault("worker: kill -9", SAME, worker_killed),
    Fault("raylet: kill -9", SAME, raylet_killed),
    Fault("driver: kill -9", "the same command continues; the same files", driver_killed),
    Fault("two drivers, one output", "the second is refused, the first goes on", second_driver),
    Fault("output full", "one line; with room the same command continues", output_full),
    Fault("head: kill -9", "the driver ends; the same command continues", head_killed),
    Fault("a node joins late", "it gets a worker; the same files", joins_late),
)
