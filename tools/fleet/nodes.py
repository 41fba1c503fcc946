"""Ray nodes as separate processes on one machine, each in a network namespace and on one core.

It needs root for the namespaces; without it the nodes share the machine's address.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HEAD_PORT = 26379
# Of Ray, for a node on a busy machine.
START_S = "300"
WAIT_S = 600.0
# Ray shows the task that a process is at, as `Driver` names it, or else its class.
WORKER = r"ray::(EmbedWorker|embed |correct |first frame)"


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = WAIT_S) -> Any:
    """Return what ``condition`` gives once it is something true."""
    deadline_s = time.monotonic() + limit_s
    while not (result := condition()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} did not happen within {limit_s:g} s")
        time.sleep(0.05)
    return result


def processes_below(pid: int) -> list[int]:
    """Return every process that descends from ``pid``, also where a parent has ended."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    below = [pid]
    for each in below:
        below += [child for child, parent in parents.items() if parent == each]
    return below[1:]


def command_of(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


class Cluster:
    """Nodes ``0`` (the head), ``1`` ... below ``folder``, whose path must be short."""

    made = 0

    def __init__(self, folder: Path, cores: list[int]):
        self.folder = folder
        self._cores = cores
        self._nodes: dict[int, subprocess.Popen] = {}
        self._spaces: set[int] = set()
        # Linux takes a moment to remove a namespace: the next cluster has other names.
        Cluster.made += 1
        self._bridge = f"vf{os.getpid() % 100000}x{Cluster.made}"
        self.separate = os.geteuid() == 0 and shutil.which("ip") is not None
        if self.separate:
            self._run("ip", "link", "add", self._bridge, "type", "bridge")
            self._run("ip", "link", "set", self._bridge, "up")

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *unused: object) -> None:
        for number in list(self._nodes):
            self.stop(number)
        if self.separate:
            for number in range(len(self._cores)):
                subprocess.run(["ip", "netns", "del", self._space(number)], capture_output=True)
            self._run("ip", "link", "del", self._bridge)

    @property
    def address(self) -> str:
        return f"{self._address(0)}:{HEAD_PORT}"

    def _address(self, number: int) -> str:
        return f"10.213.7.{number + 1}" if self.separate else "127.0.0.1"

    def _space(self, number: int) -> str:
        return f"{self._bridge}n{number}"

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    @property
    def roots(self) -> list[int]:
        """The process of each node that all its others descend from."""
        return [node.pid for node in self._nodes.values()]

    def inside(self, number: int, command: list[str]) -> list[str]:
        """Return ``command`` as it runs on a node: in its namespace, on its core."""
        core = ["taskset", "-c", str(self._cores[number]), *command]
        return ["ip", "netns", "exec", self._space(number), *core] if self.separate else core

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of nodes and drivers."""
        return {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_raylet_start_wait_time_s": START_S,
            "OMP_NUM_THREADS": "1",
            **more,
        }

    def start(self, number: int, prefix: list[str] | None = None, **environment: str) -> None:
        """Start a node, and return when it is up. ``prefix`` is put before its command."""
        if self.separate and number not in self._spaces:
            self._make_space(number)
            self._spaces.add(number)
        place = ["--head", f"--port={HEAD_PORT}"] if number == 0 else [f"--address={self.address}"]
        if number == 0:
            place += [f"--temp-dir={self.folder}", "--include-dashboard=false"]
        command = [
            *(prefix or []),
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            *place,
            f"--node-ip-address={self._address(number)}",
            "--num-cpus=1",
            "--object-store-memory=80000000",
            "--disable-usage-stats",
            "--block",
        ]
        log = open(self.folder / f"node{number}.log", "wb")  # noqa: SIM115
        self._nodes[number] = subprocess.Popen(
            self.inside(number, command),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment(**environment),
            start_new_session=True,
        )
        log.close()
        text = self.folder / f"node{number}.log"
        wait_until(
            lambda: "Ray runtime started" in text.read_text() or self._ended(number),
            f"the start of node {number}",
        )
        if self._ended(number):
            raise RuntimeError(f"node {number} ended: {text.read_text()[-2000:]}")

    def _ended(self, number: int) -> bool:
        return self._nodes[number].poll() is not None

    def _make_space(self, number: int) -> None:
        space = self._space(number)
        subprocess.run(["ip", "netns", "del", space], capture_output=True)
        self._run("ip", "netns", "add", space)
        self._run(
            "ip",
            "link",
            "add",
            f"{self._bridge}v{number}",
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            space,
        )
        self._run("ip", "link", "set", f"{self._bridge}v{number}", "master", self._bridge, "up")
        inside = ("ip", "netns", "exec", space, "ip")
        self._run(*inside, "addr", "add", f"{self._address(number)}/24", "dev", "eth0")
        self._run(*inside, "link", "set", "eth0", "up")
        self._run(*inside, "link", "set", "lo", "up")

    def pids(self, number: int, text: str) -> list[int]:
        """Return the processes of a node whose command line has the pattern ``text``."""
        below = processes_below(self._nodes[number].pid)
        return [pid for pid in below if re.search(text, command_of(pid))]

    def kill(self, number: int, text: str) -> int:
        """Kill the first process of a node with the pattern ``text``; return its id."""
        pid = wait_until(lambda: self.pids(number, text), f"a process {text}")[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def paused(self, text: str, nodes: list[int]) -> Iterator[None]:
        """Stop processes for the time of a block, so that a run does not end before it."""
        pids = [pid for number in nodes for pid in self.pids(number, text)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self, number: int) -> None:
        """End all processes of a node."""
        node = self._nodes.pop(number)
        below = processes_below(node.pid)
        for pid in (node.pid, *below):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()
