"""Run a command of the set-up, and say at least every 5 s what it is doing and for how long.

    python tools/alive.py pip install ARGUMENT ...        pip of this Python, without its own lines
    python tools/alive.py "compiling messages" COMMAND ...

Warnings and errors of the command are printed as they are, and its exit status is this program's.
It needs the standard library alone: it runs before anything is installed.
"""

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from pathlib import Path

PERIOD_S = 5.0
MOST_LETTERS = 100
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-color")


class PipStep:
    """What pip is doing, by the lines that it prints."""

    def __init__(self, packages: Path):
        self._packages = packages  # the folder into which it installs
        self._before = self._installed()
        self._collected = 0
        self._installing = 0
        self._step = "starting"

    def read(self, line: str) -> None:
        """Take one line of pip's output."""
        if match := re.match(r"(?:Collecting|Processing) (\S+)", line):
            self._collected += 1
            self._step = f"package {self._collected}, {name_of(match[1])}"
        elif match := re.match(r"(Downloading|Using cached) (\S+)(?: \((.+)\))?", line.strip()):
            size = f" ({match[3]})" if match[3] else ""
            how = "downloading" if match[1] == "Downloading" else "from the cache:"
            self._step = f"package {self._collected}, {how} {name_of(match[2])}{size}"
        elif match := re.match(r"Building (?:editable|wheel) for (\S+)", line.strip()):
            self._step = f"building {name_of(match[1])}"
        elif match := re.match(r"Installing collected packages: (.+)", line):
            self._installing = match[1].count(",") + 1

    def text(self) -> str:
        """Return it as it is now."""
        if not self._installing:
            return self._step
        # While pip writes the packages it prints nothing.
        done = min(len(self._installed() - self._before), self._installing)
        return f"installing, {done} of {self._installing} packages"

    def _installed(self) -> set[str]:
        return {folder.name for folder in self._packages.glob("*.dist-info")}


def name_of(requirement: str) -> str:
    """Return the name in a requirement, or in the address or path of a file of one."""
    return re.split(r"[=<>~!;\[@ ]|-\d", requirement.rsplit("/", 1)[-1])[0]


class Alive:
    """Prints ``what`` with the step and the time so far, each ``period_s``, in a ``with`` block."""

    def __init__(self, what: str, step: PipStep | None = None, period_s: float = PERIOD_S):
        self._what = what
        self._step = step
        self._period_s = period_s
        self._begun_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Alive":
        self._thread.start()
        return self

    def __exit__(self, *raised) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._period_s):
            step = self._step.text() if self._step else ""
            text = f"{self._what}: {step}" if step else self._what
            so_far_s = time.monotonic() - self._begun_s
            print(f"  {text[:MOST_LETTERS]}; {so_far_s:.0f} s so far", flush=True)


def run(words: list[str], period_s: float = PERIOD_S) -> int:
    """Run pip, or another command, and return its exit status."""
    if words[0] != "pip":
        with Alive(words[0], period_s=period_s):
            return status_of(subprocess.Popen(words[1:]))
    step = PipStep(Path(sysconfig.get_path("purelib")))
    process = subprocess.Popen(
        [*PIP, *words[1:]],
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with Alive("pip", step, period_s):
        read_all(step, process.stdout or ())
        return status_of(process)


def read_all(step: PipStep, lines: Iterable[str]) -> None:
    """Give every line to ``step``, until there are no more."""
    try:
        for line in lines:
            step.read(line)
    except KeyboardInterrupt:  # the child has received it as well, and ends
        pass


def status_of(process: subprocess.Popen) -> int:
    """Wait for ``process``, and return its exit status as a shell has it."""
    while True:
        try:
            status = process.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
