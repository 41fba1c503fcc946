"""Two computers in one: namespaces of the kernel that are joined by one thin link.

Each side has its own network, its own shared memory and its own machine id, so that DDS cannot tell
them from two computers. Without delay and loss they are joined by a veth pair, otherwise by two TUN
devices with a relay (`relay.py`) between them. What one side sends waits in a token bucket filter.

Nothing has a name outside. All processes are in one process namespace, whose first process ends
when its standard input does. So however this program ends, by Ctrl-C or by SIGKILL, the kernel ends
all processes and takes namespaces and devices down.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vit_perception.files.errors import OperationFailed

RELAY = Path(__file__).with_name("relay.py")
ADDRESSES = ("10.99.0.1", "10.99.0.2")
TIMEOUT_S = 20.0
PROGRAMS = ("unshare", "nsenter", "ip", "tc")
# The filter's own queue: what a radio's buffer holds before it drops.
QUEUE_MS = 50
BURST_BYTES = 16 * 1024


@dataclass(frozen=True)
class Link:
    """What the link is like, in both directions."""

    # Mbit a second.
    rate_mbit: float
    # Of each packet, in ms.
    delay_ms: float = 0.0
    # Share of the packets that are lost, in percent.
    loss_percent: float = 0.0
    # Whether multicast passes, as it does not in many radio networks.
    multicast: bool = True

    @property
    def name(self) -> str:
        """What it is called in tables."""
        parts = [f"{self.rate_mbit:g} Mbit/s"]
        parts += [f"{self.delay_ms:g} ms"] if self.delay_ms else []
        parts += [f"{self.loss_percent:g} % lost"] if self.loss_percent else []
        parts += [] if self.multicast else ["no multicast"]
        return ", ".join(parts)

    @property
    def relayed(self) -> bool:
        """Whether packets go through the relay, which delays and loses them."""
        return bool(self.delay_ms or self.loss_percent or not self.multicast)


class Side:
    """One of the two computers."""

    def __init__(self, pid: int, device: str):
        self._enter = ["nsenter", "-t", str(pid), "--net", "--mount", "--ipc", "--pid", "--"]
        self.pid = pid
        # Of the link's end at this side.
        self.device = device

    def start(
        self, command: list[str], environment: dict[str, str], log: IO[str] | int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start ``command`` at this side; its output is to be read, its errors go to ``log``."""
        return subprocess.Popen(
            [*self._enter, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )

    def stop(self, process: "subprocess.Popen[str]") -> None:
        """End what :meth:`start` started: `nsenter`, and the program behind it."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(_last_child(process.pid), signal.SIGKILL)
        process.communicate()

    def run(self, *command: str) -> str:
        """Run ``command`` at this side and return what it prints.

        Raises:
            OperationFailed: It fails; the message has what it says.
        """
        return _run([*self._enter, *command])

    def sent_bytes(self) -> int:
        """Return how many bytes have left this side through the link."""
        figures = self.run("cat", "/proc/net/dev")
        line = next(each for each in figures.splitlines() if f"{self.device}:" in each)
        return int(line.split(":")[1].split()[8])


@contextlib.contextmanager
def two_computers(link: Link) -> Iterator[tuple[Side, Side]]:
    """Give the two sides of ``link`` while the block runs.

    Raises:
        OperationFailed: This user or this kernel cannot make them; the message says what is needed.
    """
    check_rights()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        # The first process of the process namespace: what it holds ends with it.
        first = stack.enter_context(_holder(["unshare", "--pid", "--fork", "--kill-child"]))
        inside = ["nsenter", "-t", str(first), "--pid", "--"]
        second = stack.enter_context(_holder([*inside, "unshare"]))
        sides = Side(first, "link0"), Side(second, "link1")
        if link.relayed:
            stack.enter_context(_relay(link, *sides))
        else:
            ends = [sides[0].device, "type", "veth", "peer", "name", sides[1].device]
            sides[0].run("ip", "link", "add", *ends, "netns", f"/proc/{second}/ns/net")
        for side, address in zip(sides, ADDRESSES):
            _bring_up(side, address, link)
        yield sides


def check_rights() -> None:
    """Check that this user may make namespaces and devices.

    Raises:
        OperationFailed: Not so; the message says what is missing.
    """
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise OperationFailed(
            f"{', '.join(missing)} cannot be found; accepted: util-linux and iproute2 installed"
        )
    try:
        _run(["unshare", "--net", "--mount", "--pid", "--fork", "true"])
    except OperationFailed as error:
        raise OperationFailed(
            f"a network namespace cannot be made ({error}); accepted: root, or CAP_NET_ADMIN and "
            "CAP_SYS_ADMIN, as with `docker run --privileged`"
        ) from error


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it began is undone."""
    before = signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _holder(unshare: list[str]) -> Iterator[int]:
    """Hold namespaces of one computer; give the id of the process that is in them."""
    with tempfile.NamedTemporaryFile("w", prefix="machine_id_") as machine_id:
        machine_id.write(f"{uuid.uuid4().hex}\n")
        machine_id.flush()
        script = (
            "mount -t tmpfs tmpfs /dev/shm && mount --bind $0 /etc/machine-id && "
            "echo ready && exec cat"
        )
        process = subprocess.Popen(
            [*unshare, "--net", "--mount", "--ipc", "sh", "-c", script, machine_id.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if not process.stdout.readline():
                said = process.stderr.read().strip()
                raise OperationFailed(f"a second computer cannot be made here: {said}")
            yield _last_child(process.pid)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(TIMEOUT_S)
            process.stdout.close()
            process.stderr.close()


def _last_child(pid: int) -> int:
    """Return the process at the end of a line of parents, which waits for its input."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


@contextlib.contextmanager
def _relay(link: Link, one: Side, other: Side) -> Iterator[None]:
    process = one.start(
        [
            sys.executable,
            str(RELAY),
            one.device,
            other.device,
            str(link.delay_ms),
            str(link.loss_percent),
            "multicast" if link.multicast else "unicast",
        ],
        {**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        if process.stdout.readline().strip() != "ready":
            raise OperationFailed(
                f"/dev/net/tun cannot be used: {process.stderr.read().strip()}; accepted: a kernel "
                "with TUN devices, and CAP_NET_ADMIN"
            )
        # Its device stays with the relay that made it, in whichever namespace it is.
        one.run("ip", "link", "set", other.device, "netns", f"/proc/{other.pid}/ns/net")
        yield
    finally:
        one.stop(process)


def _bring_up(side: Side, address: str, link: Link) -> None:
    side.run("ip", "link", "set", "lo", "up")
    side.run("ip", "address", "add", f"{address}/24", "dev", side.device)
    side.run("ip", "link", "set", side.device, "mtu", "1500", "multicast", "on", "up")
    side.run("ip", "route", "add", "224.0.0.0/4", "dev", side.device)
    limits = ("rate", f"{link.rate_mbit}mbit", "burst", str(BURST_BYTES), "latency")
    side.run("tc", "qdisc", "add", "dev", side.device, "root", "tbf", *limits, f"{QUEUE_MS}ms")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise OperationFailed(f"`{' '.join(command)}` fails: {done.stderr.strip()}")
    return done.stdout
