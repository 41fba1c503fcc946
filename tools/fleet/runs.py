"""Runs of `embed` in one process and on a cluster, and whether they made the same files."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tools.fleet.nodes import Cluster, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 3600.0


class Unexpected(Exception):
    """Something came out otherwise than promised."""


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder of `embed`, by name."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_same(found: Path, expected: Path) -> int:
    """Check that two folders hold the same files, byte for byte; return their number.

    Raises:
        Unexpected: They do not; the message names the files.
    """
    made = digests(found)
    there = digests(expected)
    if made != there:
        names = sorted(n for n in {*made, *there} if made.get(n) != there.get(n))
        raise Unexpected(f"{found} and {expected} differ in {len(names)} files: {names[:5]}")
    return len(made)


@dataclass
class Work:
    """What all runs of one harness embed, and with what."""

    folder: Path
    bags: list[Path]
    # Further options of `embed`.
    options: list[str]
    cores: list[int]
    # How long single runs took, and drivers that were started.
    seconds: dict[str, float] = field(default_factory=dict)

    def command(self, out: Path, *more: str) -> list[str]:
        """Return the command that embeds everything to ``out``."""
        bags = [str(bag) for bag in self.bags]
        program = [sys.executable, "-m", "vit_perception.cli.main", "embed", *bags]
        return [*program, *self.options, "--out", str(out), *more]

    def in_one_process(self) -> Path:
        """Embed everything in one process on the first core, unless that is done; return where."""
        out = self.folder / "one"
        command = ["taskset", "-c", str(self.cores[0]), *self.command(out)]
        begun_s = time.monotonic()
        log = self.folder / "one.log"
        with open(log, "wb") as file:
            status = subprocess.run(
                command, stdout=file, stderr=file, cwd=ROOT, env=environment()
            ).returncode
        if status:
            raise Unexpected(f"one process ended with {status}: {log.read_text()[-1000:]}")
        self.seconds["one"] = time.monotonic() - begun_s
        return out


def environment() -> dict[str, str]:
    """Return the environment of a run in one process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


class Run:
    """A driver on the head of a cluster."""

    def __init__(
        self, cluster: Cluster, work: Work, name: str, *more: str, out: Path | None = None
    ):
        self.out = out or work.folder / name
        self.log = work.folder / f"{name}.log"
        command = work.command(self.out, "--ray", cluster.address, *more)
        self.begun_s = time.monotonic()
        with open(self.log, "ab") as file:
            self._process = subprocess.Popen(
                cluster.inside(0, command),
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env=cluster.environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The driver's process."""
        return self._process.pid

    @property
    def lines(self) -> int:
        """The number of shards that are committed."""
        try:
            return (self.out / "journal.jsonl").read_text().count("\n")
        except OSError:
            return 0

    def until_committed(self, shards: int) -> None:
        """Wait until so many shards are committed."""
        wait_until(
            lambda: self.lines >= shards or self._process.poll() is not None,
            f"{shards} shards of {self.out.name}",
            LIMIT_S,
        )
        if self._process.poll() is not None:
            raise Unexpected(f"{self.out.name} ended too early: {self.said()}")

    def until_staged_more(self) -> None:
        """Wait until one more source is finished, whether or not its turn has come."""
        staging = self.out / ".fleet"

        def finished() -> int:
            done = sum('"complete": true' in p.read_text() for p in staging.glob("*/manifest.json"))
            return done + self.lines

        before = finished()
        wait_until(lambda: finished() > before, "a source of another worker", LIMIT_S)

    def said(self) -> str:
        """Return the end of what the driver printed."""
        return self.log.read_text(errors="replace")[-3000:]

    def end(self, expected: int = 0) -> float:
        """Wait for the end, and return the time since the start.

        Raises:
            Unexpected: The exit status is another one.
        """
        status = self._process.wait(LIMIT_S)
        if status != expected:
            raise Unexpected(f"{self.out.name} ended with {status}, not {expected}: {self.said()}")
        return time.monotonic() - self.begun_s

    def status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill the driver; nothing of it is told."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def manifest(self) -> dict:
        """Return the manifest."""
        return json.loads((self.out / "manifest.json").read_text())
